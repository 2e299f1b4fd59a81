// mkdir, rmdir, unlink, link, symlink, mknod.
#include <sys/sysmacros.h>

#include "cases.h"

static void MakesDirectories(void) {
  umask(022);
  OK(mkdir("dir", 0777));
  umask(0);
  IS(0755, Mode("dir"));
  IS(2, Stat("dir").st_nlink);
  IS(3, Stat(".").st_nlink);
  OK(mkdir("dir/sub", 0700));
  IS(3, Stat("dir").st_nlink);
  FAILS(EEXIST, mkdir(".", 0700));
  FAILS(EEXIST, mkdir("dir/..", 0700));
  OK(mkdir("sticky", 01777));
  IS(01777, Mode("sticky"));
  IS(Stat(".").st_ino, Stat("dir/..").st_ino);
}

static void RemovesDirectories(void) {
  MakeDir("dir", 0755);
  MakeDir("dir/sub", 0755);
  Touch("file");
  OK(symlink("dir", "link"));
  FAILS(ENOTEMPTY, rmdir("dir"));
  FAILS(ENOTEMPTY, rmdir("dir/sub/.."));
  FAILS(EINVAL, rmdir("dir/sub/."));
  FAILS(ENOTDIR, rmdir("file"));
  FAILS(ENOTDIR, rmdir("link"));
  OK(rmdir("dir/sub"));
  IS(2, Stat("dir").st_nlink);
  OK(rmdir("dir"));
  FAILS(ENOENT, rmdir("dir"));
}

static void RemovedDirectory(void) {
  MakeDir("dir", 0755);
  const int fd = OK(open("dir", O_RDONLY | O_DIRECTORY));
  OK(chdir("dir"));
  OK(rmdir("../dir"));
  FAILS(ENOENT, open("file", O_CREAT | O_WRONLY, 0644));
  FAILS(ENOENT, mkdir("sub", 0755));
  struct stat status;
  OK(fstat(fd, &status));
  IS(0, status.st_nlink);
  FAILS(ENOENT, mkdirat(fd, "sub", 0755));
  char path[64];
  TRUE_(getcwd(path, sizeof(path)) == NULL && errno == ENOENT);
  OK(chdir(".."));
}

static void Unlinks(void) {
  Touch("file");
  MakeDir("dir", 0755);
  OK(symlink("file", "link"));
  OK(mkfifo("fifo", 0644));
  FAILS(EISDIR, unlink("dir"));
  OK(unlink("link"));
  OK(access("file", F_OK));
  OK(unlink("fifo"));
  OK(unlink("file"));
  FAILS(ENOENT, unlink("file"));
}

static void Links(void) {
  Make("file", "text", 0640);
  OK(link("file", "second"));
  IS(2, Stat("file").st_nlink);
  IS(Stat("file").st_ino, Stat("second").st_ino);
  OK(link("second", "third"));
  IS(3, Stat("file").st_nlink);
  OK(chmod("third", 0600));
  IS(0600, Mode("file"));
  OK(truncate("second", 2));
  HasText("third", "te");
  OK(unlink("file"));
  IS(2, Stat("second").st_nlink);
  OK(unlink("second"));
  IS(1, Stat("third").st_nlink);
  HasText("third", "te");
}

static void LinksOfOtherTypes(void) {
  MakeDir("dir", 0755);
  FAILS(EPERM, link("dir", "hard"));
  OK(mkfifo("fifo", 0644));
  OK(link("fifo", "fifo2"));
  IS(2, Stat("fifo").st_nlink);
  // Linux: the link itself, unless asked to follow it.
  Touch("file");
  OK(symlink("file", "link"));
  OK(link("link", "link2"));
  TRUE_(S_ISLNK(Stat("link2").st_mode));
  OK(linkat(AT_FDCWD, "link", AT_FDCWD, "file2", AT_SYMLINK_FOLLOW));
  TRUE_(S_ISREG(Stat("file2").st_mode));
  FAILS(EXDEV, link("/proc/version", "version"));
}

static void LinkCountsWhileOpen(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  struct stat status;
  OK(link("file", "other"));
  OK(fstat(fd, &status));
  IS(2, status.st_nlink);
  OK(unlink("file"));
  OK(fstat(fd, &status));
  IS(1, status.st_nlink);
  OK(rename("other", "more"));
  OK(unlink("more"));
  OK(fstat(fd, &status));
  IS(0, status.st_nlink);
}

static void SymbolicLinks(void) {
  static char target[4200];
  char text[4200] = "";
  OK(symlink("some/where", "link"));
  IS(10, readlink("link", text, sizeof(text)));
  IS(10, Stat("link").st_size);
  IS(0777, Mode("link"));
  IS(4, readlink("link", text, 4));
  FAILS(EINVAL, readlink(".", text, sizeof(text)));
  FAILS(ENOENT, symlink("", "empty"));
  memset(target, 't', sizeof(target));
  target[4096] = '\0';
  FAILS(ENAMETOOLONG, symlink(target, "long"));
  target[4000] = '\0';
  OK(symlink(target, "long"));
  IS(4000, readlink("long", text, sizeof(text)));
  IS(0, memcmp(text, target, 4000));
  OK(lchown("link", kUser, kGroup));
  IS(kUser, Stat("link").st_uid);
  As(kOther, kOtherGroup);
  OK(symlink("x", "mine"));
  IS(kOther, Stat("mine").st_uid);
}

static void FollowedLinks(void) {
  MakeDir("dir", 0755);
  Make("dir/file", "text", 0644);
  OK(symlink("dir", "link"));
  OK(symlink("link/../dir/file", "link2"));
  HasText("link/file", "text");
  HasText("link2", "text");
  char path[64];
  // 40 links one after the other are the most.
  OK(symlink("dir/file", "chain0"));
  for (int i = 1; i < 41; ++i) {
    char from[16];
    snprintf(from, sizeof(from), "chain%d", i - 1);
    snprintf(path, sizeof(path), "chain%d", i);
    OK(symlink(from, path));
  }
  HasText("chain39", "text");
  FAILS(ELOOP, open("chain40", O_RDONLY));
}

static void Nodes(void) {
  umask(022);
  OK(mknod("file", S_IFREG | 0666, 0));
  OK(mkfifo("fifo", 0666));
  OK(mknod("socket", S_IFSOCK | 0666, 0));
  umask(0);
  IS(S_IFREG | 0644, Stat("file").st_mode);
  IS(S_IFIFO | 0644, Stat("fifo").st_mode);
  IS(S_IFSOCK | 0644, Stat("socket").st_mode);
  FAILS(EPERM, mknod("dir", S_IFDIR | 0755, 0));
  As(kUser, kGroup);
  OK(mkfifo("mine", 0600));
  IS(kUser, Stat("mine").st_uid);
  FAILS(EPERM, mknod("device", S_IFCHR | 0600, makedev(1, 3)));
}

static void Devices(void) {
  OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
  IS(makedev(1, 3), Stat("null").st_rdev);
  const int fd = OK(open("null", O_RDWR));
  IS(3, write(fd, "abc", 3));
  OK(mknod("disk", S_IFBLK | 0600, makedev(259, 70000)));
  IS(makedev(259, 70000), Stat("disk").st_rdev);
}

static void InodeNumbers(void) {
  Touch("a");
  Touch("b");
  const ino_t a = Stat("a").st_ino;
  TRUE_(a != Stat("b").st_ino);
  IS(Stat(".").st_dev, Stat("a").st_dev);
  OK(rename("a", "c"));
  IS(a, Stat("c").st_ino);
  MakeDir("dir", 0755);
  OK(rename("c", "dir/c"));
  IS(a, Stat("dir/c").st_ino);
}

const struct Case name_cases[] = {
    {"name.mkdir", MakesDirectories},   {"name.rmdir", RemovesDirectories},
    {"name.removed_directory", RemovedDirectory}, {"name.unlink", Unlinks},
    {"name.link", Links},               {"name.link_types", LinksOfOtherTypes},
    {"name.link_counts", LinkCountsWhileOpen}, {"name.symlink", SymbolicLinks},
    {"name.followed", FollowedLinks},   {"name.mknod", Nodes},
    {"name.devices", Devices},          {"name.inodes", InodeNumbers},
    {NULL, NULL},
};
