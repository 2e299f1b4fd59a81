// posix_cases DIR [PREFIX]: what POSIX and Linux promise of a file system, tried in DIR, as root and as users. With PREFIX
// only the cases whose names begin so. A line for each check that fails, then `N passed, N failed` of cases.
#include <ftw.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "cases.h"

static const struct Case* const kTables[] = {path_cases, open_cases, name_cases,  rename_cases,    attribute_cases, time_cases,
                                             user_cases, data_cases, xattr_cases, directory_cases, lock_cases};

static int RemoveOne(const char* path, const struct stat* status, int type, struct FTW* walk) {
  (void)status, (void)type, (void)walk;
  return remove(path) == 0 ? 0 : (perror(path), 0);
}

static void RunHere(const struct Case* entry) {
  struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  alarm(60);  // a hang is a failure
  umask(0);
  extern int failed_checks;
  extern const char* case_name;
  case_name = entry->name;
  if (getenv("VERBOSE") != NULL) printf("%s\n", entry->name), fflush(stdout);
  entry->run();
  AsRoot();
  fflush(stdout);
  _exit(failed_checks != 0);
}

static int Run(const struct Case* entry) {
  char directory[32];
  snprintf(directory, sizeof(directory), "case%d", getpid());
  if (mkdir(directory, 0777) != 0 || chmod(directory, 0777) != 0) {
    printf("FAIL %s: its directory: %s\n", entry->name, strerror(errno));
    return 1;
  }
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(directory) != 0) _exit(2);
    RunHere(entry);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) printf("FAIL %s: ended by signal %d\n", entry->name, WTERMSIG(status));
  nftw(directory, RemoveOne, 16, FTW_DEPTH | FTW_PHYS);
  return status != 0;
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--owner") == 0) return 40 + (int)(geteuid() % 10);  // user.set_user_program
  prctl(PR_SET_SECUREBITS, 0);  // a user has no capabilities, whatever started this
  if (argc < 2 || chdir(argv[1]) != 0) return 2;
  const char* const prefix = argc > 2 ? argv[2] : "";
  int passed = 0;
  int failed = 0;
  for (size_t i = 0; i < sizeof(kTables) / sizeof(kTables[0]); ++i) {
    for (const struct Case* entry = kTables[i]; entry->name != NULL; ++entry) {
      if (strncmp(entry->name, prefix, strlen(prefix)) != 0) continue;
      if (Run(entry) == 0) ++passed;
      else ++failed;
    }
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
