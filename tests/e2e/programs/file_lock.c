// file_lock PATH exclusive|shared: takes a lock (fcntl(2)) on the whole file, if nobody is in the way, and says
// so; keeps it until its input ends.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int fd = open(argv[1], O_RDWR);
  struct flock lock = {.l_type = strcmp(argv[2], "shared") == 0 ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
  if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0) {
    printf("%s\n", strerror(errno));
    return 1;
  }
  puts("locked");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  return 0;
}
