// open(2): its flags, its rights, files without a name.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "cases.h"

static void Creates(void) {
  umask(027);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0666));
  umask(0);
  IS(0640, Mode("file"));
  IS(1, Stat("file").st_nlink);
  IS(0, Stat("file").st_size);
  IS(5, write(fd, "12345", 5));
  // A second open with O_CREAT changes nothing.
  OK(open("file", O_CREAT | O_RDONLY, 0777));
  IS(0640, Mode("file"));
  HasText("file", "12345");
  close(fd);
}

static void ModeZero(void) {
  As(kUser, kGroup);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0));
  IS(1, write(fd, "x", 1));
  char byte = 0;
  IS(1, pread(fd, &byte, 1, 0));
  FAILS(EACCES, open("file", O_RDONLY));
  IS(kUser, Stat("file").st_uid);
  IS(kGroup, Stat("file").st_gid);
}

static void Exclusive(void) {
  OK(open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
  FAILS(EEXIST, open("file", O_CREAT | O_EXCL | O_WRONLY, 0644));
  OK(symlink("nothing", "dangling"));
  FAILS(EEXIST, open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0644));
  // Without O_EXCL it is made where the link leads.
  OK(open("dangling", O_CREAT | O_WRONLY, 0644));
  OK(access("nothing", F_OK));
}

static void Truncates(void) {
  Make("file", "something", 0644);
  OK(open("file", O_WRONLY | O_TRUNC));
  IS(0, Stat("file").st_size);
  Make("closed", "something", 0444);
  As(kUser, kGroup);
  FAILS(EACCES, open("closed", O_RDONLY | O_TRUNC));
  HasText("closed", "something");
}

static void Appends(void) {
  Make("file", "abc", 0644);
  const int fd = OK(open("file", O_RDWR | O_APPEND));
  IS(3, write(fd, "def", 3));
  OK(lseek(fd, 0, SEEK_SET));
  IS(3, write(fd, "ghi", 3));
  IS(9, lseek(fd, 0, SEEK_CUR));
  // What others write in between stays.
  const int other = OK(open("file", O_WRONLY | O_APPEND));
  IS(1, write(other, "1", 1));
  IS(1, write(fd, "2", 1));
  HasText("file", "abcdefghi12");
  // Linux: O_APPEND goes before the offset of pwrite.
  IS(1, pwrite(fd, "3", 1, 0));
  HasText("file", "abcdefghi123");
  // O_APPEND can be taken away and given later.
  OK(fcntl(fd, F_SETFL, 0));
  IS(1, pwrite(fd, "A", 1, 0));
  OK(fcntl(other, F_SETFL, 0));
  OK(lseek(other, 1, SEEK_SET));
  OK(fcntl(other, F_SETFL, O_APPEND));
  IS(1, write(other, "4", 1));
  HasText("file", "Abcdefghi1234");
}

static void Directories(void) {
  MakeDir("dir", 0755);
  Touch("file");
  OK(open("dir", O_RDONLY));
  OK(open("dir", O_RDONLY | O_DIRECTORY));
  FAILS(EISDIR, open("dir", O_WRONLY));
  FAILS(EISDIR, open("dir", O_RDWR));
  FAILS(EISDIR, open("dir", O_RDONLY | O_CREAT, 0644));
  FAILS(EISDIR, open("dir", O_WRONLY | O_TRUNC));
  FAILS(ENOTDIR, open("file", O_RDONLY | O_DIRECTORY));
  const int fd = OK(open("dir", O_RDONLY));
  char byte;
  FAILS(EISDIR, read(fd, &byte, 1));
  FAILS(EBADF, write(fd, "x", 1));
  FAILS(EINVAL, ftruncate(fd, 0));
}

static void NoFollow(void) {
  Touch("file");
  OK(symlink("file", "link"));
  FAILS(ELOOP, open("link", O_RDONLY | O_NOFOLLOW));
  OK(open("file", O_RDONLY | O_NOFOLLOW));
  const int fd = OK(open("link", O_PATH | O_NOFOLLOW));
  char text[16] = "";
  IS(4, readlinkat(fd, "", text, sizeof(text)));
  struct stat status;
  OK(fstat(fd, &status));
  TRUE_(S_ISLNK(status.st_mode));
}

static void Special(void) {
  OK(mkfifo("fifo", 0666));
  FAILS(ENXIO, open("fifo", O_WRONLY | O_NONBLOCK));
  const int reader = OK(open("fifo", O_RDONLY | O_NONBLOCK));
  const int writer = OK(open("fifo", O_WRONLY | O_NONBLOCK));
  char text[8] = "";
  IS(3, write(writer, "abc", 3));
  IS(3, read(reader, text, sizeof(text)));
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  const int server = socket(AF_UNIX, SOCK_STREAM, 0);
  OK(bind(server, (struct sockaddr*)&address, sizeof(address)));
  OK(listen(server, 1));
  TRUE_(S_ISSOCK(Stat("socket").st_mode));
  FAILS(ENXIO, open("socket", O_RDONLY));
  OK(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr*)&address, sizeof(address)));
  FAILS(EADDRINUSE, bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr*)&address, sizeof(address)));
}

// Who may do what by the bits of his class alone.
static void Rights(void) {
  static const struct { unsigned user, group, member; int shift; } kClasses[] = {
      {kUser, kOtherGroup, 0, 6}, {kOther, kGroup, 0, 3}, {kOther, kOtherGroup, kGroup, 3}, {kOther, kOtherGroup, 0, 0}};
  static const struct { int flags; unsigned needed; } kOpens[] = {
      {O_RDONLY, 4}, {O_WRONLY, 2}, {O_RDWR, 6}, {O_RDONLY | O_TRUNC, 6}, {O_WRONLY | O_APPEND, 2}};
  Touch("file");
  OK(chown("file", kUser, kGroup));
  for (size_t who = 0; who < 4; ++who) {
    for (unsigned bits = 0; bits < 8; ++bits) {
      AsRoot();
      OK(chmod("file", bits << kClasses[who].shift));
      if (kClasses[who].member) AsMember(kClasses[who].user, kClasses[who].group, kClasses[who].member);
      else As(kClasses[who].user, kClasses[who].group);
      for (size_t i = 0; i < sizeof(kOpens) / sizeof(kOpens[0]); ++i) {
        const int wanted = (bits & kOpens[i].needed) == kOpens[i].needed ? 0 : EACCES;
        char what[64];
        snprintf(what, sizeof(what), "class %zu, bits %u, flags %o", who, bits, kOpens[i].flags);
        const int fd = open("file", kOpens[i].flags);
        CheckError(fd, wanted, what);
        if (fd >= 0) close(fd);
      }
    }
  }
}

static void Unnamed(void) {
  const int fd = OK(open(".", O_TMPFILE | O_RDWR, 0640));
  IS(5, write(fd, "12345", 5));
  struct stat status;
  OK(fstat(fd, &status));
  IS(0, status.st_nlink);
  IS(0640, status.st_mode & 07777);
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  HasText("named", "12345");
  IS(1, Stat("named").st_nlink);
  IS(status.st_ino, Stat("named").st_ino);
}

static void UnnamedForever(void) {
  const int fd = OK(open(".", O_TMPFILE | O_EXCL | O_RDWR, 0640));
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  FAILS(ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
  FAILS(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0640));
}

// A file goes on without its name.
static void Unlinked(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(3, write(fd, "abc", 3));
  OK(unlink("file"));
  struct stat status;
  OK(fstat(fd, &status));
  IS(0, status.st_nlink);
  IS(3, pwrite(fd, "def", 3, 3));
  char text[8] = "";
  IS(6, pread(fd, text, 6, 0));
  OK(ftruncate(fd, 2));
  OK(fchmod(fd, 0600));
  OK(fchown(fd, kUser, kGroup));
  OK(futimens(fd, (struct timespec[]){{.tv_sec = 1}, {.tv_sec = 2}}));
  OK(fstat(fd, &status));
  IS(2, status.st_size);
  IS(2, status.st_mtime);
  IS(kUser, status.st_uid);
  IS(0600, status.st_mode & 07777);
  OK(fsync(fd));
  // A new file of that name is another one.
  Make("file", "new", 0644);
  IS(2, pread(fd, text, 8, 0));
  TRUE_(text[0] == 'a');
}

static void UnlinkedReopened(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(3, write(fd, "abc", 3));
  OK(unlink("file"));
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  const int again = OK(open(path, O_RDWR));
  char text[8] = "";
  IS(3, read(again, text, 8));
  close(fd);
  IS(3, pwrite(again, "xyz", 3, 0));
}

static void ReplacedWhileOpen(void) {
  Make("old", "old", 0644);
  Make("new", "new", 0644);
  const int fd = OK(open("old", O_RDWR));
  OK(rename("new", "old"));
  char text[8] = "";
  IS(3, read(fd, text, 8));
  CheckText("old", text, __LINE__, "what was open");
  HasText("old", "new");
  struct stat status;
  OK(fstat(fd, &status));
  IS(0, status.st_nlink);
}

static void PathOnly(void) {
  Make("file", "abc", 0600);
  As(kUser, kGroup);
  const int fd = OK(open("file", O_PATH));
  char byte;
  FAILS(EBADF, read(fd, &byte, 1));
  FAILS(EBADF, fchmod(fd, 0777));
  struct stat status;
  OK(fstat(fd, &status));
  IS(3, status.st_size);
}

static void NoAtime(void) {
  Make("file", "abc", 0666);
  OK(open("file", O_RDONLY | O_NOATIME));
  As(kUser, kGroup);
  FAILS(EPERM, open("file", O_RDONLY | O_NOATIME));
}

static void Direct(void) {
  void* page = NULL;
  IS(0, posix_memalign(&page, 4096, 8192));
  memset(page, 'd', 8192);
  const int fd = OK(open("file", O_CREAT | O_RDWR | O_DIRECT, 0644));
  IS(8192, write(fd, page, 8192));
  memset(page, 0, 8192);
  IS(4096, pread(fd, page, 4096, 4096));
  TRUE_(((char*)page)[4095] == 'd');
  const int cached = OK(open("file", O_RDWR));
  char byte = 0;
  IS(1, pwrite(cached, "c", 1, 0));
  OK(fsync(cached));
  IS(4096, pread(fd, page, 4096, 0));
  TRUE_(((char*)page)[0] == 'c');
  memset(page, 'e', 4096);
  IS(4096, pwrite(fd, page, 4096, 0));
  IS(1, pread(cached, &byte, 1, 0));
  IS('e', byte);
}

static void Synchronous(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR | O_SYNC, 0644));
  IS(3, write(fd, "abc", 3));
  const int other = OK(open("file", O_RDWR | O_DSYNC));
  IS(3, pwrite(other, "def", 3, 3));
  HasText("file", "abcdef");
}

static void CopySelf(const char* to) {
  char buffer[65536];
  const int from = open("/proc/self/exe", O_RDONLY);
  const int into = open(to, O_CREAT | O_WRONLY | O_EXCL, 0755);
  ssize_t got;
  while ((got = read(from, buffer, sizeof(buffer))) > 0) IS(got, write(into, buffer, (size_t)got));
  close(from);
  close(into);
}

static void Executes(void) {
  // Without arguments the program ends with status 2.
  execl("./program", "program", (char*)NULL);
  _exit(errno == EACCES ? 77 : errno == ETXTBSY ? 78 : 79);
}

static int ExecStatus(void) {
  const pid_t child = fork();
  if (child == 0) Executes();
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

static void Execution(void) {
  CopySelf("program");
  IS(2, ExecStatus());
  OK(chmod("program", 0644));
  IS(77, ExecStatus());
  OK(chmod("program", 0711));
  As(kUser, kGroup);
  IS(2, ExecStatus());
  AsRoot();
  const int fd = OK(open("program", O_WRONLY));
  IS(78, ExecStatus());
  close(fd);
  IS(2, ExecStatus());
}

const struct Case open_cases[] = {
    {"open.creates", Creates},
    {"open.mode_zero", ModeZero},
    {"open.exclusive", Exclusive},
    {"open.truncates", Truncates},
    {"open.appends", Appends},
    {"open.directories", Directories},
    {"open.no_follow", NoFollow},
    {"open.special", Special},
    {"open.rights", Rights},
    {"open.unnamed", Unnamed},
    {"open.unnamed_forever", UnnamedForever},
    {"open.unlinked", Unlinked},
    {"open.unlinked_reopened", UnlinkedReopened},
    {"open.replaced", ReplacedWhileOpen},
    {"open.path_only", PathOnly},
    {"open.no_atime", NoAtime},
    {"open.direct", Direct},
    {"open.synchronous", Synchronous},
    {"open.execution", Execution},
    {NULL, NULL},
};
