#include "hypervisor/kvm/kvm_vcpu.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/checked_math.h"
#include "base/log.h"
#include "hypervisor/kvm/ioctl.h"

namespace crosvm::hypervisor {
namespace {

// Interrupting the system call is all that a kick wants.
void OnKick(int) {
}

const char* SuberrorName(uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "an instruction that it cannot emulate";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "two exceptions at once";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "an exit while delivering an event";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "an exit reason that it does not know";
    default:
      return "an unknown problem";
  }
}

std::string Hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{}{:02x}", text.empty() ? "" : " ", byte);
  return text;
}

}  // namespace

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::Create(sys::UniqueFd fd, VcpuId id, size_t run_size,
                                                 int xsave_size) {
  sys::MappedRegion run =
      TRY(sys::MappedRegion::Shared(fd, 0, run_size, sys::MapAccess::kReadWrite));
  return std::unique_ptr<KvmVcpu>(new KvmVcpu(std::move(fd), id, std::move(run), xsave_size));
}

kvm_run* KvmVcpu::run() const {
  // SAFETY: the mapping is page-aligned, at least sizeof(kvm_run) long (checked by KvmVm) and
  // shared with the kernel only.
  return reinterpret_cast<kvm_run*>(run_.data());
}

void KvmVcpu::SetImmediateExit(bool on) const {
  // ORDERING: sequentially consistent, so that a kick's store is before its signal on every CPU.
  __atomic_store_n(&run()->immediate_exit, on ? uint8_t{1} : uint8_t{0}, __ATOMIC_SEQ_CST);
}

Status KvmVcpu::BindToThread() {
  struct sigaction action{};
  action.sa_handler = OnKick;
  // KVM_RUN comes back even so; whatever else this thread waits in goes on.
  action.sa_flags = SA_RESTART;
  if (sigaction(SIGRTMIN, &action, nullptr) != 0) return FailErrno("installing the kick signal");
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  if (const int err = pthread_sigmask(SIG_UNBLOCK, &set, nullptr); err != 0) {
    return std::unexpected(Error::FromErrno(err, "unblocking the kick signal"));
  }
  // ORDERING: release, the handler is installed before anybody sends the signal.
  thread_.store(gettid(), std::memory_order_release);
  return {};
}

void KvmVcpu::Kick() {
  // First the flag, then the signal: before its check of the flag the kernel sees the flag, after
  // it the signal.
  SetImmediateExit(true);
  // ORDERING: acquire, pairs with BindToThread().
  const pid_t thread = thread_.load(std::memory_order_acquire);
  // A thread that has ended is not an error; a stranger that got its number ignores the signal.
  if (thread != 0) syscall(SYS_tgkill, getpid(), thread, SIGRTMIN);
}

Result<VcpuExit> KvmVcpu::Run() {
  while (true) {
    if (ioctl(fd_.get(), KVM_RUN, 0) == 0) {
      if (run()->exit_reason != KVM_EXIT_INTR) return Decode();
      errno = EINTR;
    }
    switch (errno) {
      case EINTR:
        // A kick that comes between the kernel's return and here is answered by this return too.
        SetImmediateExit(false);
        return ExitInterrupted{};
      case EAGAIN:
        // A secondary vCPU got its start-up interrupt.
        break;
      case EFAULT:
        if (run()->exit_reason == KVM_EXIT_INTERNAL_ERROR) return Decode();
        return FailErrno("running vCPU {}: guest memory cannot be accessed", id_.value());
      default:
        return FailErrno("running vCPU {}", id_.value());
    }
  }
}

Result<VcpuExit> KvmVcpu::DecodePortIo() const {
  kvm_run* const page = run();
  const uint64_t length = uint64_t{page->io.size} * page->io.count;
  if (!RangeFits<uint64_t>(page->io.data_offset, length, run_.size())) {
    return Fail(ErrorKind::kInternal, "vCPU {}: port data beyond the run page", id_.value());
  }
  return ExitPortIo{
      .port = page->io.port,
      .write = page->io.direction == KVM_EXIT_IO_OUT,
      .size = page->io.size,
      // SAFETY: in bounds of the run page, as checked.
      .data = {run_.data() + page->io.data_offset, static_cast<size_t>(length)},
  };
}

ExitInternalError KvmVcpu::DecodeInternalError() const {
  const kvm_run& page = *run();
  ExitInternalError exit{.suberror = page.internal.suberror, .message = {}};
  exit.message = fmt::format("vCPU {}: KVM met {} (suberror {})", id_.value(),
                             SuberrorName(exit.suberror), exit.suberror);
  const size_t words = std::min<size_t>(page.internal.ndata, std::size(page.internal.data));
  const auto& failure = page.emulation_failure;
  // The instruction needs the flags word, its length, and 15 bytes of its own.
  if (exit.suberror == KVM_INTERNAL_ERROR_EMULATION && words >= 4 &&
      (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
    const size_t size = std::min<size_t>(failure.insn_size, sizeof(failure.insn_bytes));
    exit.message += fmt::format("; instruction bytes {}", Hex({failure.insn_bytes, size}));
  } else {
    for (size_t i = 0; i < words; ++i) {
      exit.message += fmt::format("{}{:#x}", i == 0 ? "; data " : " ", page.internal.data[i]);
    }
  }
  if (const Result<kvm_regs> regs = GetRegs()) {
    exit.message += fmt::format("; rip {:#x}", regs->rip);
  }
  return exit;
}

Result<VcpuExit> KvmVcpu::Decode() const {
  kvm_run* const page = run();
  switch (page->exit_reason) {
    case KVM_EXIT_IO:
      return DecodePortIo();
    case KVM_EXIT_MMIO:
      return ExitMmio{
          .address = page->mmio.phys_addr,
          .write = page->mmio.is_write != 0,
          .data = {page->mmio.data, std::min<size_t>(page->mmio.len, sizeof(page->mmio.data))},
      };
    case KVM_EXIT_HLT:
      return ExitHalt{};
    case KVM_EXIT_SHUTDOWN:
      return ExitShutdown{};
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return ExitInterruptWindow{};
    case KVM_EXIT_IOAPIC_EOI:
      return ExitIoapicEoi{.vector = page->eoi.vector};
    case KVM_EXIT_SYSTEM_EVENT:
      return ExitSystemEvent{.type = page->system_event.type};
    case KVM_EXIT_DEBUG:
      return ExitDebug{
          .pc = page->debug.arch.pc,
          .exception = page->debug.arch.exception,
          .dr6 = page->debug.arch.dr6,
          .dr7 = page->debug.arch.dr7,
      };
    case KVM_EXIT_FAIL_ENTRY:
      return ExitFailEntry{.reason = page->fail_entry.hardware_entry_failure_reason};
    case KVM_EXIT_INTERNAL_ERROR:
      return DecodeInternalError();
    default:
      return ExitUnknown{.reason = page->exit_reason};
  }
}

void KvmVcpu::NotifyPaused() {
  const Result<int> result = kvm::Ioctl(fd_, KVM_REQUEST(KVM_KVMCLOCK_CTRL));
  // EINVAL: the guest does not use the paravirtual clock.
  if (!result && result.error().sys_errno() != EINVAL) {
    LOG_WARN("vCPU {}: {}", id_.value(), result.error().ToString());
  }
}

bool KvmVcpu::ReadyForInterrupt() const {
  return run()->ready_for_interrupt_injection != 0 && run()->if_flag != 0;
}

Status KvmVcpu::InjectInterrupt(uint8_t vector) {
  return kvm::IoctlSet(fd_, KVM_REQUEST(KVM_INTERRUPT), kvm_interrupt{.irq = vector});
}

void KvmVcpu::RequestInterruptWindow(bool on) {
  run()->request_interrupt_window = on ? 1 : 0;
}

}  // namespace crosvm::hypervisor
