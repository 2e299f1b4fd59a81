// What changes which time, and utimensat(2).
#include <sys/mman.h>
#include <sys/xattr.h>

#include "cases.h"

#define AFTER(path, wanted, call)         \
  do {                                    \
    const struct stat before = Stat(path); \
    Tick();                               \
    OK(call);                             \
    CHANGED(wanted, path, &before);       \
  } while (0)

static void OfFiles(void) {
  Make("file", "abc", 0644);
  const int fd = OK(open("file", O_RDWR));
  AFTER("file", "mc", write(fd, "x", 1));
  AFTER("file", "mc", ftruncate(fd, 100));
  AFTER("file", "mc", truncate("file", 50));
  AFTER("file", "mc", close(open("file", O_WRONLY | O_TRUNC)));
  // Also when there is nothing to cut off.
  AFTER("file", "mc", close(open("file", O_WRONLY | O_TRUNC)));
  AFTER("file", "mc", fallocate(fd, 0, 0, 4096));
  AFTER("file", "c", chmod("file", 0600));
  AFTER("file", "c", chown("file", kUser, kGroup));
  AFTER("file", "c", link("file", "second"));
  AFTER("file", "c", rename("second", "third"));
  AFTER("file", "c", unlink("third"));
  AFTER("file", "", close(open("file", O_RDWR)));
  AFTER("file", "", write(fd, "", 0));
  AFTER("file", "", access("file", R_OK));
}

static void OfXattrs(void) {
  Make("file", "abc", 0644);
  AFTER("file", "c", setxattr("file", "user.a", "b", 1, 0));
  AFTER("file", "c", removexattr("file", "user.a"));
}

static void OfDirectories(void) {
  MakeDir("dir", 0755);
  MakeDir("from", 0755);
  Touch("file");
  AFTER("dir", "mc", Touch("dir/a"));
  AFTER("dir", "mc", mkdir("dir/b", 0755));
  AFTER("dir", "mc", symlink("x", "dir/c"));
  AFTER("dir", "mc", link("file", "dir/d"));
  AFTER("dir", "mc", mkfifo("dir/e", 0644));
  AFTER("dir", "mc", rename("dir/a", "dir/a2"));
  AFTER("dir", "mc", unlink("dir/a2"));
  AFTER("dir", "mc", rmdir("dir/b"));
  AFTER("dir", "mc", rename("dir/c", "from/c"));
  AFTER("from", "mc", rename("from/c", "dir/c"));
  AFTER("dir", "", close(open("dir/e", O_RDWR)));
  AFTER("dir", "", chmod("dir/d", 0600));
}

static void OfFailures(void) {
  Make("file", "abc", 0444);
  MakeDir("dir", 0755);
  Touch("dir/x");
  const struct stat file = Stat("file");
  const struct stat dir = Stat("dir");
  Tick();
  FAILS(EEXIST, mkdir("dir/x", 0755));
  FAILS(ENOTEMPTY, rmdir("dir"));
  FAILS(ENOENT, unlink("dir/y"));
  As(kUser, kGroup);
  FAILS(EACCES, truncate("file", 0));
  FAILS(EPERM, chmod("file", 0777));
  FAILS(EPERM, chown("file", kUser, kGroup));
  FAILS(EACCES, mkdir("dir/z", 0755));
  CHANGED("", "file", &file);
  CHANGED("", "dir", &dir);
}

static void OfReading(void) {
  Make("file", "abc", 0644);
  MakeDir("dir", 0755);
  Tick();
  // Older than the last change, so that relatime does not keep it.
  const struct timespec old[] = {{.tv_sec = 1000}, {.tv_nsec = UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, "file", old, 0));
  IS(1000, Stat("file").st_atime);
  char byte;
  const int fd = OK(open("file", O_RDONLY));
  IS(1, read(fd, &byte, 1));
  TRUE_(Stat("file").st_atime > 1000);
}

static void Mapped(void) {
  Make("file", "abc", 0644);
  const int fd = OK(open("file", O_RDWR));
  char* const map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  TRUE_(map != MAP_FAILED);
  if (map == MAP_FAILED) return;
  const struct stat before = Stat("file");
  Tick();
  map[0] = 'x';
  OK(msync(map, 4096, MS_SYNC));
  // Reading the page may count as well.
  const char* const changed = Changed("file", &before);
  TRUE_(strchr(changed, 'm') != NULL && strchr(changed, 'c') != NULL);
}

static void Sets(void) {
  Make("file", "", 0644);
  const struct timespec times[] = {{.tv_sec = 1234, .tv_nsec = 123456789}, {.tv_sec = 5678, .tv_nsec = 987654321}};
  const struct stat before = Stat("file");
  Tick();
  OK(utimensat(AT_FDCWD, "file", times, 0));
  CHANGED("amc", "file", &before);
  IS(1234, Stat("file").st_atime);
  IS(123456789, Stat("file").st_atim.tv_nsec);
  IS(5678, Stat("file").st_mtime);
  IS(987654321, Stat("file").st_mtim.tv_nsec);
  const struct timespec omit_access[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
  OK(utimensat(AT_FDCWD, "file", omit_access, 0));
  IS(1234, Stat("file").st_atime);
  IS(1, Stat("file").st_mtime);
  const struct timespec omit_change[] = {{.tv_sec = 2}, {.tv_nsec = UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, "file", omit_change, 0));
  IS(2, Stat("file").st_atime);
  IS(1, Stat("file").st_mtime);
  const struct timespec both[] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
  const struct stat same = Stat("file");
  Tick();
  OK(utimensat(AT_FDCWD, "file", both, 0));
  CHANGED("", "file", &same);
  const struct timespec bad[] = {{.tv_nsec = 1000000000}, {.tv_sec = 1}};
  FAILS(EINVAL, utimensat(AT_FDCWD, "file", bad, 0));
}

static void SetsNow(void) {
  Make("file", "", 0644);
  const struct timespec old[] = {{.tv_sec = 5}, {.tv_sec = 6}};
  OK(utimensat(AT_FDCWD, "file", old, 0));
  const struct timespec now[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
  OK(utimensat(AT_FDCWD, "file", now, 0));
  TRUE_(Stat("file").st_atime > 1000000);
  IS(6, Stat("file").st_mtime);
  OK(utimensat(AT_FDCWD, "file", NULL, 0));
  TRUE_(Stat("file").st_mtime > 1000000);
  const int fd = OK(open("file", O_RDONLY));
  OK(futimens(fd, old));
  IS(6, Stat("file").st_mtime);
}

static void FarTimes(void) {
  static const long long kTimes[] = {-1, -86400LL * 365 * 60, 0, 2147483647LL, 2147483648LL, 4294967296LL, 10000000000LL};
  Make("file", "", 0644);
  for (size_t i = 0; i < sizeof(kTimes) / sizeof(kTimes[0]); ++i) {
    const struct timespec times[] = {{.tv_sec = kTimes[i], .tv_nsec = 5}, {.tv_sec = kTimes[i], .tv_nsec = 6}};
    OK(utimensat(AT_FDCWD, "file", times, 0));
    IS(kTimes[i], Stat("file").st_atime);
    IS(kTimes[i], Stat("file").st_mtime);
    IS(6, Stat("file").st_mtim.tv_nsec);
  }
}

static void OfLinks(void) {
  Touch("file");
  OK(symlink("file", "link"));
  const struct timespec times[] = {{.tv_sec = 5}, {.tv_sec = 6}};
  OK(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW));
  IS(6, Stat("link").st_mtime);
  TRUE_(Stat("file").st_mtime != 6);
  OK(utimensat(AT_FDCWD, "link", times, 0));
  IS(6, Stat("file").st_mtime);
}

// Who may write may set the time to now; only the owner to anything else.
static void Rights(void) {
  const struct timespec times[] = {{.tv_sec = 5}, {.tv_sec = 6}};
  const struct timespec half[] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
  Make("writable", "", 0666);
  Make("readable", "", 0644);
  Make("mine", "", 0400);
  OK(chown("mine", kUser, kGroup));
  As(kUser, kGroup);
  OK(utimensat(AT_FDCWD, "writable", NULL, 0));
  FAILS(EPERM, utimensat(AT_FDCWD, "writable", times, 0));
  FAILS(EPERM, utimensat(AT_FDCWD, "writable", half, 0));
  FAILS(EACCES, utimensat(AT_FDCWD, "readable", NULL, 0));
  FAILS(EPERM, utimensat(AT_FDCWD, "readable", times, 0));
  OK(utimensat(AT_FDCWD, "mine", NULL, 0));
  OK(utimensat(AT_FDCWD, "mine", times, 0));
  IS(6, Stat("mine").st_mtime);
}

const struct Case time_cases[] = {
    {"time.files", OfFiles},       {"time.xattrs", OfXattrs}, {"time.directories", OfDirectories}, {"time.failures", OfFailures},
    {"time.reading", OfReading},   {"time.mapped", Mapped},   {"time.sets", Sets},                 {"time.now", SetsNow},
    {"time.far", FarTimes},        {"time.links", OfLinks},   {"time.rights", Rights},             {NULL, NULL},
};
