// Reading directories, also while they change.
#include <dirent.h>

#include "cases.h"

// More than one answer to READDIRPLUS holds.
enum { kFiles = 200 };

static void MakeMany(void) {
  MakeDir("dir", 0755);
  for (int i = 0; i < kFiles; ++i) {
    char name[64];
    snprintf(name, sizeof(name), "dir/a-name-that-is-not-so-short-%d", i);
    CheckError(mknod(name, S_IFREG | 0644, 0), 0, name);
  }
}

static int NumberOf(const struct dirent* entry) {
  int number = -1;
  sscanf(entry->d_name, "a-name-that-is-not-so-short-%d", &number);
  return number;
}

static void Complete(void) {
  int seen[kFiles] = {0};
  int dots = 0;
  MakeMany();
  DIR* const dir = opendir("dir");
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) {
    const int number = NumberOf(entry);
    if (number >= 0 && number < kFiles) ++seen[number];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) ++dots;
  }
  IS(2, dots);
  for (int i = 0; i < kFiles; ++i) IS(1, seen[i]);
}

static void Types(void) {
  Touch("file");
  MakeDir("dir", 0755);
  OK(symlink("x", "link"));
  OK(mkfifo("fifo", 0644));
  DIR* const dir = opendir(".");
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) {
    const struct stat status = Stat(entry->d_name);
    if (strcmp(entry->d_name, "..") == 0) continue;
    IS(status.st_ino, entry->d_ino);
    if (entry->d_type != DT_UNKNOWN) IS(IFTODT(status.st_mode), entry->d_type);
  }
}

// Every file that was there all the time is seen exactly once.
static void WhileItChanges(void) {
  int seen[kFiles] = {0};
  char name[64];
  MakeMany();
  DIR* const dir = opendir("dir");
  int read = 0;
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) {
    const int number = NumberOf(entry);
    if (number < 0) continue;
    if (number < kFiles) ++seen[number];
    // Each odd one goes as it is seen, and new ones come.
    if (number < kFiles && number % 2 == 1) OK(unlinkat(dirfd(dir), entry->d_name, 0));
    snprintf(name, sizeof(name), "dir/new-%d", read);
    if (++read < 100) OK(Touch(name));
  }
  for (int i = 0; i < kFiles; ++i) IS(1, seen[i]);
  rewinddir(dir);
  int left = 0;
  int fresh = 0;
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) {
    if (NumberOf(entry) >= 0) ++left;
    if (strncmp(entry->d_name, "new-", 4) == 0) ++fresh;
  }
  IS(kFiles / 2, left);
  IS(99, fresh);
}

static void Removal(void) {
  MakeMany();
  DIR* const dir = opendir("dir");
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) {
    if (NumberOf(entry) >= 0) OK(unlinkat(dirfd(dir), entry->d_name, 0));
  }
  OK(rmdir("dir"));
}

static void Positions(void) {
  MakeMany();
  DIR* const dir = opendir("dir");
  for (int i = 0; i < 100; ++i) readdir(dir);
  const long at = telldir(dir);
  char name[256] = "";
  const struct dirent* entry = readdir(dir);
  TRUE_(entry != NULL);
  if (entry == NULL) return;
  strcpy(name, entry->d_name);
  for (int i = 0; i < 50; ++i) readdir(dir);
  seekdir(dir, at);
  entry = readdir(dir);
  CheckText(name, entry ? entry->d_name : "(end)", __LINE__, "after seekdir");
  while (readdir(dir) != NULL) {
  }
  seekdir(dir, at);
  entry = readdir(dir);
  CheckText(name, entry ? entry->d_name : "(end)", __LINE__, "after seekdir from the end");
}

static void NewNamesAtOnce(void) {
  MakeDir("dir", 0755);
  DIR* const dir = opendir("dir");
  while (readdir(dir) != NULL) {
  }
  OK(Touch("dir/new"));
  rewinddir(dir);
  int found = 0;
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) found += strcmp(entry->d_name, "new") == 0;
  IS(1, found);
  OK(rename("dir/new", "dir/newer"));
  rewinddir(dir);
  for (struct dirent* entry; (entry = readdir(dir)) != NULL;) found += strcmp(entry->d_name, "newer") == 0;
  IS(2, found);
}

static void SmallBuffers(void) {
  MakeMany();
  const int fd = OK(open("dir", O_RDONLY | O_DIRECTORY));
  char buffer[80] __attribute__((aligned(8)));
  int count = 0;
  for (ssize_t got; (got = getdents64(fd, buffer, sizeof(buffer))) > 0;) {
    for (ssize_t at = 0; at < got;) {
      const struct dirent64* const entry = (const struct dirent64*)(buffer + at);
      ++count;
      at += entry->d_reclen;
    }
  }
  IS(kFiles + 2, count);
  OK(lseek(fd, 0, SEEK_SET));
  FAILS(EINVAL, getdents64(fd, buffer, 8));
  FAILS(ENOTDIR, getdents64(open("dir/a-name-that-is-not-so-short-1", O_RDONLY), buffer, sizeof(buffer)));
}

const struct Case directory_cases[] = {
    {"readdir.complete", Complete},   {"readdir.types", Types},         {"readdir.changing", WhileItChanges}, {"readdir.removal", Removal},
    {"readdir.positions", Positions}, {"readdir.new_names", NewNamesAtOnce}, {"readdir.small_buffers", SmallBuffers}, {NULL, NULL},
};
