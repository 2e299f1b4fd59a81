#include "jail/report.h"

#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>

#include "base/log.h"
#include "jail/signal_text.h"
#include "jail/syscall_table.h"

namespace crosvm::jail {
namespace {

constexpr size_t kMaxWords = 16384;
constexpr size_t kAlternateStackBytes = 65536;
constexpr size_t kMaxObjects = 32;
constexpr size_t kMaxFrames = 12;
// As si_code says for SIGSYS from a filter.
constexpr int kSeccompCode = 1;

// A loaded program or library, to print addresses that do not depend on where it was loaded.
struct Object {
  uintptr_t base;
  uintptr_t begin;
  uintptr_t end;
  std::array<char, 32> name;
};

// Everything that the handlers read, filled before they are installed.
struct State {
  std::array<char, 32> label{};
  std::array<char, 128> source{};
  int words = -1;
  void (*before_death)() = nullptr;
  std::array<Object, kMaxObjects> objects{};
  size_t object_count = 0;
};
State state;
// Of a thread with a narrower filter; empty: State::source.
thread_local std::string_view thread_source;
// Zero until a thread begins a fatal report; others then wait for the end instead of mixing in.
std::atomic<int> reporting{0};
std::array<std::atomic<uint64_t>, 16> logged_calls{};

template <size_t size>
void CopyText(std::array<char, size>& to, std::string_view from) {
  const size_t length = std::min(from.size(), size - 1);
  memcpy(to.data(), from.data(), length);
  to[length] = '\0';
}

// --- everything from here to InstallReports() is async-signal-safe ---

// The instruction that LogInsteadOfDeny() lets pass.
extern "C" long CrosvmLoggedCall(long number, const uint64_t* arguments);
extern "C" const char crosvm_logged_call_returns[] __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(R"(
  .text
  .hidden CrosvmLoggedCall
  .globl CrosvmLoggedCall
  .type CrosvmLoggedCall, @function
CrosvmLoggedCall:
  movq %rdi, %rax
  movq %rsi, %r11
  movq 0(%r11), %rdi
  movq 8(%r11), %rsi
  movq 16(%r11), %rdx
  movq 24(%r11), %r10
  movq 32(%r11), %r8
  movq 40(%r11), %r9
  syscall
  .hidden crosvm_logged_call_returns
  .globl crosvm_logged_call_returns
crosvm_logged_call_returns:
  ret
  .size CrosvmLoggedCall, . - CrosvmLoggedCall
)");
#else
asm(R"(
  .text
  .hidden CrosvmLoggedCall
  .globl CrosvmLoggedCall
  .type CrosvmLoggedCall, %function
CrosvmLoggedCall:
  mov x8, x0
  mov x9, x1
  ldp x0, x1, [x9, #0]
  ldp x2, x3, [x9, #16]
  ldp x4, x5, [x9, #32]
  svc #0
  .hidden crosvm_logged_call_returns
  .globl crosvm_logged_call_returns
crosvm_logged_call_returns:
  ret
  .size CrosvmLoggedCall, . - CrosvmLoggedCall
)");
#endif

// A system call without the C library, and the one way that a filter of LogInsteadOfDeny() never
// denies.
long Call(long number, uint64_t first = 0, uint64_t second = 0, uint64_t third = 0) {
  const uint64_t arguments[6] = {first, second, third, 0, 0, 0};
  return CrosvmLoggedCall(number, arguments);
}

void Write(int fd, std::string_view text) {
  // SAFETY: the kernel reads it. A full pipe or a closed terminal must not keep the process from
  // dying.
  Call(SYS_write, static_cast<uint64_t>(fd), reinterpret_cast<uintptr_t>(text.data()), text.size());
}

void Emit(const SignalText& text) {
  Write(STDERR_FILENO, text.view());
  if (state.words >= 0) Write(state.words, text.view());
}

void AppendAddress(SignalText& text, uintptr_t address) {
  for (size_t i = 0; i < state.object_count; ++i) {
    const Object& object = state.objects[i];
    if (address < object.begin || address >= object.end) continue;
    text.Text(object.name.data()).Text("+").Hex(address - object.base);
    return;
  }
  text.Hex(address);
}

void AppendWho(SignalText& text) {
  std::array<char, 17> thread{};
  // SAFETY: PR_GET_NAME writes 16 bytes.
  if (Call(SYS_prctl, PR_GET_NAME, reinterpret_cast<uintptr_t>(thread.data())) != 0)
    thread[0] = '?';
  text.Text(state.label.data()).Text(" (pid ").Decimal(static_cast<uint64_t>(Call(SYS_getpid)));
  text.Text(", thread ").Decimal(static_cast<uint64_t>(Call(SYS_gettid)));
  text.Text(" '").Text(thread.data()).Text("')");
}

struct Registers {
  uintptr_t instruction;
  uintptr_t stack;
  uintptr_t frame;
  std::array<uint64_t, 6> arguments;
};

Registers ReadRegisters(const ucontext_t& context) {
  Registers out{};
#if defined(__x86_64__)
  const auto reg = [&](int index) {
    return static_cast<uint64_t>(context.uc_mcontext.gregs[index]);
  };
  out.instruction = reg(REG_RIP);
  out.stack = reg(REG_RSP);
  out.frame = reg(REG_RBP);
  out.arguments = {reg(REG_RDI), reg(REG_RSI), reg(REG_RDX),
                   reg(REG_R10), reg(REG_R8),  reg(REG_R9)};
#else
  out.instruction = context.uc_mcontext.pc;
  out.stack = context.uc_mcontext.sp;
  out.frame = context.uc_mcontext.regs[29];
  for (size_t i = 0; i < 6; ++i) out.arguments[i] = context.uc_mcontext.regs[i];
#endif
  return out;
}

void SetResult(ucontext_t& context, long result) {
#if defined(__x86_64__)
  context.uc_mcontext.gregs[REG_RAX] = result;
#else
  context.uc_mcontext.regs[0] = static_cast<uint64_t>(result);
#endif
}

// The callers by their frame pointers, which our code keeps. A damaged chain ends the list, or
// faults, which ends the process after the report's first and most important part.
void AppendCallers(SignalText& text, const Registers& registers) {
  constexpr uintptr_t kMaxStep = 1 << 16;
  text.Text("  called from:");
  uintptr_t frame = registers.frame;
  uintptr_t below = registers.stack;
  for (size_t i = 0; i < kMaxFrames; ++i) {
    if (frame % sizeof(uintptr_t) != 0 || frame < below || frame - below > kMaxStep) break;
    uintptr_t saved[2];
    // SAFETY: checked to be near the stack pointer; see above for what happens if it is not mapped.
    memcpy(saved, reinterpret_cast<const void*>(frame), sizeof(saved));
    text.Text(" ");
    AppendAddress(text, saved[1]);
    below = frame + 1;
    frame = saved[0];
  }
  text.Text("\n");
}

// The argument that decides whether a call is harmless, where permitting any value would be too
// much.
int DecidingArgument(std::string_view name) {
  constexpr struct {
    std::string_view name;
    int argument;
  } kCalls[] = {{"ioctl", 1},      {"fcntl", 1},      {"prctl", 0},
                {"socket", 0},     {"socketpair", 0}, {"mmap", 2},
                {"mprotect", 2},   {"clone", 0},      {"madvise", 2},
                {"arch_prctl", 0}, {"unshare", 0},    {"memfd_create", 1},
                {"bpf", 0},        {"keyctl", 0},     {"ptrace", 0},
                {"setsockopt", 2}, {"getsockopt", 2}, {"io_uring_register", 1},
                {"membarrier", 0}};
  for (const auto& call : kCalls) {
    if (call.name == name) return call.argument;
  }
  return -1;
}

void AppendRule(SignalText& text, uint32_t number, const uint64_t* arguments) {
  const std::string_view name = SyscallName(kNativeArch, number);
  if (name.empty()) {
    text.Text("none: the call is not known");
    return;
  }
  text.Text(name).Text(": ");
  const int deciding = DecidingArgument(name);
  if (deciding < 0) {
    text.Text("1");
  } else {
    text.Text("arg").Decimal(static_cast<uint64_t>(deciding)).Text(" == ").Hex(arguments[deciding]);
  }
}

void AppendCall(SignalText& text, const siginfo_t& info, const Registers& registers) {
  const auto number = static_cast<uint32_t>(info.si_syscall);
  if (info.si_arch != AuditArch(kNativeArch)) {
    text.Text("call ").Decimal(number).Text(" of architecture ").Hex(info.si_arch);
  } else {
    const std::string_view name = SyscallName(kNativeArch, number);
    if (name.empty()) {
      text.Text("call ").Decimal(number);
    } else {
      text.Text(name);
    }
  }
  text.Text("(");
  for (size_t i = 0; i < registers.arguments.size(); ++i) {
    if (i != 0) text.Text(", ");
    text.Hex(registers.arguments[i]);
  }
  text.Text(")");
}

void ReportDenied(const siginfo_t& info, const Registers& registers, std::string_view verdict) {
  SignalText text;
  AppendWho(text);
  text.Text(verdict);
  AppendCall(text, info, registers);
  text.Text(" at ");
  // SAFETY: si_call_addr is an address of the program.
  AppendAddress(text, reinterpret_cast<uintptr_t>(info.si_call_addr));
  text.Text("\n  rule that allows it: ");
  if (info.si_arch == AuditArch(kNativeArch)) {
    AppendRule(text, static_cast<uint32_t>(info.si_syscall), registers.arguments.data());
  } else {
    text.Text("none: foreign system calls are never allowed");
  }
  text.Text("   (in ")
      .Text(thread_source.empty() ? std::string_view(state.source.data()) : thread_source)
      .Text(")\n");
  Emit(text);
  SignalText callers;
  AppendCallers(callers, registers);
  Emit(callers);
}

// One report, by the first thread that needs it. False for a second one in the same thread: the
// report itself failed.
bool BeginFatalReport() {
  const auto self = static_cast<int>(Call(SYS_gettid));
  int nobody = 0;
  // ORDERING: relaxed; only the identity of the winner matters.
  if (reporting.compare_exchange_strong(nobody, self, std::memory_order_relaxed)) return true;
  if (nobody == self) return false;
  while (true) Call(SYS_sched_yield);
}

// A call that every policy of ours denies: with SIGSYS blocked, as it is in its handler, the kernel
// then kills the process by that signal, even as process 1 of its namespace. Not [[noreturn]]:
// before a call of such a function the address sanitizer inspects the stack, which it cannot do on
// an alternate one.
void DieBySigsys() {
  constexpr long kNoSuchCall = 0x40000000 | 0xfff;
  syscall(kNoSuchCall);
  Call(SYS_exit_group, 128 + SIGSYS);
  __builtin_trap();
}

bool FirstOfItsKind(uint32_t number) {
  if (number >= logged_calls.size() * 64) return true;
  const uint64_t bit = uint64_t{1} << (number % 64);
  // ORDERING: relaxed; it only thins out messages.
  return (logged_calls[number / 64].fetch_or(bit, std::memory_order_relaxed) & bit) == 0;
}

std::atomic<bool> log_only{false};

void OnDeniedCall(int, siginfo_t* info, void* opaque) {
  const int saved_errno = errno;
  auto& context = *static_cast<ucontext_t*>(opaque);
  const Registers registers = ReadRegisters(context);
  const bool denied = info->si_code == kSeccompCode;
  // ORDERING: relaxed; set before the filter is there.
  if (denied && log_only.load(std::memory_order_relaxed) &&
      info->si_errno == static_cast<int>(kReturnDenied & SECCOMP_RET_DATA)) {
    if (FirstOfItsKind(static_cast<uint32_t>(info->si_syscall))) {
      ReportDenied(*info, registers, ": not allowed, but made as failures are only logged: ");
    }
    SetResult(context, CrosvmLoggedCall(info->si_syscall, registers.arguments.data()));
    errno = saved_errno;
    return;
  }
  if (!BeginFatalReport()) DieBySigsys();
  if (denied) {
    ReportDenied(*info, registers, ": denied system call ");
  }
  if (state.before_death != nullptr) state.before_death();
  DieBySigsys();
}

void OnCrash(int signal, siginfo_t* info, void* opaque) {
  if (!BeginFatalReport()) Call(SYS_exit_group, uint64_t{128} + static_cast<uint64_t>(signal));
  const Registers registers = ReadRegisters(*static_cast<ucontext_t*>(opaque));
  SignalText text;
  AppendWho(text);
  text.Text(": crashed by ").Text(CrashSignalName(signal));
  if (signal == SIGSEGV || signal == SIGBUS) {
    // SAFETY: only printed.
    text.Text(" at address ").Hex(reinterpret_cast<uintptr_t>(info->si_addr));
  }
  text.Text(", instruction ");
  AppendAddress(text, registers.instruction);
  text.Text("\n");
  Emit(text);
  SignalText callers;
  AppendCallers(callers, registers);
  callers.Text("  its last log lines:\n");
  Emit(callers);
  DumpRecentLog(STDERR_FILENO);
  if (state.words >= 0) DumpRecentLog(state.words);
  if (state.before_death != nullptr) state.before_death();
  // abort() cannot kill process 1 of a namespace by a signal. The others happen again on return and
  // then kill.
  if (signal == SIGABRT) Call(SYS_exit_group, 128 + SIGABRT);
}

// --- end of the async-signal-safe part ---

int AddObject(dl_phdr_info* info, size_t, void*) {
  if (state.object_count == state.objects.size()) return 1;
  Object object{.base = info->dlpi_addr, .begin = UINTPTR_MAX, .end = 0, .name = {}};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    object.begin = std::min(object.begin, info->dlpi_addr + header.p_vaddr);
    object.end = std::max(object.end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
  }
  std::string_view name = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  name = name.substr(name.rfind('/') + 1);
  CopyText(object.name, name.empty() ? "crosvm" : name);
  state.objects[state.object_count++] = object;
  return 0;
}

Status UseAlternateStack() {
  void* const memory = mmap(nullptr, kAlternateStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return FailErrno("allocating a stack for signal handlers");
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = kAlternateStackBytes;
  if (sigaltstack(&stack, nullptr) != 0) return FailErrno("setting the stack of signal handlers");
  return {};
}

}  // namespace

Result<LastWords::Ends> LastWords::Create() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) return FailErrno("making a pipe for last words");
  Ends ends;
  ends.reader.fd_ = sys::UniqueFd(fds[0]);
  ends.writer = sys::UniqueFd(fds[1]);
  return ends;
}

std::string LastWords::Read() const {
  std::string words(kMaxWords, '\0');
  size_t size = 0;
  while (fd_.valid() && size < words.size()) {
    const ssize_t got =
        sys::RetryEintr([&] { return read(fd_.get(), words.data() + size, words.size() - size); });
    if (got <= 0) break;
    size += static_cast<size_t>(got);
  }
  words.resize(size);
  // TRUST: bytes of a process that may be hostile; printable from here on.
  for (char& c : words) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte >= 0x7f) c = '?';
  }
  return words;
}

Status InstallReports(ReportOptions options) {
  CopyText(state.label, options.label);
  CopyText(state.source, options.source.empty() ? "its policy" : options.source);
  state.words = options.words.Release();
  state.before_death = options.before_death;
  state.object_count = 0;
  dl_iterate_phdr(&AddObject, nullptr);
  TRY(UseAlternateStack());

  struct sigaction action{};
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  action.sa_sigaction = &OnDeniedCall;
  if (sigaction(SIGSYS, &action, nullptr) != 0) return FailErrno("handling SIGSYS");
  // The default comes back, so that the fault that a return repeats is the end.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
  action.sa_sigaction = &OnCrash;
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE}) {
    if (sigaction(signal, &action, nullptr) != 0) return FailErrno("handling a crash signal");
  }
  return {};
}

void SetThreadReportSource(std::string_view source) {
  thread_source = source;
}

std::vector<sock_filter> LogInsteadOfDeny(std::span<const sock_filter> code) {
  // ORDERING: relaxed; the filter comes later, and with it what reads this.
  log_only.store(true, std::memory_order_relaxed);
  // SAFETY: the address of an instruction of ours.
  const auto allowed =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(crosvm_logged_call_returns));
  constexpr uint32_t kAddress = offsetof(seccomp_data, instruction_pointer);
  std::vector<sock_filter> out = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AuditArch(kNativeArch), 0, 7),
      // The way back from the handler.
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 4, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAddress),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(allowed), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAddress + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(allowed >> 32), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  out.insert(out.end(), code.begin(), code.end());
  return out;
}

std::string AllowingRule(uint32_t number, std::span<const uint64_t, 6> arguments) {
  SignalText text;
  AppendRule(text, number, arguments.data());
  return std::string(text.view());
}

}  // namespace crosvm::jail

#ifdef CROSVM_SANITIZED
// Asked by the leak checker at exit: its tracer is a process, which a confined one cannot make.
extern "C" int __lsan_is_turned_off();
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() {
  return crosvm::jail::state.object_count != 0 ? 1 : 0;
}
#endif
