#include "vm/vcpu_threads.h"

#include <pthread.h>

#include <cerrno>

#include "base/check.h"
#include "base/log.h"

namespace crosvm::vm {
namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

void HandlePortIo(bus::Bus& bus, const hypervisor::ExitPortIo& io) {
  for (size_t done = 0; done + io.size <= io.data.size(); done += io.size) {
    const std::span<uint8_t> data = io.data.subspan(done, io.size);
    if (io.write) {
      bus.Write(io.port, data);
    } else {
      bus.Read(io.port, data);
    }
  }
}

void HandleMmio(bus::Bus& bus, const hypervisor::ExitMmio& mmio) {
  if (mmio.write) {
    bus.Write(mmio.address, mmio.data);
  } else {
    bus.Read(mmio.address, mmio.data);
  }
}

}  // namespace

VcpuThreads::VcpuThreads(std::vector<std::unique_ptr<hypervisor::Vcpu>> vcpus,
                         VcpuThreadOptions options)
    : vcpus_(std::move(vcpus)), options_(std::move(options)) {
}

VcpuThreads::~VcpuThreads() {
  Stop();
}

Status VcpuThreads::Start() {
  CHECK(threads_.empty());
  for (const std::unique_ptr<hypervisor::Vcpu>& vcpu : vcpus_) {
    threads_.emplace_back([this, raw = vcpu.get()] { ThreadMain(*raw); });
  }
  MutexLock lock(mutex_);
  while (prepared_ < vcpus_.size()) changed_.Wait(mutex_);
  if (failure_) return std::unexpected(failure_->Clone());
  return {};
}

void VcpuThreads::Resume() {
  MutexLock lock(mutex_);
  if (state_ != State::kPaused) return;
  state_ = State::kRunning;
  changed_.NotifyAll();
}

void VcpuThreads::Pause() {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kRunning) return;
    state_ = State::kPaused;
  }
  KickAll();
  MutexLock lock(mutex_);
  while (idle_ < threads_.size()) changed_.Wait(mutex_);
}

void VcpuThreads::Stop() {
  if (threads_.empty()) return;
  {
    MutexLock lock(mutex_);
    state_ = State::kExiting;
    changed_.NotifyAll();
  }
  KickAll();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void VcpuThreads::KickAll() {
  for (const std::unique_ptr<hypervisor::Vcpu>& vcpu : vcpus_) vcpu->Kick();
}

void VcpuThreads::ThreadMain(hypervisor::Vcpu& vcpu) {
  pthread_setname_np(pthread_self(), fmt::format("vcpu{}", vcpu.id().value()).c_str());
  Status ready = vcpu.BindToThread();
  if (ready.has_value() && options_.prepare) ready = options_.prepare(vcpu);
  bool idle = true;
  {
    MutexLock lock(mutex_);
    ++prepared_;
    ++idle_;
    if (!ready.has_value() && !failure_) {
      failure_ = std::move(ready).error().Context(fmt::format("vcpu {}", vcpu.id().value()));
    }
    changed_.NotifyAll();
  }
  bool confined = false;
  while (WaitToRun(vcpu, idle)) {
    if (!std::exchange(confined, true) && options_.confine) {
      const Status status = options_.confine();
      if (!status.has_value()) {
        ReportStop(VcpuStop::kCrash, status.error().ToString());
        break;
      }
    }
    if (options_.user_irq_chip != nullptr && vcpu.id().value() == 0) InjectFromPic(vcpu);
    Result<hypervisor::VcpuExit> exit = vcpu.Run();
    if (!exit.has_value()) {
      std::string why = exit.error().ToString();
      if (exit.error().sys_errno() == EFAULT && options_.explain_fault) {
        why += options_.explain_fault();
      }
      ReportStop(VcpuStop::kCrash, std::move(why));
      break;
    }
    if (!Dispatch(*exit)) break;
  }
  MutexLock lock(mutex_);
  if (!idle) ++idle_;
  changed_.NotifyAll();
}

bool VcpuThreads::WaitToRun(hypervisor::Vcpu& vcpu, bool& idle) {
  // ORDERING: a hint only. A change of state is followed by a kick, which ends the next Run() and
  // leads back here.
  if (!idle && state_.load(std::memory_order_relaxed) == State::kRunning) return true;
  MutexLock lock(mutex_);
  if (!idle) {
    if (state_ == State::kPaused) vcpu.NotifyPaused();
    idle = true;
    ++idle_;
    changed_.NotifyAll();
  }
  while (state_ == State::kPaused) changed_.Wait(mutex_);
  if (state_ == State::kExiting) return false;
  idle = false;
  --idle_;
  return true;
}

bool VcpuThreads::Dispatch(hypervisor::VcpuExit& exit) {
  return std::visit(
      Overloaded{
          [this](const hypervisor::ExitPortIo& io) {
            HandlePortIo(*options_.io_bus, io);
            return true;
          },
          [this](const hypervisor::ExitMmio& mmio) {
            HandleMmio(*options_.mmio_bus, mmio);
            return true;
          },
          [this](const hypervisor::ExitIoapicEoi& eoi) {
            if (options_.user_irq_chip != nullptr) options_.user_irq_chip->IoapicEoi(eoi.vector);
            return true;
          },
          [](const hypervisor::ExitInterrupted&) { return true; },
          [](const hypervisor::ExitInterruptWindow&) { return true; },
          [](const hypervisor::ExitHalt&) { return true; },
          [](const hypervisor::ExitDebug&) { return true; },
          [this](const hypervisor::ExitShutdown&) {
            ReportStop(VcpuStop::kTripleFault, "triple fault");
            return false;
          },
          [this](const hypervisor::ExitSystemEvent& event) {
            ReportStop(VcpuStop::kCrash, fmt::format("system event {}", event.type));
            return false;
          },
          [this](const hypervisor::ExitFailEntry& entry) {
            ReportStop(
                VcpuStop::kCrash,
                fmt::format("the CPU refused to enter the guest, reason {:#x}", entry.reason));
            return false;
          },
          [this](const hypervisor::ExitInternalError& error) {
            ReportStop(VcpuStop::kCrash, error.message);
            return false;
          },
          [this](const hypervisor::ExitUnknown& unknown) {
            ReportStop(VcpuStop::kCrash, fmt::format("unknown KVM exit {}", unknown.reason));
            return false;
          },
      },
      exit);
}

void VcpuThreads::InjectFromPic(hypervisor::Vcpu& vcpu) {
  UserIrqChip& chip = *options_.user_irq_chip;
  if (!chip.PicRequests()) {
    // A request that was withdrawn leaves no window behind, which every entry would end in at once.
    vcpu.RequestInterruptWindow(false);
    return;
  }
  if (!vcpu.ReadyForInterrupt()) {
    vcpu.RequestInterruptWindow(true);
    return;
  }
  if (const std::optional<uint8_t> vector = chip.AcknowledgePic()) {
    const Status injected = vcpu.InjectInterrupt(*vector);
    if (!injected.has_value())
      LOG_WARN("injecting vector {}: {}", *vector, injected.error().ToString());
  }
  // Another one may be pending behind it.
  vcpu.RequestInterruptWindow(chip.PicRequests());
}

void VcpuThreads::ReportStop(VcpuStop stop, std::string why) {
  if (options_.stopped) options_.stopped(stop, std::move(why));
}

}  // namespace crosvm::vm
