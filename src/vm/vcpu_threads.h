// The threads that run the guest: one for each vCPU, in the VMM process. They touch the buses and
// nothing else of the VM.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/bus.h"
#include "hypervisor/vcpu.h"

namespace crosvm::vm {

// Why a vCPU cannot go on. Reported once a vCPU, which then waits for the end of the VM.
enum class VcpuStop : uint8_t {
  kTripleFault,  // the guest's own doing: a reset on real hardware
  kCrash,        // the hypervisor cannot run the guest any further
};

// The part of a user-space interrupt controller that vCPU threads drive (--split-irqchip).
// Thread-safe.
class UserIrqChip {
 public:
  virtual ~UserIrqChip() = default;
  // The boot CPU asks before each entry: whether the 8259 pair requests an interrupt, and which.
  virtual bool PicRequests() = 0;
  virtual std::optional<uint8_t> AcknowledgePic() = 0;
  virtual void IoapicEoi(uint8_t vector) = 0;
};

struct VcpuThreadOptions {
  bus::Bus* io_bus = nullptr;
  bus::Bus* mmio_bus = nullptr;
  UserIrqChip* user_irq_chip = nullptr;  // null: all chips are in the kernel
  // Runs on the vCPU's own thread before its first entry: affinity, priority, registers.
  std::function<Status(hypervisor::Vcpu&)> prepare;
  // Runs on the vCPU's own thread when it is first resumed: what it must not have in the guest.
  std::function<Status()> confine;
  // What may have led to an access of the guest that the host could not carry out; null: nothing to
  // say. Called on vCPU threads.
  std::function<std::string()> explain_fault;
  // Called on vCPU threads.
  std::function<void(VcpuStop, std::string why)> stopped;
};

// Owned and called by the main thread.
class VcpuThreads {
 public:
  VcpuThreads(std::vector<std::unique_ptr<hypervisor::Vcpu>> vcpus, VcpuThreadOptions options);
  ~VcpuThreads();  // Stop()
  VcpuThreads(const VcpuThreads&) = delete;
  VcpuThreads& operator=(const VcpuThreads&) = delete;

  // Starts the threads and waits until each has prepared its vCPU; none has entered the guest yet
  // (they are paused).
  Status Start();
  // Lets all vCPUs run.
  void Resume();
  // Returns when no vCPU is in the guest or in a device access.
  void Pause();
  // Ends and joins the threads.
  void Stop();

 private:
  enum class State : uint8_t { kPaused, kRunning, kExiting };

  void ThreadMain(hypervisor::Vcpu& vcpu);
  // Waits while paused; false when the thread is to end. `idle` is this thread's own mark that it
  // is counted in idle_.
  bool WaitToRun(hypervisor::Vcpu& vcpu, bool& idle);
  // False when the vCPU cannot go on.
  bool Dispatch(hypervisor::VcpuExit& exit);
  void InjectFromPic(hypervisor::Vcpu& vcpu);
  void ReportStop(VcpuStop stop, std::string why);
  void KickAll();

  const std::vector<std::unique_ptr<hypervisor::Vcpu>> vcpus_;
  const VcpuThreadOptions options_;
  std::vector<std::thread> threads_;

  // ORDERING: written under mutex_; read without it only as a hint before each entry.
  std::atomic<State> state_{State::kPaused};
  Mutex mutex_;
  CondVar changed_;
  size_t prepared_ CROSVM_GUARDED_BY(mutex_) = 0;
  size_t idle_ CROSVM_GUARDED_BY(mutex_) = 0;  // threads outside the guest and its devices
  std::optional<Error> failure_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::vm
