// chmod, chown, truncate, statvfs, statx, access: what a file is.
#include <signal.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "cases.h"

static void ChangesMode(void) {
  Make("file", "", 0644);
  MakeDir("dir", 0755);
  OK(symlink("file", "link"));
  for (mode_t mode = 0; mode <= 07777; mode = mode * 2 + 1) {
    OK(chmod("file", mode));
    IS(mode, Mode("file"));
    OK(chmod("dir", mode));
    IS(mode, Mode("dir"));
  }
  OK(chmod("link", 0600));
  IS(0600, Mode("file"));
  IS(0777, Mode("link"));
  const int fd = OK(open("file", O_RDONLY));
  OK(fchmod(fd, 0444));
  IS(0444, Mode("file"));
  OK(mkfifo("fifo", 0644));
  OK(chmod("fifo", 0600));
  IS(0600, Mode("fifo"));
}

static void ModeOfOthers(void) {
  Make("file", "", 0644);
  As(kUser, kGroup);
  FAILS(EPERM, chmod("file", 0777));
  const int fd = OK(open("file", O_RDONLY));
  FAILS(EPERM, fchmod(fd, 0777));
  Make("mine", "", 0644);
  OK(chmod("mine", 04755));
  IS(04755, Mode("mine"));
  AsMember(kOther, kOtherGroup, kGroup);
  FAILS(EPERM, chmod("mine", 0777));
}

// The set-group-id bit is for members of the group.
static void ModeOfForeignGroup(void) {
  Make("file", "", 0644);
  OK(chown("file", kUser, kShared));
  As(kUser, kGroup);
  OK(chmod("file", 02755));
  IS(0755, Mode("file"));
  AsMember(kUser, kGroup, kShared);
  OK(chmod("file", 02755));
  IS(02755, Mode("file"));
}

static void ChangesOwner(void) {
  Make("file", "", 0644);
  OK(symlink("file", "link"));
  OK(chown("link", kUser, kGroup));
  IS(kUser, Stat("file").st_uid);
  IS(kGroup, Stat("file").st_gid);
  IS(0, Stat("link").st_uid);
  OK(lchown("link", kOther, kOtherGroup));
  IS(kOther, Stat("link").st_uid);
  IS(kUser, Stat("file").st_uid);
  OK(chown("file", (uid_t)-1, kOtherGroup));
  IS(kUser, Stat("file").st_uid);
  IS(kOtherGroup, Stat("file").st_gid);
  OK(chown("file", 0, (gid_t)-1));
  IS(0, Stat("file").st_uid);
  IS(kOtherGroup, Stat("file").st_gid);
  OK(mkfifo("fifo", 0644));
  OK(chown("fifo", kUser, kGroup));
  IS(kUser, Stat("fifo").st_uid);
}

static void OwnerByUsers(void) {
  Make("file", "", 0666);
  Make("mine", "", 0644);
  OK(chown("mine", kUser, kGroup));
  AsMember(kUser, kGroup, kShared);
  FAILS(EPERM, chown("file", kUser, (gid_t)-1));
  FAILS(EPERM, chown("file", (uid_t)-1, kGroup));
  FAILS(EPERM, chown("mine", kOther, (gid_t)-1));
  FAILS(EPERM, chown("mine", (uid_t)-1, kOtherGroup));
  OK(chown("mine", kUser, kShared));
  IS(kShared, Stat("mine").st_gid);
  OK(chown("mine", (uid_t)-1, kGroup));
  OK(chown("mine", (uid_t)-1, (gid_t)-1));
}

// A change of owner takes the set-id bits of a program away.
static void OwnerClearsSetId(void) {
  Make("file", "", 06755);
  OK(chown("file", kUser, kGroup));
  IS(0755, Mode("file"));
  OK(chmod("file", 06755));
  AsMember(kUser, kGroup, kShared);
  OK(chown("file", (uid_t)-1, kShared));
  IS(0755, Mode("file"));
  AsRoot();
  // Without the group's x it is no set-group-id program.
  OK(chmod("file", 06745));
  OK(chown("file", kOther, kOtherGroup));
  IS(02745, Mode("file"));
  MakeDir("dir", 06755);
  OK(chown("dir", kUser, kGroup));
  IS(06755, Mode("dir"));
}

static void WriteClearsSetId(void) {
  Make("file", "abc", 0777);
  OK(chown("file", kUser, kGroup));
  OK(chmod("file", 06777));
  As(kOther, kOtherGroup);
  const int fd = OK(open("file", O_WRONLY));
  IS(06777, Mode("file"));
  IS(1, write(fd, "x", 1));
  IS(0777, Mode("file"));
  struct stat status;
  OK(fstat(fd, &status));
  IS(0777, status.st_mode & 07777);
}

static void TruncateClearsSetId(void) {
  Make("file", "abc", 0777);
  OK(chmod("file", 06777));
  As(kOther, kOtherGroup);
  OK(truncate("file", 1));
  IS(0777, Mode("file"));
  AsRoot();
  OK(chmod("file", 06777));
  As(kOther, kOtherGroup);
  OK(open("file", O_WRONLY | O_TRUNC));
  IS(0777, Mode("file"));
}

static void FallocateClearsSetId(void) {
  Make("file", "abc", 0777);
  OK(chmod("file", 06777));
  As(kOther, kOtherGroup);
  const int fd = OK(open("file", O_WRONLY));
  OK(fallocate(fd, 0, 0, 4096));
  IS(0777, Mode("file"));
}

static void RootKeepsSetId(void) {
  Make("file", "abc", 0644);
  OK(chmod("file", 06755));
  const int fd = OK(open("file", O_WRONLY));
  IS(1, write(fd, "x", 1));
  IS(06755, Mode("file"));
  OK(ftruncate(fd, 10));
  IS(06755, Mode("file"));
}

static void Truncates(void) {
  Make("file", "0123456789", 0644);
  OK(truncate("file", 4));
  HasText("file", "0123");
  OK(truncate("file", 8));
  IS(8, Stat("file").st_size);
  char text[8];
  const int fd = OK(open("file", O_RDWR));
  IS(8, read(fd, text, 8));
  IS(0, memcmp(text, "0123\0\0\0\0", 8));
  OK(ftruncate(fd, 0));
  IS(0, Stat("file").st_size);
  // The offset stays, and what lies before it reads as zeros.
  IS(1, write(fd, "x", 1));
  IS(9, Stat("file").st_size);
  OK(truncate("file", 1LL << 40));
  IS(1LL << 40, Stat("file").st_size);
  TRUE_(Stat("file").st_blocks < 1000);
}

static void TruncateErrors(void) {
  Make("file", "text", 0444);
  MakeDir("dir", 0777);
  FAILS(EINVAL, truncate("file", -1));
  FAILS(EISDIR, truncate("dir", 0));
  OK(mkfifo("fifo", 0666));
  FAILS(EINVAL, truncate("fifo", 0));
  const int fd = OK(open("file", O_RDONLY));
  FAILS(EINVAL, ftruncate(fd, 0));
  As(kUser, kGroup);
  FAILS(EACCES, truncate("file", 0));
  HasText("file", "text");
}

// A descriptor that may write goes on doing so, whatever becomes of the mode.
static void TruncatesOpened(void) {
  As(kUser, kGroup);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0444));
  OK(ftruncate(fd, 100));
  IS(100, Stat("file").st_size);
  OK(chmod("file", 0));
  OK(ftruncate(fd, 50));
  IS(5, write(fd, "12345", 5));
}

static void SizeLimit(void) {
  signal(SIGXFSZ, SIG_IGN);
  const struct rlimit limit = {10000, RLIM_INFINITY};
  OK(setrlimit(RLIMIT_FSIZE, &limit));
  static char data[8192];
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(8192, write(fd, data, 8192));
  IS(10000 - 8192, write(fd, data, 8192));
  FAILS(EFBIG, write(fd, data, 1));
  FAILS(EFBIG, ftruncate(fd, 10001));
  FAILS(EFBIG, truncate("file", 10001));
  FAILS(EFBIG, fallocate(fd, 0, 0, 10001));
  IS(10000, Stat("file").st_size);
}

static void Accesses(void) {
  Make("file", "", 0640);
  OK(chown("file", kUser, kGroup));
  OK(access("file", R_OK | W_OK));
  FAILS(EACCES, access("file", X_OK));
  OK(chmod("file", 0641));
  OK(access("file", X_OK));
  // access(2) asks for the real user, who is root here.
  As(kOther, kOtherGroup);
  OK(access("file", R_OK));
  FAILS(EACCES, faccessat(AT_FDCWD, "file", R_OK, AT_EACCESS));
  AsMember(kOther, kOtherGroup, kGroup);
  OK(faccessat(AT_FDCWD, "file", R_OK, AT_EACCESS));
  FAILS(EACCES, faccessat(AT_FDCWD, "file", W_OK, AT_EACCESS));
}

static void Statx(void) {
  Make("file", "12345", 0640);
  struct statx extended;
  OK(statx(AT_FDCWD, "file", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &extended));
  const struct stat status = Stat("file");
  IS(status.st_ino, extended.stx_ino);
  IS(status.st_size, extended.stx_size);
  IS(status.st_mode, extended.stx_mode);
  IS(status.st_blocks, extended.stx_blocks);
  IS(status.st_mtim.tv_nsec, extended.stx_mtime.tv_nsec);
  IS(status.st_dev, makedev(extended.stx_dev_major, extended.stx_dev_minor));
  TRUE_(status.st_blksize >= 512);
  OK(statx(AT_FDCWD, "file", AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &extended));
}

static void Birth(void) {
  Make("file", "", 0640);
  struct statx first, second;
  OK(statx(AT_FDCWD, "file", 0, STATX_BTIME, &first));
  TRUE_(first.stx_mask & STATX_BTIME);
  Tick();
  OK(truncate("file", 10));
  OK(rename("file", "moved"));
  OK(statx(AT_FDCWD, "moved", 0, STATX_BTIME | STATX_CTIME, &second));
  IS(first.stx_btime.tv_nsec, second.stx_btime.tv_nsec);
  TRUE_(second.stx_ctime.tv_nsec != first.stx_btime.tv_nsec);
}

static void FileSystem(void) {
  struct statvfs status;
  OK(statvfs(".", &status));
  IS(255, status.f_namemax);
  TRUE_(status.f_bsize >= 512 && status.f_frsize >= 512);
  TRUE_(status.f_blocks > 0 && status.f_bfree <= status.f_blocks && status.f_bavail <= status.f_bfree);
  TRUE_(status.f_ffree <= status.f_files);
  const int fd = OK(open(".", O_RDONLY));
  OK(fstatvfs(fd, &status));
  TRUE_(status.f_blocks > 0);
}

const struct Case attribute_cases[] = {
    {"mode.changes", ChangesMode},
    {"mode.of_others", ModeOfOthers},
    {"mode.foreign_group", ModeOfForeignGroup},
    {"owner.changes", ChangesOwner},
    {"owner.by_users", OwnerByUsers},
    {"owner.clears_set_id", OwnerClearsSetId},
    {"set_id.write", WriteClearsSetId},
    {"set_id.truncate", TruncateClearsSetId},
    {"set_id.fallocate", FallocateClearsSetId},
    {"set_id.root_keeps", RootKeepsSetId},
    {"truncate.sizes", Truncates},
    {"truncate.errors", TruncateErrors},
    {"truncate.opened", TruncatesOpened},
    {"truncate.limit", SizeLimit},
    {"access.real_and_effective", Accesses},
    {"stat.statx", Statx},
    {"stat.birth", Birth},
    {"stat.file_system", FileSystem},
    {NULL, NULL},
};
