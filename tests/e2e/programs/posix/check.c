// The checks and shorthands of cases.h.
#include <grp.h>
#include <sys/wait.h>
#include <time.h>

#include "cases.h"

int failed_checks = 0;
const char* case_name = "";

static void Fail(int line, const char* text) {
  ++failed_checks;
  printf("FAIL %s: ", case_name);
  if (line != 0) printf("line %d: ", line);
  printf("%s: ", text);
}

static const char* Outcome(long result, int error) {
  static char text[64];
  if (result >= 0) return "success";
  snprintf(text, sizeof(text), "%s", strerrorname_np(error) ? strerrorname_np(error) : "?");
  return text;
}

long CheckDone(long result, long least, int line, const char* text) {
  const int error = errno;
  if (result < least) {
    Fail(line, text);
    printf("expected success, got %s\n", Outcome(result, error));
  }
  return result;
}

void CheckFails(long result, int error, int line, const char* text) {
  const int got = errno;
  if (result == -1 && got == error) return;
  Fail(line, text);
  printf("expected %s, got %s\n", strerrorname_np(error), Outcome(result, got));
}

void CheckEqual(long long wanted, long long got, int line, const char* text) {
  if (wanted == got) return;
  Fail(line, text);
  printf("expected %lld (0%llo), got %lld (0%llo)\n", wanted, wanted, got, got);
}

void CheckError(long result, int error, const char* what) {
  const int got = errno;
  if (error == 0 ? result >= 0 : result == -1 && got == error) return;
  Fail(0, what);
  printf("expected %s, got %s\n", error == 0 ? "success" : strerrorname_np(error), Outcome(result, got));
}

void CheckText(const char* wanted, const char* got, int line, const char* text) {
  if (strcmp(wanted, got) == 0) return;
  Fail(line, text);
  printf("expected '%s', got '%s'\n", wanted, got);
}

static void Become(unsigned user, unsigned group, int count, const gid_t* groups) {
  AsRoot();
  if (setgroups(count, groups) != 0 || setegid(group) != 0 || seteuid(user) != 0) {
    perror("becoming a user");
    _exit(3);
  }
}

void As(unsigned user, unsigned group) {
  Become(user, group, 0, NULL);
}

void AsMember(unsigned user, unsigned group, unsigned supplementary) {
  const gid_t groups[] = {supplementary};
  Become(user, group, 1, groups);
}

void AsRoot(void) {
  if (seteuid(0) != 0 || setegid(0) != 0 || setgroups(0, NULL) != 0) _exit(3);
}

void Make(const char* path, const char* text, mode_t mode) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  CheckError(fd, 0, path);
  const size_t length = strlen(text);
  if (length != 0) CheckEqual((long long)length, write(fd, text, length), 0, path);
  close(fd);
  CheckError(chmod(path, mode), 0, path);
}

void MakeDir(const char* path, mode_t mode) {
  CheckError(mkdir(path, mode), 0, path);
  CheckError(chmod(path, mode), 0, path);
}

int Touch(const char* path) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (fd >= 0) close(fd);
  return fd;
}

struct stat Stat(const char* path) {
  struct stat status = {0};
  CheckError(lstat(path, &status), 0, path);
  return status;
}

mode_t Mode(const char* path) {
  return Stat(path).st_mode & 07777;
}

void HasText(const char* path, const char* text) {
  char buffer[256] = "";
  const int fd = open(path, O_RDONLY);
  CheckError(fd, 0, path);
  const ssize_t got = read(fd, buffer, sizeof(buffer) - 1);
  buffer[got > 0 ? got : 0] = '\0';
  CheckText(text, buffer, 0, path);
  close(fd);
}

void Tick(void) {
  nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

static int Differs(struct timespec a, struct timespec b) {
  return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

const char* Changed(const char* path, const struct stat* before) {
  static char text[4];
  const struct stat now = Stat(path);
  char* end = text;
  if (Differs(now.st_atim, before->st_atim)) *end++ = 'a';
  if (Differs(now.st_mtim, before->st_mtim)) *end++ = 'm';
  if (Differs(now.st_ctim, before->st_ctim)) *end++ = 'c';
  *end = '\0';
  return text;
}

int InChild(void (*body)(void)) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    body();
    fflush(stdout);
    _exit(failed_checks != 0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (status != 0) ++failed_checks;
  return status;
}
