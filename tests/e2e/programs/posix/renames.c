// rename(2) and renameat2(2).
#include "cases.h"

static void MakeTypes(void) {
  Make("file", "f", 0644);
  Make("file2", "f2", 0644);
  MakeDir("empty", 0755);
  MakeDir("empty2", 0755);
  MakeDir("full", 0755);
  Touch("full/x");
  OK(mkfifo("fifo", 0644));
  OK(symlink("file", "link"));
  OK(symlink("nothing", "dangling"));
}

// What may be renamed onto what.
static void Types(void) {
  static const struct { const char *from, *to; int error; } kTable[] = {
      {"empty", "file", ENOTDIR},   {"empty", "fifo", ENOTDIR},     {"empty", "link", ENOTDIR},  {"full", "file", ENOTDIR},
      {"file", "empty", EISDIR},    {"fifo", "empty", EISDIR},      {"link", "empty", EISDIR},   {"file", "full", EISDIR},
      {"empty", "full", ENOTEMPTY}, {"missing", "file", ENOENT},    {"file", "full/x/y", ENOTDIR}, {"file", "no/where", ENOENT},
      {"full", "full/y", EINVAL},   {"full", "full/y/z", ENOENT},   {"empty", "empty", 0},       {"file", "file", 0},
      {"file", ".", EBUSY},         {".", "there", EBUSY},          {"full/..", "there", EBUSY}, {"full", "full/..", EBUSY},
      {"full/x", "full", ENOTEMPTY},
      {"file", "file2", 0},         {"file2", "fifo", 0},           {"fifo", "link", 0},         {"link", "dangling", 0},
      {"full", "empty", 0},         {"empty", "empty2", 0},         {"empty2", "new", 0}};
  MakeTypes();
  for (size_t i = 0; i < sizeof(kTable) / sizeof(kTable[0]); ++i) {
    char what[64];
    snprintf(what, sizeof(what), "%s to %s", kTable[i].from, kTable[i].to);
    CheckError(rename(kTable[i].from, kTable[i].to), kTable[i].error, what);
  }
  OK(access("new/x", F_OK));
}

static void Contents(void) {
  Make("a", "one", 0600);
  Make("b", "two", 0644);
  const ino_t inode = Stat("a").st_ino;
  OK(rename("a", "b"));
  HasText("b", "one");
  IS(inode, Stat("b").st_ino);
  IS(0600, Mode("b"));
  FAILS(ENOENT, access("a", F_OK));
}

static void SameFile(void) {
  Make("a", "text", 0644);
  OK(link("a", "b"));
  // Two names of one file: nothing happens, and both stay.
  OK(rename("a", "b"));
  OK(access("a", F_OK));
  OK(access("b", F_OK));
  IS(2, Stat("a").st_nlink);
}

static void Directories(void) {
  MakeDir("a", 0755);
  MakeDir("b", 0755);
  MakeDir("a/sub", 0755);
  Make("a/sub/file", "text", 0644);
  IS(3, Stat("a").st_nlink);
  OK(rename("a/sub", "b/moved"));
  IS(2, Stat("a").st_nlink);
  IS(3, Stat("b").st_nlink);
  HasText("b/moved/file", "text");
  IS(Stat("b").st_ino, Stat("b/moved/..").st_ino);
  FAILS(EINVAL, rename("b", "b/moved/b"));
  // A working directory goes with its directory.
  OK(chdir("b/moved"));
  OK(rename("../../b", "../../c"));
  HasText("file", "text");
  char path[4096];
  TRUE_(getcwd(path, sizeof(path)) != NULL && strstr(path, "/c/moved") != NULL);
  OK(chdir("../.."));
}

static void OpenFiles(void) {
  MakeDir("dir", 0755);
  const int fd = OK(open("dir/file", O_CREAT | O_RDWR, 0644));
  const int directory = OK(open("dir", O_RDONLY | O_DIRECTORY));
  OK(rename("dir/file", "dir/other"));
  IS(3, write(fd, "abc", 3));
  OK(rename("dir", "moved"));
  IS(3, write(fd, "def", 3));
  HasText("moved/other", "abcdef");
  OK(faccessat(directory, "other", F_OK, 0));
  OK(fchmod(fd, 0600));
  IS(0600, Mode("moved/other"));
}

static void NoReplace(void) {
  Make("a", "one", 0644);
  Make("b", "two", 0644);
  FAILS(EEXIST, renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
  HasText("b", "two");
  OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
  HasText("c", "one");
  FAILS(EINVAL, renameat2(AT_FDCWD, "c", AT_FDCWD, "d", RENAME_NOREPLACE | RENAME_EXCHANGE));
}

static void Exchange(void) {
  Make("a", "one", 0644);
  MakeDir("b", 0755);
  Make("b/x", "two", 0644);
  FAILS(ENOENT, renameat2(AT_FDCWD, "a", AT_FDCWD, "missing", RENAME_EXCHANGE));
  OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
  HasText("b", "one");
  HasText("a/x", "two");
  MakeDir("d", 0755);
  Make("d/f", "three", 0644);
  OK(renameat2(AT_FDCWD, "d/f", AT_FDCWD, "a", RENAME_EXCHANGE));
  HasText("a", "three");
  HasText("d/f/x", "two");
  IS(3, Stat("d").st_nlink);
}

static void Whiteout(void) {
  Make("a", "one", 0644);
  OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_WHITEOUT));
  HasText("b", "one");
  TRUE_(S_ISCHR(Stat("a").st_mode));
  IS(0, Stat("a").st_rdev);
}

static void AcrossFileSystems(void) {
  Touch("file");
  FAILS(EXDEV, rename("file", "/proc/file"));
}

const struct Case rename_cases[] = {
    {"rename.types", Types},         {"rename.contents", Contents}, {"rename.same_file", SameFile}, {"rename.directories", Directories},
    {"rename.open", OpenFiles},      {"rename.noreplace", NoReplace}, {"rename.exchange", Exchange}, {"rename.whiteout", Whiteout},
    {"rename.xdev", AcrossFileSystems}, {NULL, NULL},
};
