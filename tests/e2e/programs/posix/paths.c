// Errors that every call with a path shares: a table of calls by a table of paths.
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "cases.h"

// What a call does with the last component of its path.
enum Kind { kUses, kMakes, kRemovesFile, kRemovesDir };

struct Call {
  const char* name;
  enum Kind kind;
  int (*run)(const char* path);
};

static int Opens(const char* path) { return open(path, O_RDONLY); }
static int Creates(const char* path) { return open(path, O_WRONLY | O_CREAT | O_EXCL, 0644); }
static int MakesDir(const char* path) { return mkdir(path, 0755); }
static int MakesFifo(const char* path) { return mkfifo(path, 0644); }
static int MakesFile(const char* path) { return mknod(path, S_IFREG | 0644, 0); }
static int MakesLink(const char* path) { return symlink("target", path); }
static int LinksTo(const char* path) { return link("here", path); }
static int LinksFrom(const char* path) { return link(path, "never"); }
static int RenamesTo(const char* path) { return renameat2(AT_FDCWD, "here", AT_FDCWD, path, RENAME_NOREPLACE); }
static int RenamesFrom(const char* path) { return rename(path, "never"); }
static int Unlinks(const char* path) { return unlink(path); }
static int RemovesDir(const char* path) { return rmdir(path); }
static int ChangesMode(const char* path) { return chmod(path, 0700); }
static int ChangesOwner(const char* path) { return chown(path, (uid_t)-1, (gid_t)-1); }
static int ChangesLinkOwner(const char* path) { return lchown(path, (uid_t)-1, (gid_t)-1); }
static int Truncates(const char* path) { return truncate(path, 0); }
static int SetsTimes(const char* path) { return utimensat(AT_FDCWD, path, NULL, 0); }
static int Accesses(const char* path) { return faccessat(AT_FDCWD, path, F_OK, AT_EACCESS); }
static int Stats(const char* path) { struct stat status; return stat(path, &status); }
static int LinkStats(const char* path) { struct stat status; return lstat(path, &status); }
static int ReadsLink(const char* path) { char text[8]; return readlink(path, text, sizeof(text)) < 0 ? -1 : 0; }
static int ChangesDir(const char* path) { return chdir(path); }
static int SetsXattr(const char* path) { return setxattr(path, "user.a", "b", 1, 0); }
static int ListsXattr(const char* path) { return listxattr(path, NULL, 0) < 0 ? -1 : 0; }

static const struct Call kCalls[] = {
    {"open", kUses, Opens},          {"create", kMakes, Creates},          {"mkdir", kMakes, MakesDir},
    {"mkfifo", kMakes, MakesFifo},   {"mknod", kMakes, MakesFile},         {"symlink", kMakes, MakesLink},
    {"link to", kMakes, LinksTo},    {"link from", kUses, LinksFrom},      {"rename to", kMakes, RenamesTo},
    {"rename from", kUses, RenamesFrom}, {"unlink", kRemovesFile, Unlinks}, {"rmdir", kRemovesDir, RemovesDir},
    {"chmod", kUses, ChangesMode},   {"chown", kUses, ChangesOwner},       {"lchown", kUses, ChangesLinkOwner},
    {"truncate", kUses, Truncates},  {"utimensat", kUses, SetsTimes},      {"access", kUses, Accesses},
    {"stat", kUses, Stats},          {"lstat", kUses, LinkStats},          {"readlink", kUses, ReadsLink},
    {"chdir", kUses, ChangesDir},    {"setxattr", kUses, SetsXattr},       {"listxattr", kUses, ListsXattr},
};

static void Each(const char* path, int error) {
  for (size_t i = 0; i < sizeof(kCalls) / sizeof(kCalls[0]); ++i) CheckError(kCalls[i].run(path), error, kCalls[i].name);
}

static void EachOf(enum Kind kind, const char* path, int error) {
  for (size_t i = 0; i < sizeof(kCalls) / sizeof(kCalls[0]); ++i) {
    if (kCalls[i].kind == kind) CheckError(kCalls[i].run(path), error, kCalls[i].name);
  }
}

static void NotADirectory(void) {
  Touch("here");
  Each("here/x", ENOTDIR);
  mkfifo("fifo", 0666);
  Each("fifo/x", ENOTDIR);
}

static void Missing(void) {
  Touch("here");
  Each("missing/x", ENOENT);
  Each("", ENOENT);
  EachOf(kUses, "missing", ENOENT);
  EachOf(kRemovesFile, "missing", ENOENT);
  EachOf(kRemovesDir, "missing", ENOENT);
}

static void Loop(void) {
  Touch("here");
  symlink("loop2", "loop1");
  symlink("loop1", "loop2");
  Each("loop1/x", ELOOP);
  FAILS(ELOOP, open("loop1", O_RDONLY));
  FAILS(ELOOP, chmod("loop1", 0600));
}

static void NoSearch(void) {
  Touch("here");
  MakeDir("closed", 0700);
  Make("closed/x", "", 0666);
  As(kUser, kGroup);
  Each("closed/x", EACCES);
  AsRoot();
  // Readable, but nothing in it can be reached.
  chmod("closed", 0744);
  As(kUser, kGroup);
  Each("closed/x", EACCES);
}

static void NoWrite(void) {
  Make("here", "", 0666);
  MakeDir("shown", 0755);
  Make("shown/file", "", 0666);
  MakeDir("shown/dir", 0777);
  // The source of link and rename is in a directory that may be written.
  As(kUser, kGroup);
  EachOf(kMakes, "shown/new", EACCES);
  FAILS(EACCES, unlink("shown/file"));
  FAILS(EACCES, rmdir("shown/dir"));
  FAILS(EACCES, rename("shown/file", "shown/other"));
}

static void LongNames(void) {
  char name[300];
  memset(name, 'n', sizeof(name));
  name[256] = '\0';
  Touch("here");
  Each(name, ENAMETOOLONG);
  name[255] = '\0';
  for (size_t i = 0; i < sizeof(kCalls) / sizeof(kCalls[0]); ++i) {
    if (kCalls[i].kind != kMakes) continue;
    CheckError(kCalls[i].run(name), 0, kCalls[i].name);
    if (remove(name) != 0) CheckError(-1, 0, "remove");
    Touch("here");
  }
}

static void LongPaths(void) {
  static char path[5000];
  Touch("here");
  MakeDir("d", 0755);
  for (int i = 0; i < 2500; ++i) memcpy(path + 2 * i, "./", 2);
  path[4096] = '\0';
  Each(path, ENAMETOOLONG);
  path[4094] = 'x';
  path[4095] = '\0';
  OK(Touch(path));
  OK(unlink("x"));
}

static void BadAddress(void) {
  Touch("here");
  Each((const char*)1, EFAULT);
}

static void Exists(void) {
  static const char* const kThere[] = {"file", "dir", "fifo", "link", "dangling"};
  Touch("here");
  Touch("file");
  MakeDir("dir", 0755);
  mkfifo("fifo", 0644);
  symlink("file", "link");
  symlink("nothing", "dangling");
  for (size_t i = 0; i < sizeof(kThere) / sizeof(kThere[0]); ++i) EachOf(kMakes, kThere[i], EEXIST);
  FAILS(ENOENT, access("nothing", F_OK));
}

static void TrailingSlash(void) {
  Touch("file");
  MakeDir("dir", 0755);
  FAILS(ENOTDIR, open("file/", O_RDONLY));
  FAILS(ENOTDIR, unlink("file/"));
  FAILS(EISDIR, open("new/", O_CREAT | O_WRONLY, 0644));
  OK(mkdir("new/", 0755));
  OK(rename("new/", "newer/"));
  FAILS(ENOTDIR, rename("file", "file2/"));
  OK(rmdir("newer/"));
  OK(access("dir/", F_OK));
  OK(symlink("dir", "link"));
  TRUE_(S_ISDIR(Stat("link/").st_mode));
  FAILS(ENOTDIR, rmdir("link/"));
}

static void DeepTree(void) {
  char name[201];
  memset(name, 'd', 200);
  name[200] = '\0';
  // Deeper than a path can say.
  for (int i = 0; i < 25; ++i) {
    OK(mkdir(name, 0755));
    OK(chdir(name));
  }
  OK(Touch("bottom"));
  OK(unlink("bottom"));
  for (int i = 0; i < 25; ++i) {
    OK(chdir(".."));
    OK(rmdir(name));
  }
  TRUE_(Stat(".").st_nlink == 2);
}

static void OddNames(void) {
  static const char* const kNames[] = {" ", "\n", "\xff\xfe", "a\\b", "...", "*", "-", "\x01", "\xc3\xa4"};
  for (size_t i = 0; i < sizeof(kNames) / sizeof(kNames[0]); ++i) {
    CheckError(Touch(kNames[i]), 0, kNames[i]);
    CheckError(unlink(kNames[i]), 0, kNames[i]);
  }
  OK(Touch("Case"));
  FAILS(ENOENT, access("case", F_OK));
}

const struct Case path_cases[] = {
    {"path.not_a_directory", NotADirectory}, {"path.missing", Missing},
    {"path.loop", Loop},                     {"path.no_search", NoSearch},
    {"path.no_write", NoWrite},              {"path.long_names", LongNames},
    {"path.long_paths", LongPaths},          {"path.bad_address", BadAddress},
    {"path.exists", Exists},                 {"path.trailing_slash", TrailingSlash},
    {"path.deep_tree", DeepTree},            {"path.odd_names", OddNames},
    {NULL, NULL},
};
