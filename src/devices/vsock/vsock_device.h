// virtio-vsock (virtio 1.2, 5.10) over Unix sockets of the host. Lives in the vsock process, on the
// thread of its loop.
#pragma once

#include <memory>
#include <optional>

#include "devices/vsock/connector.h"
#include "devices/vsock/host_listener.h"
#include "devices/vsock/stream_table.h"
#include "event/event_loop.h"
#include "virtio/device.h"

namespace crosvm::devices::vsock {

class VsockDevice final : public virtio::Device {
 public:
  // `cid` is the guest's. `listener`: where programs of the host connect; may be invalid (tests).
  static Result<std::unique_ptr<VsockDevice>> Create(event::EventLoop& loop, uint64_t cid,
                                                     std::unique_ptr<Connector> connector,
                                                     sys::UniqueFd listener);
  ~VsockDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;

  const StreamTable& streams() const { return streams_; }

 private:
  VsockDevice(event::EventLoop& loop, uint64_t cid, std::unique_ptr<Connector> connector);

  void OnKick(uint16_t index);
  void Transmit();
  void Receive();
  void SendEvent();
  // Runs Transmit() or Receive() again soon: more may be there, and the driver was told not to
  // notify.
  void Again(uint16_t queue);

  event::EventLoop& loop_;
  const Le64 cid_;
  virtio::DeviceInfo info_;
  const std::unique_ptr<Connector> connector_;
  StreamTable streams_;
  std::unique_ptr<HostListener> listener_;
  std::optional<virtio::Queue> queues_[3];
  event::Watch kicks_[3];
  // The driver's buffer for the next event. Held, so that a successor of this process finds it in
  // its in-flight records and knows that there were streams.
  std::optional<virtio::Chain> event_buffer_;
  // The driver may know of streams that this process does not.
  bool reset_due_ = false;
  // Since the process began or the driver reset the device, so that queues that are not at their
  // start belonged to another process.
  bool fresh_ = true;
  bool transmit_waits_ = false;         // for room among the answers
  bool posted_[2] = {};                 // Again() was called for the queue
  std::shared_ptr<VsockDevice*> self_;  // posted callbacks hold a weak reference
};

}  // namespace crosvm::devices::vsock
