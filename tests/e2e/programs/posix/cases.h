// What the cases of posix_cases are written with. A case is a function without arguments; it starts
// as root, with umask 0, in an empty directory of its own, in a process of its own. Each of its
// checks that fails prints a line.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct Case {
  const char* name;  // group.what
  void (*run)(void);
};

// The table of each file, ended by an empty entry.
extern const struct Case path_cases[];
extern const struct Case open_cases[];
extern const struct Case name_cases[];
extern const struct Case rename_cases[];
extern const struct Case attribute_cases[];
extern const struct Case time_cases[];
extern const struct Case user_cases[];
extern const struct Case data_cases[];
extern const struct Case xattr_cases[];
extern const struct Case directory_cases[];
extern const struct Case lock_cases[];

// The call succeeds (gives no negative number); gives its value.
#define OK(call) CheckDone((long)(call), 0, __LINE__, #call)
// The call gives -1 and that error.
#define FAILS(error, call) CheckFails((long)(call), error, __LINE__, #call)
// Both are equal.
#define IS(wanted, value) CheckEqual((long long)(wanted), (long long)(value), __LINE__, #value)
#define TRUE_(condition) CheckEqual(1, (condition) ? 1 : 0, __LINE__, #condition)

long CheckDone(long result, long least, int line, const char* text);
void CheckFails(long result, int error, int line, const char* text);
void CheckEqual(long long wanted, long long got, int line, const char* text);
// For tables: `what` names the entry. `error` 0: success is expected.
void CheckError(long result, int error, const char* what);

// --- users. The ids below are in every map that the tests use.

enum { kUser = 1000, kGroup = 1000, kOther = 1001, kOtherGroup = 1001, kShared = 2000 };
// With no supplementary groups; AsRoot() goes back.
void As(unsigned user, unsigned group);
void AsMember(unsigned user, unsigned group, unsigned supplementary);
void AsRoot(void);

// --- shorthands

// Makes a file with that text and mode; as whom the caller is.
void Make(const char* path, const char* text, mode_t mode);
void MakeDir(const char* path, mode_t mode);
int Touch(const char* path);         // O_CREAT | O_EXCL; the result of open, closed
struct stat Stat(const char* path);  // lstat; zeros when that fails
mode_t Mode(const char* path);       // with the set-id and sticky bits, without the type
// The file has exactly that text.
void HasText(const char* path, const char* text);
// Longer than the clock of the host's file systems takes for a step.
void Tick(void);
// Which times of `path` differ from `before`: "amc", "" for none.
const char* Changed(const char* path, const struct stat* before);
#define CHANGED(wanted, path, before) CheckText(wanted, Changed(path, before), __LINE__, path)
void CheckText(const char* wanted, const char* got, int line, const char* text);
// Runs `body` in a child; gives its wait status.
int InChild(void (*body)(void));
