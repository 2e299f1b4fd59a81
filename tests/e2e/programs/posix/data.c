// Reading, writing, holes, copies, mappings, synchronization.
#include <signal.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "cases.h"

enum { kPage = 4096, kMiB = 1 << 20 };

static void ReadsAndWrites(void) {
  char text[32] = "";
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(5, write(fd, "12345", 5));
  IS(5, lseek(fd, 0, SEEK_CUR));
  IS(0, read(fd, text, 5));
  IS(2, lseek(fd, -3, SEEK_END));
  IS(3, read(fd, text, sizeof(text)));
  FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
  FAILS(EINVAL, pread(fd, text, 1, -1));
  IS(0, pread(fd, text, 1, 1000));
  IS(3, pwrite(fd, "abc", 3, 10));
  IS(13, Stat("file").st_size);
  IS(13, pread(fd, text, sizeof(text), 0));
  IS(0, memcmp(text, "12345\0\0\0\0\0abc", 13));
  struct iovec pieces[] = {{"AA", 2}, {"", 0}, {"BBB", 3}};
  IS(5, pwritev(fd, pieces, 3, 1));
  IS(13, pread(fd, text, sizeof(text), 0));
  IS(0, memcmp(text, "1AABBB\0\0\0\0abc", 13));
  char* const nowhere = mmap(NULL, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FAILS(EFAULT, write(fd, nowhere, 1));
  FAILS(EFAULT, pread(fd, nowhere, 1, 0));
  const int reader = OK(open("file", O_RDONLY));
  FAILS(EBADF, write(reader, "x", 1));
  FAILS(EBADF, read(open("file", O_WRONLY), text, 1));
}

static unsigned char PatternAt(size_t at) {
  return (unsigned char)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static unsigned char* Pattern(size_t size) {
  unsigned char* const data = malloc(size);
  for (size_t i = 0; i < size; ++i) data[i] = PatternAt(i);
  return data;
}

static void LargeTransfers(void) {
  const size_t size = 3 * kMiB + 4097;
  unsigned char* const data = Pattern(size);
  unsigned char* const back = calloc(1, size);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(size, pwrite(fd, data, size, 3));
  IS(size, pread(fd, back, size, 3));
  IS(0, memcmp(data, back, size));
  IS(size - 1000, pread(fd, back, size, 1003));
  IS(0, memcmp(data + 1000, back, size - 1000));
}

static void LargeOffsets(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  const off_t at = (1LL << 42) + 5;
  char text[4] = "";
  IS(3, pwrite(fd, "abc", 3, at));
  IS(at + 3, Stat("file").st_size);
  IS(3, pread(fd, text, 3, at));
  IS('a', text[0]);
  IS(1, pread(fd, text, 1, at - 1));
  IS(0, text[0]);
}

static void TwoDescriptors(void) {
  const int one = OK(open("file", O_CREAT | O_RDWR, 0644));
  const int two = OK(open("file", O_RDWR));
  char text[8] = "";
  IS(3, write(one, "abc", 3));
  IS(3, read(two, text, 3));
  IS('a', text[0]);
  OK(ftruncate(two, 1));
  IS(1, pread(one, text, 8, 0));
  struct stat status;
  OK(fstat(one, &status));
  IS(1, status.st_size);
  IS(2, pwrite(two, "xy", 2, 1));
  IS(3, pread(one, text, 8, 0));
  IS('y', text[2]);
}

static void Allocates(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(fallocate(fd, 0, 0, 100000));
  IS(100000, Stat("file").st_size);
  TRUE_(Stat("file").st_blocks * 512 >= 100000);
  OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 100000, 100000));
  IS(100000, Stat("file").st_size);
  FAILS(EINVAL, fallocate(fd, 0, 0, 0));
  FAILS(EINVAL, fallocate(fd, 0, -1, 10));
  const int reader = OK(open("file", O_RDONLY));
  FAILS(EBADF, fallocate(reader, 0, 0, 10));
  FAILS(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
}

static void Punches(void) {
  unsigned char* const data = Pattern(16 * kPage);
  unsigned char* const back = calloc(1, 16 * kPage);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(16 * kPage, write(fd, data, 16 * kPage));
  OK(fsync(fd));
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * kPage - 100, 3 * kPage));
  memset(data + 2 * kPage - 100, 0, 3 * kPage);
  IS(16 * kPage, pread(fd, back, 16 * kPage, 0));
  IS(0, memcmp(data, back, 16 * kPage));
  IS(16 * kPage, Stat("file").st_size);
}

static void ZeroesRanges(void) {
  unsigned char* const data = Pattern(8 * kPage);
  unsigned char* const back = calloc(1, 8 * kPage);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(8 * kPage, write(fd, data, 8 * kPage));
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 2 * kPage));
  memset(data + 100, 0, 2 * kPage);
  IS(8 * kPage, pread(fd, back, 8 * kPage, 0));
  IS(0, memcmp(data, back, 8 * kPage));
  OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 7 * kPage, 2 * kPage));
  IS(9 * kPage, Stat("file").st_size);
}

static void CollapsesAndInserts(void) {
  unsigned char* const data = Pattern(8 * kPage);
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(8 * kPage, write(fd, data, 8 * kPage));
  OK(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, kPage, kPage));
  IS(7 * kPage, Stat("file").st_size);
  OK(fallocate(fd, FALLOC_FL_INSERT_RANGE, kPage, kPage));
  IS(8 * kPage, Stat("file").st_size);
}

static void EndsOfData(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(3, write(fd, "abc", 3));
  IS(0, lseek(fd, 0, SEEK_DATA));
  IS(3, lseek(fd, 0, SEEK_HOLE));
  FAILS(ENXIO, lseek(fd, 3, SEEK_DATA));
  FAILS(ENXIO, lseek(fd, 3, SEEK_HOLE));
}

static void Holes(void) {
  static char block[65536];
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(ftruncate(fd, 4 * kMiB));
  IS(65536, pwrite(fd, block, 65536, kMiB));
  OK(fsync(fd));
  IS(0, lseek(fd, 0, SEEK_HOLE));
  IS(kMiB, lseek(fd, 0, SEEK_DATA));
  IS(kMiB + 65536, lseek(fd, kMiB, SEEK_HOLE));
  FAILS(ENXIO, lseek(fd, 2 * kMiB, SEEK_DATA));
}

static void Copies(void) {
  unsigned char* const data = Pattern(100000);
  unsigned char* const back = calloc(1, 100000);
  const int from = OK(open("from", O_CREAT | O_RDWR, 0644));
  const int to = OK(open("to", O_CREAT | O_RDWR, 0644));
  IS(100000, write(from, data, 100000));
  loff_t in = 5;
  loff_t out = 0;
  while (in < 100000) {
    if (OK(copy_file_range(from, &in, to, &out, 100000, 0)) <= 0) break;
  }
  IS(100000 - 5, out);
  IS(100000 - 5, Stat("to").st_size);
  IS(100000 - 5, pread(to, back, 100000, 0));
  IS(0, memcmp(data + 5, back, 100000 - 5));
  in = 200000;
  IS(0, copy_file_range(from, &in, to, &out, 10, 0));
  in = 0;
  out = 5;
  FAILS(EINVAL, copy_file_range(from, &in, from, &out, 10, 0));
  FAILS(EBADF, copy_file_range(from, &in, open("to", O_RDONLY), &out, 10, 0));
  FAILS(EBADF, copy_file_range(from, &in, open("to", O_RDWR | O_APPEND), &out, 10, 0));
  FAILS(EISDIR, copy_file_range(open(".", O_RDONLY), &in, to, &out, 10, 0));
  in = 0;
  IS(100, copy_file_range(from, &in, to, NULL, 100, 0) == -1 ? -1 : 100);
}

static void Sendfile(void) {
  Make("from", "0123456789", 0644);
  const int from = OK(open("from", O_RDONLY));
  const int to = OK(open("to", O_CREAT | O_RDWR, 0644));
  off_t at = 3;
  IS(5, sendfile(to, from, &at, 5));
  HasText("to", "34567");
  int pipes[2];
  OK(pipe(pipes));
  loff_t offset = 1;
  IS(4, splice(from, &offset, pipes[1], NULL, 4, 0));
  IS(4, splice(pipes[0], NULL, to, NULL, 4, 0));
  HasText("to", "345671234");
}

static char* Map(int fd, size_t size, int how) {
  char* const map = mmap(NULL, size, PROT_READ | PROT_WRITE, how, fd, 0);
  if (map == MAP_FAILED) {
    CheckError(-1, 0, "mmap");
    _exit(1);
  }
  return map;
}

static void SharedMappings(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(ftruncate(fd, 3 * kPage));
  char* const map = Map(fd, 3 * kPage, MAP_SHARED);
  char byte = 0;
  map[5] = 'm';
  IS(1, pread(fd, &byte, 1, 5));
  IS('m', byte);
  IS(1, pwrite(fd, "w", 1, kPage + 7));
  IS('w', map[kPage + 7]);
  char* const again = Map(fd, 3 * kPage, MAP_SHARED);
  again[2 * kPage] = '2';
  IS('2', map[2 * kPage]);
  OK(msync(map, 3 * kPage, MS_SYNC));
  const int other = OK(open("file", O_RDONLY));
  IS(1, pread(other, &byte, 1, 2 * kPage));
  IS('2', byte);
  // The mapping outlives the descriptor and the name.
  close(fd);
  close(other);
  OK(unlink("file"));
  map[9] = '9';
  OK(msync(map, 3 * kPage, MS_SYNC));
  IS('9', again[9]);
  OK(munmap(map, 3 * kPage));
}

static void PrivateMappings(void) {
  Make("file", "abc", 0644);
  const int fd = OK(open("file", O_RDONLY));
  char* const map = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  TRUE_(map != MAP_FAILED);
  if (map == MAP_FAILED) return;
  IS('b', map[1]);
  IS(0, map[100]);
  map[1] = 'x';
  HasText("file", "abc");
  TRUE_(mmap(NULL, kPage, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
}

static sigjmp_buf at_fault;
static void OnBusError(int number) {
  siglongjmp(at_fault, number);
}

static void MappingsAndTheEnd(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(ftruncate(fd, kPage));
  char* const map = Map(fd, 2 * kPage, MAP_SHARED);
  map[0] = 'x';
  signal(SIGBUS, OnBusError);
  if (sigsetjmp(at_fault, 1) == 0) {
    *(volatile char*)(map + kPage) = 'y';
    CheckError(-1, 0, "a page beyond the end could be written");
  }
  OK(ftruncate(fd, 2 * kPage));
  map[kPage] = 'z';
  OK(ftruncate(fd, 0));
  if (sigsetjmp(at_fault, 1) == 0) {
    (void)*(volatile char*)map;
    CheckError(-1, 0, "a page that was cut off could be read");
  }
  // What was there before does not come back.
  OK(ftruncate(fd, kPage));
  IS(0, map[0]);
}

static void Synchronizes(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  IS(3, write(fd, "abc", 3));
  OK(fsync(fd));
  OK(fdatasync(fd));
  OK(syncfs(fd));
  OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
  OK(fsync(open("file", O_RDONLY)));
  OK(fsync(open(".", O_RDONLY)));
  OK(fdatasync(open(".", O_RDONLY)));
  FAILS(EBADF, fsync(open("file", O_PATH)));
  OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1);
  HasText("file", "abc");
}

const struct Case data_cases[] = {
    {"data.reads_and_writes", ReadsAndWrites},
    {"data.large_transfers", LargeTransfers},
    {"data.large_offsets", LargeOffsets},
    {"data.two_descriptors", TwoDescriptors},
    {"data.fallocate", Allocates},
    {"data.punch", Punches},
    {"data.zero_range", ZeroesRanges},
    {"data.collapse", CollapsesAndInserts},
    {"data.ends", EndsOfData},
    {"data.holes", Holes},
    {"data.copy_file_range", Copies},
    {"data.sendfile", Sendfile},
    {"mmap.shared", SharedMappings},
    {"mmap.private", PrivateMappings},
    {"mmap.end_of_file", MappingsAndTheEnd},
    {"sync.all", Synchronizes},
    {NULL, NULL},
};
