// The policy language, and the compiler held against the reference evaluator: in a BPF interpreter
// and in the kernel.
#include "jail/policy.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>

#include "jail/compiler.h"
#include "jail/evaluator.h"
#include "jail/filter.h"
#include "jail/testing/bpf_interpreter.h"

namespace crosvm::jail {
namespace {

using ::testing::HasSubstr;

Result<Policy> Parse(const std::string& text, Arch arch = Arch::kX86_64,
                     const std::map<std::string, std::string>& others = {}) {
  const PolicyText file{.name = "test.policy", .text = text};
  return ParsePolicy({&file, 1}, arch,
                     [&](const std::string& path, const std::string&) -> Result<PolicyText> {
                       const auto found = others.find(path);
                       if (found == others.end()) return Fail(ErrorKind::kNotFound, "no {}", path);
                       return PolicyText{.name = path, .text = found->second};
                     });
}

std::string ErrorOf(const std::string& text,
                    const std::map<std::string, std::string>& others = {}) {
  const Result<Policy> policy = Parse(text, Arch::kX86_64, others);
  return policy.has_value() ? "no error" : policy.error().ToString();
}

seccomp_data Call(uint32_t number, std::vector<uint64_t> arguments = {}) {
  seccomp_data call{};
  call.nr = static_cast<int>(number);
  call.arch = AUDIT_ARCH_X86_64;
  for (size_t i = 0; i < arguments.size(); ++i) call.args[i] = arguments[i];
  return call;
}

// What the compiled policy says; a difference to the evaluator fails the test.
uint32_t Judge(const Policy& policy, const seccomp_data& call) {
  const auto code = CompilePolicy(policy);
  EXPECT_TRUE(code.has_value());
  const auto value = testing::RunBpf(*code, call);
  EXPECT_TRUE(value.has_value());
  EXPECT_EQ(*value, EvaluatePolicy(policy, call));
  return *value;
}

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kRead = 0;
constexpr uint32_t kOpen = 2;
constexpr uint32_t kMmap = 9;
constexpr uint32_t kIoctl = 16;

TEST(PolicyTest, CallsWithoutARuleAreDenied) {
  const Policy policy = *Parse("# nothing\nread: 1\nwrite: allow  # why\n");
  EXPECT_EQ(Judge(policy, Call(kRead)), kAllow);
  EXPECT_EQ(Judge(policy, Call(1)), kAllow);
  EXPECT_EQ(Judge(policy, Call(kOpen)), kReturnDenied);
  EXPECT_EQ(Judge(policy, Call(0x3fffffff)), kReturnDenied);
}

TEST(PolicyTest, OtherNumberingsAreForeign) {
  const Policy policy = *Parse("read: 1\n@default allow\n");
  seccomp_data call = Call(kRead);
  call.arch = AUDIT_ARCH_I386;
  EXPECT_EQ(Judge(policy, call), kReturnForeign);
  EXPECT_EQ(Judge(policy, Call(0x40000000)), kReturnForeign);
  EXPECT_EQ(Judge(policy, Call(0xffffffff)), kReturnForeign);
}

TEST(PolicyTest, EveryOperatorComparesAll64Bits) {
  const struct {
    std::string test;
    std::vector<uint64_t> yes;
    std::vector<uint64_t> no;
  } cases[] = {
      {"== 0x100000002", {0x100000002}, {2, 0x100000000, 0x200000002, 0x100000003}},
      {"!= 0x100000002", {2, 0x100000003, 0}, {0x100000002}},
      {"< 0x100000002", {0, 0x100000001, 0xffffffff}, {0x100000002, 0x200000000, UINT64_MAX}},
      {"<= 0x100000002", {0, 0x100000002, 0xffffffff}, {0x100000003, 0x200000000}},
      {"> 0x100000002", {0x100000003, 0x200000000, UINT64_MAX}, {0x100000002, 3, 0xffffffff}},
      {">= 0x100000002", {0x100000002, 0x200000000}, {0x100000001, 3, 0xffffffff}},
      {"& 0x100000002", {2, 3, 0x100000000, UINT64_MAX}, {0, 1, 0x200000000}},
      {"& 6", {2, 4, 7, 0x100000002}, {0, 1, 0x600000000}},
      {"in 0x100000002", {0, 2, 0x100000000, 0x100000002}, {1, 3, 0x200000000, UINT64_MAX}},
      {"in ~PROT_EXEC", {0, 3, uint64_t{1} << 63}, {4, 7, UINT64_MAX}},
      {"== -1", {UINT64_MAX}, {0xffffffff}},
  };
  for (const auto& test : cases) {
    for (const int argument : {0, 5}) {
      const Policy policy = *Parse(fmt::format("ioctl: arg{} {}\n", argument, test.test));
      for (const bool expected : {true, false}) {
        for (const uint64_t value : expected ? test.yes : test.no) {
          seccomp_data call = Call(kIoctl, std::vector<uint64_t>(6, ~value));
          call.args[argument] = value;
          EXPECT_EQ(Judge(policy, call) == kAllow, expected) << test.test << " of " << value;
        }
      }
    }
  }
}

TEST(PolicyTest, AndBindsBeforeOr) {
  const Policy policy = *Parse("ioctl: arg0 == 1 && arg1 == 2 || arg2 == 3; return EPERM");
  EXPECT_EQ(Judge(policy, Call(kIoctl, {1, 2, 0})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 0, 3})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {1, 0, 0})), SECCOMP_RET_ERRNO | EPERM);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 2, 0})), SECCOMP_RET_ERRNO | EPERM);
}

TEST(PolicyTest, ConstantsByNameAndNumber) {
  const Policy policy = *Parse(
      "mmap: arg2 == PROT_READ|PROT_WRITE && arg3 in (MAP_PRIVATE | 0x20 | 040000)\n"
      "clone3: return ENOSYS\nopen: return 2\nmadvise: arg2 == MADV_GUARD_INSTALL\n");
  EXPECT_EQ(Judge(policy, Call(kMmap, {0, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS | 040000})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kMmap, {0, 0, 7, MAP_PRIVATE})), kReturnDenied);
  EXPECT_EQ(Judge(policy, Call(435)), SECCOMP_RET_ERRNO | ENOSYS);
  EXPECT_EQ(Judge(policy, Call(kOpen)), SECCOMP_RET_ERRNO | ENOENT);
  EXPECT_EQ(Judge(policy, Call(28, {0, 0, 102})), kAllow);
}

TEST(PolicyTest, ConstantsOfTheTargetArchitecture) {
  EXPECT_EQ(*ConstantValue(kNativeArch, "O_DIRECT"), uint64_t{O_DIRECT});
  EXPECT_EQ(*ConstantValue(kNativeArch, "O_NOFOLLOW"), uint64_t{O_NOFOLLOW});
  EXPECT_EQ(*ConstantValue(kNativeArch, "O_DIRECTORY"), uint64_t{O_DIRECTORY});
  EXPECT_EQ(*ConstantValue(kNativeArch, "O_TMPFILE"), uint64_t{O_TMPFILE});
  EXPECT_NE(*ConstantValue(Arch::kX86_64, "O_DIRECT"), *ConstantValue(Arch::kAarch64, "O_DIRECT"));
  EXPECT_EQ(SyscallNumber(Arch::kAarch64, "open"), std::nullopt);
  EXPECT_EQ(SyscallNumber(Arch::kAarch64, "openat"), 56U);
  EXPECT_EQ(SyscallName(Arch::kX86_64, 257), "openat");
  EXPECT_EQ(SyscallName(Arch::kX86_64, 335), "");
}

TEST(PolicyTest, RulesOfOneCallAreJoined) {
  const std::map<std::string, std::string> common = {
      {"common.policy", "open: return ENOENT\nioctl: arg1 == 1\nread: arg0 == 0\n"}};
  const Policy policy = *Parse("@include common.policy\nioctl: arg1 == 2; return ENOTTY\nread: 1\n",
                               Arch::kX86_64, common);
  EXPECT_EQ(Judge(policy, Call(kOpen)), SECCOMP_RET_ERRNO | ENOENT);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 1})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 2})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 3})), SECCOMP_RET_ERRNO | ENOTTY);
  EXPECT_EQ(Judge(policy, Call(kRead, {7})), kAllow);
  std::string written;
  for (const Rule& rule : policy.written) written += rule.where + " " + rule.name + "\n";
  EXPECT_EQ(written,
            "common.policy:1 open\ncommon.policy:2 ioctl\ncommon.policy:3 read\n"
            "test.policy:2 ioctl\ntest.policy:3 read\n");
  EXPECT_THAT(ErrorOf("@include common.policy\nopen: return EPERM\n", common),
              HasSubstr("test.policy:2: open ends otherwise in common.policy:1"));
}

TEST(PolicyTest, DefaultsAndOtherActions) {
  const Policy policy = *Parse(
      "@default return EPERM\nread: log\nopen: trap\nmmap: kill\nioctl: kill-thread\nclose: arg0 "
      "== 1\n");
  EXPECT_EQ(Judge(policy, Call(kRead)), uint32_t{SECCOMP_RET_LOG});
  EXPECT_EQ(Judge(policy, Call(kOpen)), kReturnDenied);
  EXPECT_EQ(Judge(policy, Call(kMmap)), SECCOMP_RET_KILL_PROCESS);
  EXPECT_EQ(Judge(policy, Call(kIoctl)), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(Judge(policy, Call(3, {2})), SECCOMP_RET_ERRNO | EPERM);
  EXPECT_EQ(Judge(policy, Call(300)), SECCOMP_RET_ERRNO | EPERM);
}

TEST(PolicyTest, LinesAreContinued) {
  const Policy policy = *Parse("ioctl: arg1 == 1 || \\\n  arg1 == 2\nread: 1\n");
  EXPECT_EQ(Judge(policy, Call(kIoctl, {0, 2})), kAllow);
  EXPECT_EQ(Judge(policy, Call(kRead)), kAllow);
}

TEST(PolicyTest, ErrorsNameTheLineAndWhatIsKnown) {
  EXPECT_EQ(ErrorOf("read: 1\nopenaat: 1\n"),
            "test.policy:2: x86_64 has no system call 'openaat'; did you mean openat?");
  EXPECT_EQ(ErrorOf("read\n"),
            "test.policy:1: 'read' is not `NAME: FILTER`, and not one of @include, @default and "
            "@frequency");
  EXPECT_THAT(ErrorOf("\n\nread: arg6 == 1\n"), HasSubstr("test.policy:3: read: 'arg6' where an"));
  EXPECT_THAT(ErrorOf("read: arg0 = 1\n"), HasSubstr("one of == != < <= > >= & in"));
  EXPECT_THAT(ErrorOf("read: arg0 == FOO\n"), HasSubstr("no constant is called 'FOO'"));
  EXPECT_THAT(ErrorOf("read: arg0 == 99999999999999999999\n"),
              HasSubstr("not a number of 64 bits"));
  EXPECT_THAT(ErrorOf("read: 1 2\n"), HasSubstr("'2' after the end of the rule"));
  EXPECT_THAT(ErrorOf("read: return EFOO\n"), HasSubstr("no errno is called 'EFOO'"));
  EXPECT_THAT(ErrorOf("read: return 4096\n"), HasSubstr("above 4095"));
  EXPECT_THAT(ErrorOf("read: maybe\n"), HasSubstr("'maybe' is not an action; known are"));
  EXPECT_THAT(ErrorOf("read: { arg0 == 1 }\n"), HasSubstr("braces"));
  EXPECT_THAT(ErrorOf("read: (arg0 == 1)\n"), HasSubstr("'(arg0 == 1)' where an action"));
  EXPECT_THAT(ErrorOf("read: arg0 == 1 &&\n"), HasSubstr("'' where an argument is expected"));
  EXPECT_THAT(ErrorOf("read: arg0 && 1\n"), HasSubstr("has to be compared"));
  EXPECT_THAT(ErrorOf("read: arg0 inX 1\n"), HasSubstr("operator"));
  EXPECT_THAT(ErrorOf("read: arg0 == (1\n"), HasSubstr(") is expected"));
  EXPECT_THAT(ErrorOf("read: 1 \\\n"), HasSubstr("continued by a backslash"));
  EXPECT_THAT(ErrorOf("@include gone\n"), HasSubstr("test.policy:1: no gone"));
  EXPECT_THAT(ErrorOf("@once x\n"), HasSubstr("@once is not one of"));
  EXPECT_THAT(ErrorOf("@default 1\n@default kill\n"), HasSubstr("another @default"));
  EXPECT_THAT(ErrorOf("@frequency f\n", {{"f", "read: many"}}),
              HasSubstr("test.policy:1: f:1: 'read: many'"));
}

TEST(PolicyTest, Hostile_TextsAreBounded) {
  EXPECT_THAT(ErrorOf("@include a\n", {{"a", "@include a\n"}}), HasSubstr("more than 16 deep"));
  EXPECT_THAT(
      ErrorOf("@include a\n",
              {{"a", "@include b\n@include b\n"},
               {"b", "@include c\n@include c\n@include c\n"},
               {"c",
                "@include d\n@include d\n@include d\n@include d\n@include d\n@include d\n@include "
                "d\n@include d\n@include d\n@include d\n@include d\n@include d\n"},
               {"d", ""}}),
      HasSubstr("larger than 64 files"));
  EXPECT_THAT(ErrorOf("read: arg0 == " + std::string(100000, '~') + "1\n"),
              HasSubstr("too deeply"));
  EXPECT_THAT(ErrorOf("read: arg0 == " + std::string(100000, '(') + "1\n"),
              HasSubstr("too deeply"));
  std::string many = "read: arg0 == 1";
  for (int i = 0; i < 3000; ++i) many += " || arg0 == 1";
  EXPECT_THAT(ErrorOf(many), HasSubstr("comparisons"));
  EXPECT_THAT(ErrorOf(std::string(2 << 20, '\n')), HasSubstr("larger than"));
}

TEST(PolicyTest, FrequentCallsAreFoundSooner) {
  std::string text = "@frequency f\n";
  for (uint32_t number = 0; number < 300; number += 2) {
    text += fmt::format("{}: 1\n", SyscallName(Arch::kX86_64, number));
  }
  const Policy policy =
      *Parse(text, Arch::kX86_64, {{"f", "epoll_wait: 100000\nio_uring_enter: 1\nnot_here: 7\n"}});
  const std::vector<sock_filter> code = *CompilePolicy(policy);
  size_t hot = 0;
  size_t rare = 0;
  testing::RunBpf(code, Call(232), &hot);
  testing::RunBpf(code, Call(100), &rare);
  EXPECT_LE(hot, 8U);
  EXPECT_LT(hot, rare);
  EXPECT_LE(rare, 20U);
}

// A random policy over calls that do nothing with their arguments, and arguments near its
// constants.
class RandomPolicy {
 public:
  explicit RandomPolicy(uint32_t seed) : random_(seed) {}

  std::string Text(const std::vector<std::string>& names, size_t max_terms) {
    std::string text;
    for (const std::string& name : names) {
      if (Below(5) == 0) continue;
      text += name + ": ";
      switch (Below(6)) {
        case 0:
          text += "1\n";
          break;
        case 1:
          text += fmt::format("return {}\n", 1 + Below(4000));
          break;
        default:
          text += Expression(1 + Below(max_terms));
          if (Below(2) == 0) text += fmt::format("; return {}", 1 + Below(4000));
          text += "\n";
      }
    }
    return text;
  }

  uint64_t Value() {
    switch (Below(4)) {
      case 0:
        return Below(8);
      case 1:
        return (Below(4) << 32) | Below(4);
      case 2:
        return ~Below(4) ^ (Below(4) << 32);
      default:
        return kEdges[Below(std::size(kEdges))];
    }
  }
  uint64_t Below(uint64_t limit) { return random_() % limit; }

 private:
  static constexpr uint64_t kEdges[] = {0x7fffffff,  0x80000000,         0xffffffff,
                                        0x100000000, 0x8000000000000000, UINT64_MAX};

  std::string Expression(size_t terms) {
    std::string text;
    for (size_t i = 0; i < terms; ++i) {
      if (i != 0) text += Below(2) == 0 ? " && " : " || ";
      text += fmt::format("arg{} {} {}{:#x}", Below(6), kOperatorTexts[Below(8)],
                          Below(6) == 0 ? "~" : "", Value());
    }
    return text;
  }
  std::mt19937_64 random_;
};

TEST(PolicyTest, CompiledPoliciesAgreeWithTheReference) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    RandomPolicy random(seed);
    std::vector<std::string> names;
    for (uint32_t number = 0; number < 460; ++number) {
      const std::string_view name = SyscallName(Arch::kX86_64, number);
      if (!name.empty() && random.Below(seed % 5 + 2) == 0) names.emplace_back(name);
    }
    // Long bodies, so that jumps leave a byte's reach.
    std::string text = random.Text(names, seed % 7 == 0 ? 12 : 2);
    if (seed % 3 == 0) text += "@default return 77\n";
    const Result<Policy> policy = Parse(text);
    ASSERT_TRUE(policy.has_value()) << policy.error().ToString();
    const Result<std::vector<sock_filter>> code = CompilePolicy(*policy);
    ASSERT_TRUE(code.has_value() || seed % 7 == 0) << code.error().ToString();
    if (!code.has_value()) continue;
    for (int i = 0; i < 3000; ++i) {
      seccomp_data call = Call(static_cast<uint32_t>(random.Below(470)));
      for (__u64& argument : call.args) argument = random.Value();
      const auto value = testing::RunBpf(*code, call);
      ASSERT_TRUE(value.has_value());
      ASSERT_EQ(*value, EvaluatePolicy(*policy, call)) << "seed " << seed << " call " << call.nr;
    }
  }
}

// In a child: installs `code`, makes the calls, and returns the number that went otherwise than
// expected.
int RunInKernel(const std::vector<sock_filter>& code, const Policy& policy,
                const std::vector<seccomp_data>& calls) {
  std::vector<uint32_t> expected;
  for (const seccomp_data& call : calls) expected.push_back(EvaluatePolicy(policy, call));
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!InstallFilter(code, FilterScope::kProcess).has_value()) _exit(99);
    int wrong = 0;
    for (size_t i = 0; i < calls.size(); ++i) {
      const __u64* const a = calls[i].args;
      errno = 0;
      const long result = syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
      const bool allowed = expected[i] == SECCOMP_RET_ALLOW;
      const int error = static_cast<int>(expected[i] & SECCOMP_RET_DATA);
      if (allowed ? result < 0 : (result != -1 || errno != error)) ++wrong;
    }
    // Not _exit(): a sanitizer's would look for leaks, with calls that are now denied.
    syscall(SYS_exit_group, std::min(wrong, 98));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(PolicyTest, TheKernelAgreesWithTheReference) {
  const std::vector<std::string> harmless = {"getpid", "getppid", "getuid", "geteuid",
                                             "getgid", "getegid", "gettid", "sched_yield"};
  size_t allowed = 0;
  size_t refused = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    RandomPolicy random(1000 + seed);
    // What the child needs to report, and a mark in place of SIGSYS.
    const std::string text = random.Text(harmless, 6) + "exit_group: 1\n@default return 4001\n";
    const Result<Policy> policy = Parse(text, kNativeArch);
    ASSERT_TRUE(policy.has_value()) << policy.error().ToString();
    const std::vector<sock_filter> code = *CompilePolicy(*policy);
    std::vector<seccomp_data> calls;
    for (int i = 0; i < 500; ++i) {
      seccomp_data call{};
      call.arch = AuditArch(kNativeArch);
      call.nr =
          static_cast<int>(*SyscallNumber(kNativeArch, harmless[random.Below(harmless.size())]));
      for (__u64& argument : call.args) argument = random.Value();
      ++(EvaluatePolicy(*policy, call) == SECCOMP_RET_ALLOW ? allowed : refused);
      calls.push_back(call);
    }
    ASSERT_EQ(RunInKernel(code, *policy, calls), 0) << "seed " << seed << "\n" << text;
  }
  EXPECT_GT(allowed, 1000U);
  EXPECT_GT(refused, 1000U);
}

TEST(PolicyTest, TooLongAPolicyIsRefused) {
  std::string text;
  for (uint32_t number = 0; number < 300; ++number) {
    const std::string_view name = SyscallName(Arch::kX86_64, number);
    text += fmt::format("{}: arg0 == {} || arg1 < 2 || arg2 > 3 || arg3 != 4 || arg4 == 5\n", name,
                        number);
  }
  const Policy policy = *Parse(text);
  const Result<std::vector<sock_filter>> code = CompilePolicy(policy);
  ASSERT_FALSE(code.has_value());
  EXPECT_THAT(code.error().ToString(), HasSubstr("the kernel takes at most 4096"));
}

TEST(FilterTest, Hostile_BytesThatAreNoFilter) {
  EXPECT_FALSE(FilterFromBytes({}).has_value());
  EXPECT_FALSE(FilterFromBytes(std::vector<uint8_t>(7)).has_value());
  EXPECT_FALSE(FilterFromBytes(std::vector<uint8_t>(4097 * 8)).has_value());
  const std::vector<sock_filter> code = *CompilePolicy(*Parse("read: 1\n"));
  const std::vector<sock_filter> again = *FilterFromBytes(FilterToBytes(code));
  ASSERT_EQ(again.size(), code.size());
  EXPECT_EQ(memcmp(again.data(), code.data(), code.size() * sizeof(sock_filter)), 0);
}

}  // namespace
}  // namespace crosvm::jail
