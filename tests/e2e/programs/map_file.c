// map_file PATH: maps a file (shared, for writing if it may) and does what its input says, a line each, with an answer each:
//   put OFFSET TEXT   writes into the mapping: "done"
//   get OFFSET LENGTH what the mapping has there, dots for bytes that are not printed
// "SIGBUS" when there is nothing to access. The mapping is 64 MiB, whatever the size of the file.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf fault;

static void OnFault(int number) {
  siglongjmp(fault, number);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  int protection = PROT_READ | PROT_WRITE;
  int fd = open(argv[1], O_RDWR);
  if (fd < 0) {
    protection = PROT_READ;
    fd = open(argv[1], O_RDONLY);
  }
  char* const data = mmap(NULL, 64 << 20, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    perror(argv[1]);
    return 1;
  }
  signal(SIGBUS, OnFault);
  char line[4096];
  while (fgets(line, sizeof(line), stdin)) {
    line[strcspn(line, "\n")] = 0;
    char* rest = NULL;
    const size_t offset = strtoul(line + 3, &rest, 10);
    if (sigsetjmp(fault, 1) != 0) {
      puts("SIGBUS");
    } else if (strncmp(line, "put", 3) == 0) {
      memcpy(data + offset, rest + 1, strlen(rest + 1));
      puts("done");
    } else {
      const size_t length = strtoul(rest, NULL, 10);
      for (size_t i = 0; i < length; ++i) {
        const char byte = *(volatile char*)(data + offset + i);
        putchar(byte > ' ' && byte <= '~' ? byte : '.');
      }
      putchar('\n');
    }
    fflush(stdout);
  }
  return 0;
}
