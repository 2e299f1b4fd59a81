// Users, groups, sticky and set-group-id directories.
#include <dirent.h>
#include <sys/wait.h>

#include "cases.h"

static void Owners(void) {
  As(kUser, kGroup);
  OK(Touch("file"));
  OK(mkdir("dir", 0755));
  OK(symlink("x", "link"));
  OK(mkfifo("fifo", 0644));
  static const char* const kNames[] = {"file", "dir", "link", "fifo"};
  for (int i = 0; i < 4; ++i) {
    IS(kUser, Stat(kNames[i]).st_uid);
    IS(kGroup, Stat(kNames[i]).st_gid);
  }
}

// What is made below a set-group-id directory has its group, and directories the bit.
static void SetGroupDirectory(void) {
  MakeDir("dir", 02777);
  OK(chown("dir", 0, kShared));
  IS(02777, Mode("dir"));
  As(kUser, kGroup);
  OK(Touch("dir/file"));
  OK(mkdir("dir/sub", 0755));
  OK(symlink("x", "dir/link"));
  OK(mkfifo("dir/fifo", 0644));
  IS(kShared, Stat("dir/file").st_gid);
  IS(0644, Mode("dir/file"));
  IS(kShared, Stat("dir/sub").st_gid);
  IS(02755, Mode("dir/sub"));
  IS(kShared, Stat("dir/link").st_gid);
  IS(kShared, Stat("dir/fifo").st_gid);
  IS(kUser, Stat("dir/sub").st_uid);
  OK(Touch("dir/sub/file"));
  IS(kShared, Stat("dir/sub/file").st_gid);
}

// A set-group-id program of that group is for its members to make.
static void SetGroupPrograms(void) {
  MakeDir("dir", 02777);
  OK(chown("dir", 0, kShared));
  As(kUser, kGroup);
  OK(open("dir/stranger", O_CREAT | O_WRONLY, 02755));
  IS(0755, Mode("dir/stranger"));
  AsMember(kUser, kGroup, kShared);
  OK(open("dir/member", O_CREAT | O_WRONLY, 02755));
  IS(02755, Mode("dir/member"));
  AsRoot();
  OK(open("dir/root", O_CREAT | O_WRONLY, 02755));
  IS(02755, Mode("dir/root"));
}

// Write permission by a supplementary group is as good as any.
static void Supplementary(void) {
  MakeDir("dir", 0770);
  OK(chown("dir", 0, kShared));
  Make("dir/there", "text", 0660);
  OK(chown("dir/there", 0, kShared));
  As(kUser, kGroup);
  FAILS(EACCES, open("dir/file", O_CREAT | O_WRONLY, 0644));
  AsMember(kUser, kGroup, kShared);
  OK(Touch("dir/file"));
  IS(kUser, Stat("dir/file").st_uid);
  IS(kGroup, Stat("dir/file").st_gid);
  OK(mkdir("dir/sub", 0755));
  IS(kUser, Stat("dir/sub").st_uid);
  OK(symlink("x", "dir/link"));
  OK(mkfifo("dir/fifo", 0644));
  OK(link("dir/file", "dir/file2"));
  OK(rename("dir/file2", "dir/file3"));
  OK(open("dir/there", O_RDWR));
  OK(open("dir", O_TMPFILE | O_RDWR, 0600));
  OK(unlink("dir/there"));
}

// In a sticky directory only the owners of a name or of the directory may take it away.
static void Sticky(void) {
  static const struct { unsigned dir_owner, file_owner; int error; } kTable[] = {
      {0, 0, EPERM}, {0, kUser, 0}, {0, kOther, EPERM}, {kUser, 0, 0}, {kUser, kOther, 0}, {kOther, kOther, EPERM}};
  for (size_t i = 0; i < sizeof(kTable) / sizeof(kTable[0]); ++i) {
    AsRoot();
    MakeDir("tmp", 01777);
    MakeDir("own", 0777);
    OK(chown("tmp", kTable[i].dir_owner, 0));
    static const char* const kNames[] = {"tmp/a", "tmp/b", "tmp/c"};
    for (int k = 0; k < 3; ++k) {
      Make(kNames[k], "", 0666);
      OK(chown(kNames[k], kTable[i].file_owner, 0));
    }
    MakeDir("tmp/dir", 0777);
    OK(chown("tmp/dir", kTable[i].file_owner, 0));
    As(kUser, kGroup);
    OK(Touch("own/new"));
    char what[32];
    snprintf(what, sizeof(what), "sticky entry %zu", i);
    CheckError(unlink("tmp/a"), kTable[i].error, what);
    CheckError(rename("tmp/b", "tmp/b2"), kTable[i].error, what);
    CheckError(rename("own/new", "tmp/c"), kTable[i].error, what);
    CheckError(rmdir("tmp/dir"), kTable[i].error, what);
    AsRoot();
    if (system("rm -r tmp own") != 0) CheckError(-1, 0, "rm");
  }
}

static void DirectoryRights(void) {
  MakeDir("listed", 0744);
  MakeDir("passed", 0711);
  Make("listed/file", "text", 0666);
  Make("passed/file", "text", 0666);
  As(kUser, kGroup);
  DIR* const listed = opendir("listed");
  TRUE_(listed != NULL);
  TRUE_(listed != NULL && readdir(listed) != NULL);
  FAILS(EACCES, open("listed/file", O_RDONLY));
  HasText("passed/file", "text");
  TRUE_(opendir("passed") == NULL && errno == EACCES);
  FAILS(EACCES, chdir("listed"));
  OK(chdir("passed"));
}

// Moving a directory to another parent changes its "..", for which it has to be writable.
static void MovingDirectories(void) {
  MakeDir("a", 0777);
  MakeDir("b", 0777);
  MakeDir("a/theirs", 0755);
  As(kUser, kGroup);
  OK(mkdir("a/mine", 0755));
  OK(rename("a/mine", "b/mine"));
  OK(rename("a/theirs", "a/still_theirs"));
  FAILS(EACCES, rename("a/still_theirs", "b/theirs"));
}

static void Root(void) {
  Make("file", "text", 0);
  OK(chown("file", kUser, kGroup));
  MakeDir("dir", 0);
  OK(chown("dir", kUser, kGroup));
  HasText("file", "text");
  OK(open("file", O_RDWR));
  OK(Touch("dir/file"));
  IS(0, Stat("dir/file").st_uid);
  OK(unlink("dir/file"));
}

static void RunAsOwner(void) {
  if (execl("./program", "program", "--owner", (char*)NULL) != 0) _exit(9);
}

// A set-user-id program runs as its owner.
static void SetUserProgram(void) {
  char buffer[65536];
  const int from = open("/proc/self/exe", O_RDONLY);
  const int to = OK(open("program", O_CREAT | O_WRONLY, 0755));
  ssize_t got;
  while ((got = read(from, buffer, sizeof(buffer))) > 0) IS(got, write(to, buffer, (size_t)got));
  close(to);
  OK(chown("program", kOther, kOtherGroup));
  OK(chmod("program", 04755));
  As(kUser, kGroup);
  const pid_t child = fork();
  if (child == 0) RunAsOwner();
  int status = 0;
  waitpid(child, &status, 0);
  // See main(): 40 and the last digit of the effective user.
  IS(40 + kOther % 10, WEXITSTATUS(status));
}

const struct Case user_cases[] = {
    {"user.owners", Owners},           {"user.set_group_directory", SetGroupDirectory}, {"user.set_group_programs", SetGroupPrograms},
    {"user.supplementary", Supplementary}, {"user.sticky", Sticky},                     {"user.directory_rights", DirectoryRights},
    {"user.moving_directories", MovingDirectories}, {"user.root", Root},                {"user.set_user_program", SetUserProgram},
    {NULL, NULL},
};
