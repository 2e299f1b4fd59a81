// as_user USER GROUP PROGRAM [ARGUMENT...]: runs a program as somebody else, by number.
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const gid_t group = (gid_t)atoi(argv[2]);
  const uid_t user = (uid_t)atoi(argv[1]);
  if (setgroups(0, NULL) != 0 || setresgid(group, group, group) != 0 ||
      setresuid(user, user, user) != 0) {
    perror("as_user");
    return 1;
  }
  execvp(argv[3], &argv[3]);
  perror(argv[3]);
  return 127;
}
