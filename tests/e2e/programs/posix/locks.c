// flock(2), fcntl(2) locks of processes and of open files.
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "cases.h"

static struct flock Range(short type, off_t start, off_t length) {
  return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static int Lock(int fd, int command, short type, off_t start, off_t length) {
  struct flock lock = Range(type, start, length);
  return fcntl(fd, command, &lock);
}

static void WholeFiles(void) {
  const int one = OK(open("file", O_CREAT | O_RDWR, 0644));
  const int two = OK(open("file", O_RDWR));
  OK(flock(one, LOCK_SH));
  OK(flock(two, LOCK_SH | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(one, LOCK_EX | LOCK_NB));
  OK(flock(two, LOCK_UN));
  OK(flock(one, LOCK_EX | LOCK_NB));
  FAILS(EWOULDBLOCK, flock(two, LOCK_SH | LOCK_NB));
  const int same = dup(one);
  OK(flock(same, LOCK_EX | LOCK_NB));
  close(one);
  FAILS(EWOULDBLOCK, flock(two, LOCK_SH | LOCK_NB));
  close(same);
  OK(flock(two, LOCK_EX | LOCK_NB));
}

static void ChildSeesLocks(void) {
  const int fd = open("file", O_RDWR);
  FAILS(EAGAIN, Lock(fd, F_SETLK, F_WRLCK, 5, 1));
  FAILS(EAGAIN, Lock(fd, F_SETLK, F_RDLCK, 14, 10));
  OK(Lock(fd, F_SETLK, F_WRLCK, 0, 5));
  OK(Lock(fd, F_SETLK, F_RDLCK, 15, 0));
  struct flock lock = Range(F_RDLCK, 0, 100);
  OK(fcntl(fd, F_GETLK, &lock));
  IS(F_WRLCK, lock.l_type);
  IS(5, lock.l_start);
  IS(10, lock.l_len);
  IS(getppid(), lock.l_pid);
}

static void Ranges(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(Lock(fd, F_SETLK, F_WRLCK, 5, 10));
  InChild(ChildSeesLocks);
  struct flock lock = Range(F_WRLCK, 0, 100);
  OK(fcntl(fd, F_GETLK, &lock));
  IS(F_UNLCK, lock.l_type);
}

static void ChildTakesAll(void) {
  const int fd = open("file", O_RDWR);
  OK(Lock(fd, F_SETLK, F_WRLCK, 0, 0));
}

// Closing any descriptor of a file gives up the process' locks on it.
static void LostByClose(void) {
  const int one = OK(open("file", O_CREAT | O_RDWR, 0644));
  const int two = OK(open("file", O_RDWR));
  OK(Lock(one, F_SETLK, F_WRLCK, 0, 0));
  close(two);
  InChild(ChildTakesAll);
}

static void OfOpenFiles(void) {
  const int one = OK(open("file", O_CREAT | O_RDWR, 0644));
  const int two = OK(open("file", O_RDWR));
  OK(Lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
  FAILS(EAGAIN, Lock(two, F_OFD_SETLK, F_WRLCK, 5, 10));
  OK(Lock(two, F_OFD_SETLK, F_WRLCK, 10, 10));
  close(one);
  OK(Lock(two, F_OFD_SETLK, F_WRLCK, 0, 30));
}

static void Waiting(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(Lock(fd, F_SETLK, F_WRLCK, 0, 0));
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const int mine = open("file", O_RDWR);
    _exit(Lock(mine, F_SETLKW, F_WRLCK, 0, 0) == 0 ? 5 : 6);
  }
  usleep(100 * 1000);
  int status = 0;
  IS(0, waitpid(child, &status, WNOHANG));
  OK(Lock(fd, F_SETLK, F_UNLCK, 0, 0));
  waitpid(child, &status, 0);
  IS(5, WEXITSTATUS(status));
}

static void Nothing(int number) {
  (void)number;
}

static void Interrupted(void) {
  const int one = OK(open("file", O_CREAT | O_RDWR, 0644));
  const int two = OK(open("file", O_RDWR));
  struct sigaction action = {.sa_handler = Nothing};
  sigaction(SIGUSR1, &action, NULL);
  OK(Lock(one, F_OFD_SETLK, F_WRLCK, 0, 0));
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    usleep(200 * 1000);
    kill(parent, SIGUSR1);
    _exit(0);
  }
  FAILS(EINTR, Lock(two, F_OFD_SETLKW, F_WRLCK, 0, 0));
  waitpid(child, NULL, 0);
}

// Two processes that wait for each other.
static void Deadlock(void) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0644));
  OK(Lock(fd, F_SETLK, F_WRLCK, 0, 1));
  const pid_t child = fork();
  if (child == 0) {
    const int mine = open("file", O_RDWR);
    Lock(mine, F_SETLK, F_WRLCK, 1, 1);
    _exit(Lock(mine, F_SETLKW, F_WRLCK, 0, 1) == 0 ? 0 : 1);
  }
  usleep(200 * 1000);
  alarm(10);
  FAILS(EDEADLK, Lock(fd, F_SETLKW, F_WRLCK, 1, 1));
  OK(Lock(fd, F_SETLK, F_UNLCK, 0, 1));
  waitpid(child, NULL, 0);
}

static void Errors(void) {
  const int fd = OK(open("file", O_CREAT | O_RDONLY, 0644));
  FAILS(EBADF, Lock(fd, F_SETLK, F_WRLCK, 0, 1));
  FAILS(EINVAL, Lock(fd, F_SETLK, F_RDLCK, -1, 1));
  OK(Lock(fd, F_SETLK, F_RDLCK, 0, 1));
  FAILS(EINVAL, flock(fd, 77));
}

const struct Case lock_cases[] = {
    {"lock.flock", WholeFiles},     {"lock.ranges", Ranges},  {"lock.lost_by_close", LostByClose},
    {"lock.open_files", OfOpenFiles}, {"lock.waiting", Waiting}, {"lock.interrupted", Interrupted},
    {"lock.deadlock", Deadlock},    {"lock.errors", Errors},  {NULL, NULL},
};
