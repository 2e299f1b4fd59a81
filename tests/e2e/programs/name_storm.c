// name_storm DIR FIRST PROCESSES OPERATIONS SEED: processes (the first has the number FIRST) create, rename, link, exchange and delete names in the same directories
// at once. Each knows what becomes of its own names and checks every result; all of them fight over some common ones,
// of which each must be a whole file at any time. Afterwards the directories must hold what the models say. A second storm
// with other numbers may join in the same DIR, also from the other side of a share.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kDirs = 3, kSlots = 12, kCommon = 6 };

static unsigned process;
static unsigned files;         // made so far; the number of one is its content
static unsigned slots[kSlots];  // the number of the file under each name, 0: none
static unsigned long step;
static int joined;  // another storm is in the same directories, perhaps on the other side of a share

static void Fail(const char* format, ...) {
  va_list list;
  va_start(list, format);
  char text[200];
  vsnprintf(text, sizeof(text), format, list);
  va_end(list);
  printf("name_storm: process %u, operation %lu: %s (%s)\n", process, step, text, strerror(errno));
  fflush(stdout);
  _exit(1);
}

static const char* Name(unsigned slot) {
  static char names[4][32];
  static unsigned next;
  char* const name = names[next++ % 4];
  snprintf(name, sizeof(names[0]), "d%u/p%u-%u", slot % kDirs, process, slot);
  return name;
}

static const char* Common(unsigned number) {
  static char names[4][32];
  static unsigned next;
  char* const name = names[next++ % 4];
  snprintf(name, sizeof(names[0]), "d%u/common-%u", number % kDirs, number);
  return name;
}

// The result of a call: 0 or an error number.
static int Of(int result) {
  return result < 0 ? errno : 0;
}

static void Expect(int wanted, int got, const char* what, unsigned a, unsigned b) {
  if (wanted != got) Fail("%s %u %u gave %d (%s) instead of %d", what, a, b, got, strerror(got), wanted);
}

static int Create(const char* name, const char* text) {
  const int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (fd < 0) return errno;
  if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) Fail("writing %s", name);
  close(fd);
  return 0;
}

static unsigned Names(unsigned file) {
  unsigned count = 0;
  for (unsigned i = 0; i < kSlots; ++i) count += slots[i] == file;
  return count;
}

static void Check(unsigned slot) {
  struct stat status;
  const int error = Of(lstat(Name(slot), &status));
  Expect(slots[slot] ? 0 : ENOENT, error, "lstat", slot, 0);
  if (error != 0) return;
  if (status.st_nlink != Names(slots[slot])) Fail("%s has %u links instead of %u", Name(slot), (unsigned)status.st_nlink, Names(slots[slot]));
  char text[32] = "";
  char wanted[32];
  snprintf(wanted, sizeof(wanted), "%u %u.", process, slots[slot]);
  const int fd = open(Name(slot), O_RDONLY);
  if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) Fail("reading %s", Name(slot));
  close(fd);
  if (strcmp(text, wanted) != 0) Fail("%s holds '%s' instead of '%s'", Name(slot), text, wanted);
}

static void MakeOwn(unsigned a) {
  char text[32];
  snprintf(text, sizeof(text), "%u %u.", process, files + 1);
  const int error = Create(Name(a), text);
  Expect(slots[a] ? EEXIST : 0, error, "create", a, 0);
  if (error == 0) slots[a] = ++files;
}

static void Own(unsigned a, unsigned b) {
  switch (random() % 7) {
    case 0: case 1: MakeOwn(a); break;
    case 2:
      Expect(slots[a] ? 0 : ENOENT, Of(unlink(Name(a))), "unlink", a, 0);
      slots[a] = 0;
      break;
    case 3:
      Expect(slots[a] ? 0 : ENOENT, Of(rename(Name(a), Name(b))), "rename", a, b);
      if (slots[a] && slots[a] != slots[b]) {  // two names of one file both stay
        slots[b] = slots[a];
        if (a != b) slots[a] = 0;
      }
      break;
    case 4: {
      const int wanted = !slots[a] ? ENOENT : slots[b] ? EEXIST : 0;
      const int error = Of(link(Name(a), Name(b)));
      Expect(wanted, error, "link", a, b);
      if (error == 0) slots[b] = slots[a];
      break;
    }
    case 5: {
      const int wanted = !slots[a] || !slots[b] ? ENOENT : 0;
      Expect(wanted, Of(renameat2(AT_FDCWD, Name(a), AT_FDCWD, Name(b), RENAME_EXCHANGE)), "exchange", a, b);
      if (wanted == 0) {
        const unsigned kept = slots[a];
        slots[a] = slots[b];
        slots[b] = kept;
      }
      break;
    }
    case 6: {
      const int wanted = !slots[a] ? ENOENT : slots[b] ? EEXIST : 0;
      Expect(wanted, Of(renameat2(AT_FDCWD, Name(a), AT_FDCWD, Name(b), RENAME_NOREPLACE)), "rename to new", a, b);
      if (wanted == 0) {
        slots[b] = slots[a];
        slots[a] = 0;
      }
      break;
    }
  }
  Check(a);
  Check(b);
}

// Somebody else may always have been faster.
static void Fight(unsigned a, unsigned b) {
  char text[32] = "";
  int error = 0;
  const unsigned operation = (unsigned)random() % 5;
  switch (operation) {
    case 0: error = Create(Common(a), "whole"); break;
    case 1: error = Of(unlink(Common(a))); break;
    case 2: error = Of(rename(Common(a), Common(b))); break;
    case 3: error = Of(link(Common(a), Common(b))); break;
    case 4: {
      const int fd = open(Common(a), O_RDONLY);
      error = Of(fd);
      if (fd < 0) break;
      const ssize_t got = read(fd, text, sizeof(text));
      // Empty: its maker has not come to write yet.
      if (got != 0 && (got != 5 || memcmp(text, "whole", 5) != 0)) Fail("%s holds '%s'", Common(a), text);
      close(fd);
      break;
    }
  }
  // What the other side renamed meanwhile is stale.
  if (joined && error == ESTALE) return;
  if (error != 0 && error != ENOENT && error != EEXIST) Fail("common names: operation %u on %u and %u gave %d (%s)", operation, a, b, error, strerror(error));
}

static void Work(unsigned long operations, unsigned seed, int result) {
  srandom(seed + process);
  for (step = 0; step < operations; ++step) {
    if (random() % 4 == 0) Fight((unsigned)random() % kCommon, (unsigned)random() % kCommon);
    else Own((unsigned)random() % kSlots, (unsigned)random() % kSlots);
  }
  unsigned count = 0;
  for (unsigned i = 0; i < kSlots; ++i) {
    Check(i);
    count += slots[i] != 0;
  }
  // The parent counts what is there.
  if (write(result, &count, sizeof(count)) != sizeof(count)) Fail("telling the result");
  _exit(0);
}

// Files of the processes, and nothing but those and the common names.
static unsigned CountOwn(unsigned first, unsigned last) {
  unsigned count = 0;
  unsigned number = 0;
  for (unsigned d = 0; d < kDirs; ++d) {
    char name[8];
    snprintf(name, sizeof(name), "d%u", d);
    DIR* const dir = opendir(name);
    for (struct dirent* entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
      if (sscanf(entry->d_name, "p%u-", &number) == 1) count += number >= first && number <= last;
      else if (entry->d_name[0] != '.' && strncmp(entry->d_name, "common-", 7) != 0) Fail("there is %s", entry->d_name);
    }
    if (dir != NULL) closedir(dir);
  }
  return count;
}

static void CheckCommon(void) {
  struct stat status[kCommon] = {0};
  for (unsigned i = 0; i < kCommon; ++i) lstat(Common(i), &status[i]);
  for (unsigned i = 0; i < kCommon; ++i) {
    unsigned names = 0;
    for (unsigned k = 0; k < kCommon; ++k) names += status[k].st_ino == status[i].st_ino && status[k].st_nlink != 0;
    if (status[i].st_nlink != 0 && names != status[i].st_nlink) Fail("%s has %u links, but %u names", Common(i), (unsigned)status[i].st_nlink, names);
  }
}

// Gives how many names the models have together.
static unsigned Run(unsigned first, unsigned last, unsigned long operations, unsigned seed) {
  int results[2];
  if (pipe(results) != 0) Fail("pipe");
  for (process = first; process <= last; ++process) {
    const pid_t child = fork();
    if (child < 0) Fail("fork");
    if (child == 0) Work(operations, seed, results[1]);
  }
  close(results[1]);
  process = 0;
  unsigned wanted = 0;
  unsigned count = 0;
  while (read(results[0], &count, sizeof(count)) == sizeof(count)) wanted += count;
  for (int status; wait(&status) > 0;) {
    if (status != 0) Fail("a process failed");
  }
  return wanted;
}

int main(int argc, char** argv) {
  if (argc != 6 || chdir(argv[1]) != 0) return 2;
  for (unsigned d = 0; d < kDirs; ++d) {
    char name[8];
    snprintf(name, sizeof(name), "d%u", d);
    if (mkdir(name, 0755) == 0) continue;
    if (errno != EEXIST) Fail("mkdir");
    joined = 1;
  }
  const unsigned first = (unsigned)atoi(argv[2]);
  const unsigned last = first + (unsigned)atoi(argv[3]) - 1;
  const unsigned wanted = Run(first, last, strtoul(argv[4], NULL, 10), (unsigned)atoi(argv[5]));
  const unsigned there = CountOwn(first, last);
  if (wanted != there) Fail("there are %u names instead of %u", there, wanted);
  if (!joined) CheckCommon();
  printf("name_storm: %u names are right\n", there);
  return 0;
}
