// A virtio device on the PCI bus (virtio 1.2, 4.1; modern interface only): a pci::Function in front
// of a Backend. Owns the registers, the doorbells and the interrupts; the rings and the data are
// the backend's business. Runs in the VMM: register accesses on vCPU threads, the rest on the main
// thread.
//
// BAR 0 (32-bit memory, 32 KiB):
//   0x0000 common configuration   0x2000 device configuration   0x6000 MSI-X table
//   0x1000 ISR                    0x3000 notify, 4 bytes a queue 0x7000 MSI-X pending bits
// BAR 4 (64-bit, prefetchable): shared memory, when the device has some.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/device.h"
#include "bus/interrupt_line.h"
#include "memory/guest_memory.h"
#include "pci/function.h"
#include "pci/interrupts.h"
#include "sys/event_fd.h"
#include "virtio/backend.h"
#include "virtio/pci_common_config.h"
#include "virtio/shared_memory.h"

namespace crosvm::virtio {

inline constexpr uint8_t kTransportBar = 0;
inline constexpr uint8_t kSharedMemoryBar = 4;
inline constexpr uint64_t kTransportBarSize = 0x8000;
inline constexpr uint32_t kIsrOffset = 0x1000;
inline constexpr uint32_t kDeviceConfigOffset = 0x2000;
inline constexpr uint32_t kDeviceConfigSize = 0x1000;
inline constexpr uint32_t kNotifyOffset = 0x3000;
inline constexpr uint32_t kNotifySize = 0x1000;
inline constexpr uint32_t kNotifyMultiplier = 4;
inline constexpr uint32_t kMsixTableOffset = 0x6000;
inline constexpr uint32_t kMsixPendingOffset = 0x7000;

// Lock order: the Root's locks, then mutex_, then those of Interrupts, the router and the VM.
// Backend calls are made under mutex_; BackendEvents take no lock of the transport.
class PciTransport final : public pci::Function, public std::enable_shared_from_this<PciTransport> {
 public:
  struct Options {
    std::shared_ptr<Backend> backend;
    memory::GuestMemory memory;
    uint64_t feature_mask = ~uint64_t{0};         // features of the backend that may be offered
    std::unique_ptr<bus::InterruptLine> intx;     // null: MSI-X only
    uint8_t intx_pin = 1;                         // 1 = INTA; used when there is an `intx`
    uint8_t intx_irq = 0;                         // for the interrupt line register
    std::shared_ptr<SharedMemory> shared_memory;  // BAR 4; null: none
    // The backend is gone or does not answer; any thread, maybe with the transport's lock held, so
    // only hand it on (EventLoop::Post). The owner then ends it, and starts a successor and calls
    // Reattached(), or calls GiveUp(). When empty, the transport marks itself, and a reset does not
    // wait.
    std::function<void(Error)> failed;
  };

  // kInvalidArgument when the device has more queues or configuration than the layout above can
  // hold.
  static Result<std::shared_ptr<PciTransport>> Create(const pci::InterruptContext& context,
                                                      Options options);
  // On the main thread. Does not deactivate the backend.
  ~PciTransport() override;

  // VM suspend: drains the backend and keeps the ring positions. The vCPUs are stopped. A failure
  // leaves the transport paused; the backend goes on from its in-flight records when it has a
  // successor.
  Status Pause();
  // The reverse; also signals every queue once, so that nothing that came meanwhile is missed. What
  // fails is the owner's to hear (Options::failed) or makes the device need a reset.
  void Unpause();
  // The backend has a successor that was given the queues of its predecessor
  // (vhost_user::Frontend::Reattach): goes on with it. Activates it if the predecessor never was,
  // finishes a reset that waited for the predecessor's end. Every queue is signalled once, so that
  // nothing that came meanwhile is missed.
  Status Reattached();
  // The backend is gone for good, and works no more as far as it can be helped. Finishes a reset
  // that waited for that, or marks the device as in need of one.
  void GiveUp();
  // Sets DEVICE_NEEDS_RESET (2.1.2) and tells the driver. Any thread.
  void MarkNeedsReset();

  // The backend is gone, and no successor has come. Any thread.
  bool lost() const { return backend_gone_.load(); }

  bool driver_ok() const;
  uint64_t driver_features() const;
  Backend& backend() { return *backend_; }

  // pci::Function
  std::shared_ptr<bus::Device> BarDevice(uint8_t bar) override;
  void OnBarMoved(uint8_t bar, std::optional<uint64_t> base) override;

 protected:
  void OnConfigRead(uint32_t offset, std::span<uint8_t> data) override;
  void OnConfigWritten(uint32_t offset, std::span<const uint8_t> data) override;

 private:
  // BAR 0 on the bus.
  class Registers final : public bus::Device {
   public:
    explicit Registers(PciTransport& transport) : transport_(transport) {}
    std::string_view name() const override { return transport_.backend_->name(); }
    void Read(uint64_t offset, std::span<uint8_t> data) override {
      transport_.ReadBar(offset, data);
    }
    void Write(uint64_t offset, std::span<const uint8_t> data) override {
      transport_.WriteBar(offset, data);
    }

   private:
    PciTransport& transport_;
  };

  PciTransport(const pci::InterruptContext& context, Options& options);
  Status Initialize(const pci::InterruptContext& context, Options& options);
  Status AddCapabilities();
  Status AddSharedMemory();

  // TRUST: offset and width are the guest's in these.
  void ReadBar(uint64_t offset, std::span<uint8_t> data);
  void WriteBar(uint64_t offset, std::span<const uint8_t> data);
  void ReadCommon(uint32_t offset, std::span<uint8_t> data);
  void WriteCommon(uint32_t offset, std::span<const uint8_t> data);
  void ReadDeviceConfig(uint32_t offset, std::span<uint8_t> data);
  void WriteDeviceConfig(uint32_t offset, std::span<const uint8_t> data);
  // Where the window of VIRTIO_PCI_CAP_PCI_CFG points (4.1.4.9); length 0 when to nothing.
  struct Window {
    uint32_t offset = 0;
    uint32_t length = 0;
  };
  Window ConfigWindow() const;

  void Perform(const CommonConfigAction& action) CROSVM_REQUIRES(mutex_);
  void Start() CROSVM_REQUIRES(mutex_);
  void Reset() CROSVM_REQUIRES(mutex_);
  // The backend does not answer, and the owner has not ended it yet.
  bool AwaitsEnd() const CROSVM_REQUIRES(mutex_);
  void FinishReset() CROSVM_REQUIRES(mutex_);
  void FinishQueueReset(uint16_t index) CROSVM_REQUIRES(mutex_);
  // Of the device and of queues, those that waited for the backend's end.
  void FinishResets() CROSVM_REQUIRES(mutex_);
  void EnableQueue(uint16_t index) CROSVM_REQUIRES(mutex_);
  void ResetQueue(uint16_t index) CROSVM_REQUIRES(mutex_);
  Status Activate() CROSVM_REQUIRES(mutex_);
  Result<QueueActivation> MakeActivation(uint16_t index) CROSVM_REQUIRES(mutex_);
  void SignalAllQueues() CROSVM_REQUIRES(mutex_);
  // Makes the ioeventfds match the enabled queues and the BAR.
  void UpdateIoEvents() CROSVM_REQUIRES(mutex_);
  void SetIoEvent(uint16_t index, std::optional<uint64_t> address) CROSVM_REQUIRES(mutex_);
  // An answer of the backend that means it is gone, or that the driver's set-up cannot work.
  void OnBackendError(Error error) CROSVM_REQUIRES(mutex_);

  void OnConfigChanged();
  void OnBackendFailed(Error error);
  void SignalConfig();
  size_t config_source() const { return kicks_.size(); }

  hypervisor::Vm& vm_;
  const std::shared_ptr<Backend> backend_;
  const memory::GuestMemory memory_;
  const std::shared_ptr<SharedMemory> shared_memory_;  // null: none
  const std::function<void(Error)> failed_;
  Registers registers_{*this};
  std::vector<sys::EventFd> kicks_;  // constant after Create()
  std::shared_ptr<pci::Interrupts> interrupts_;
  uint8_t window_capability_ = 0;

  mutable Mutex mutex_;
  CommonConfig common_ CROSVM_GUARDED_BY(mutex_);
  bool active_ CROSVM_GUARDED_BY(mutex_) = false;     // the backend has the queues
  bool suspended_ CROSVM_GUARDED_BY(mutex_) = false;  // and has been told to rest
  bool reset_due_ CROSVM_GUARDED_BY(mutex_) = false;  // a reset waits for the backend's end
  bool given_up_ CROSVM_GUARDED_BY(mutex_) = false;   // there will be no successor
  bool paused_ CROSVM_GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> bar_base_ CROSVM_GUARDED_BY(mutex_);
  std::vector<RingPosition> positions_ CROSVM_GUARDED_BY(mutex_);
  // What the driver has read of the configuration space last.
  std::vector<uint8_t> seen_config_ CROSVM_GUARDED_BY(mutex_);
  std::vector<std::optional<uint64_t>> io_events_ CROSVM_GUARDED_BY(mutex_);

  // Set by the backend's thread without mutex_, which may be held by a call that waits for that
  // very thread.
  std::atomic<bool> needs_reset_{false};
  std::atomic<bool> backend_gone_{false};
  std::atomic<bool> running_{false};  // DRIVER_OK
  std::atomic<uint8_t> generation_{0};
};

}  // namespace crosvm::virtio
