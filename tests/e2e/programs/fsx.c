// fsx FILE SEED OPERATIONS: random operations on one file, each with a model in memory beside it, after the program of
// that name. What the file system does not have (EOPNOTSUPP) is left out. Says what it did last when file and model differ.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMost = 256 * 1024, kPiece = 48 * 1024, kRemembered = 16 };

static const char* path;
static int fd;
static char* model;
static size_t size;  // of file and model; beyond it the model is zero
static char* buffer;
static unsigned long step;
static char history[kRemembered][80];
static unsigned missing;  // bits of operations that the file system does not have

static void Fail(const char* what) {
  printf("fsx: %s at operation %lu (%s); before:\n", what, step, strerror(errno));
  for (unsigned i = 1; i <= kRemembered; ++i) printf("  %s\n", history[(step + i) % kRemembered]);
  exit(1);
}

static void Note(const char* what, size_t at, size_t length) {
  snprintf(history[step % kRemembered], sizeof(history[0]), "%lu %s at %#zx, %#zx bytes, size %#zx", step, what, at, length, size);
}

static void Compare(const char* got, size_t at, size_t length, const char* what) {
  if (memcmp(got, model + at, length) == 0) return;
  size_t i = 0;
  while (got[i] == model[at + i]) ++i;
  printf("fsx: %s differs at %#zx: %#x instead of %#x\n", what, at + i, got[i] & 0xff, model[at + i] & 0xff);
  Fail("wrong data");
}

static void CheckSize(void) {
  struct stat status;
  if (fstat(fd, &status) != 0) Fail("fstat");
  if ((size_t)status.st_size == size) return;
  printf("fsx: size %#llx instead of %#zx\n", (long long)status.st_size, size);
  Fail("wrong size");
}

static void Read(size_t at, size_t length) {
  Note("read", at, length);
  if (pread(fd, buffer, length, (off_t)at) != (ssize_t)length) Fail("short read");
  Compare(buffer, at, length, "what was read");
}

static void Fill(size_t at, size_t length) {
  for (size_t i = 0; i < length; ++i) model[at + i] = (char)(step * 7 + i + (i >> 8) + 1);
}

static void Grow(size_t end) {
  if (end > size) size = end;
}

static void Write(size_t at, size_t length) {
  Note("write", at, length);
  Fill(at, length);
  if (pwrite(fd, model + at, length, (off_t)at) != (ssize_t)length) Fail("short write");
  Grow(at + length);
}

static void Truncate(size_t to) {
  Note("truncate", to, 0);
  if ((step % 2 ? ftruncate(fd, (off_t)to) : truncate(path, (off_t)to)) != 0) Fail("truncate");
  if (to < size) memset(model + to, 0, size - to);
  size = to;
}

static void Mapped(size_t at, size_t length, int writes) {
  Note(writes ? "mmap write" : "mmap read", at, length);
  const size_t page = at & ~4095UL;
  char* const map = mmap(NULL, at + length - page, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, fd, (off_t)page);
  if (map == MAP_FAILED) {
    if (errno != ENODEV && errno != EINVAL) Fail("mmap");
    missing |= 1;
    return;
  }
  if (writes) {
    Fill(at, length);
    memcpy(map + (at - page), model + at, length);
    if (step % 3 == 0 && msync(map, at + length - page, MS_SYNC) != 0) Fail("msync");
  } else {
    Compare(map + (at - page), at, length, "what is mapped");
  }
  munmap(map, at + length - page);
}

static void Allocate(const char* what, int mode, unsigned bit, size_t at, size_t length) {
  if (missing & bit) return;
  Note(what, at, length);
  if (fallocate(fd, mode, (off_t)at, (off_t)length) != 0) {
    if (errno != EOPNOTSUPP) Fail(what);
    missing |= bit;
    return;
  }
  if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) memset(model + at, 0, length);
  if (!(mode & FALLOC_FL_KEEP_SIZE)) Grow(at + length);
}

static void Copy(size_t from, size_t to, size_t length) {
  if (from < to + length && to < from + length) return;  // EINVAL, it overlaps
  Note("copy", from, length);
  while (length > 0) {
    off_t in = (off_t)from;
    off_t out = (off_t)to;
    const ssize_t done = copy_file_range(fd, &in, fd, &out, length, 0);
    if (done <= 0) Fail("copy_file_range");
    memcpy(model + to, model + from, (size_t)done);
    Grow(to + (size_t)done);
    from += (size_t)done;
    to += (size_t)done;
    length -= (size_t)done;
  }
}

static void Reopen(void) {
  Note("reopen", 0, 0);
  close(fd);
  fd = open(path, O_RDWR);
  if (fd < 0) Fail("open");
}

static size_t Below(size_t limit) {
  return limit == 0 ? 0 : (size_t)random() % limit;
}

static void Operate(void) {
  const size_t at = Below(kMost - kPiece);
  const size_t length = 1 + Below(kPiece - 1);
  const size_t inside = Below(size);
  const size_t there = size == 0 ? 0 : 1 + Below(size - inside < kPiece ? size - inside : kPiece);
  switch (random() % 14) {
    case 0: case 1: case 2: Write(at, length); break;
    case 3: case 4: if (there) Read(inside, there); break;
    case 5: Truncate(Below(kMost)); break;
    case 6: case 7: if (there && !(missing & 1)) Mapped(inside, there, 1); break;
    case 8: if (there && !(missing & 1)) Mapped(inside, there, 0); break;
    case 9: if (there) Allocate("punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, inside, there); break;
    case 10: Allocate("zero", FALLOC_FL_ZERO_RANGE, 4, at, length); break;
    case 11: Allocate("allocate", 0, 8, at, length); break;
    case 12: if (there) Copy(inside, at, there); break;
    case 13:
      if (random() % 2) Reopen();
      else if (fsync(fd) != 0) Fail("fsync");
      break;
  }
  CheckSize();
}

static void CheckAll(void) {
  for (size_t at = 0; at < size; at += kPiece) Read(at, size - at < kPiece ? size - at : kPiece);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  path = argv[1];
  srandom((unsigned)atoi(argv[2]));
  model = calloc(1, kMost);
  buffer = malloc(kPiece);
  fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) Fail("open");
  const unsigned long steps = strtoul(argv[3], NULL, 10);
  for (step = 0; step < steps; ++step) {
    Operate();
    if (step % 100 == 99) CheckAll();
  }
  CheckAll();
  if (fsync(fd) != 0) Fail("fsync");
  printf("fsx: %lu operations are right, missing %#x\n", steps, missing);
  return 0;
}
