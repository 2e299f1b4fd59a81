// The VMM's handle on a device wherever it lives: what the PCI transport drives.
// vhost_user::Frontend (jailed child, thread or foreign process) and vhost::KernelBackend
// (vhost-net, vhost-vsock) implement it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "virtio/device.h"
#include "virtio/queue.h"

namespace crosvm::virtio {

struct QueueActivation {
  uint16_t index = 0;
  uint16_t size = 0;
  RingAddresses addresses;
  RingPosition position;               // zero but after suspend or restart
  const sys::EventFd* kick = nullptr;  // borrowed for the call
  const sys::EventFd* call = nullptr;
};

// Events of the backend, on a thread of its choosing; they must return quickly and take no lock
// that a Backend call is made under.
struct BackendEvents {
  std::function<void()> config_changed;
  // The device process is gone or broke the protocol. The owner supervises: restart, reset or stop.
  std::function<void(Error)> failed;
};

// Of a failed Backend call: the device answers no more, though it may work until its process has
// ended. Any other failure is a refusal.
inline bool MeansLost(const Error& error) {
  return error.kind() == ErrorKind::kTimedOut || error.kind() == ErrorKind::kDisconnected;
}

// Called by the transport on a vCPU thread (with its lock held) or by the main thread. Calls may
// block on the device process for at most the frontend's timeout; a device that does not answer
// gives kTimedOut, never a hang; see MeansLost().
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const std::string& name() const = 0;  // "block[0]", for messages
  virtual const DeviceInfo& info() const = 0;
  virtual void SetEvents(BackendEvents events) = 0;

  virtual Status ReadConfig(uint32_t offset, std::span<uint8_t> data) = 0;
  virtual Status WriteConfig(uint32_t offset, std::span<const uint8_t> data) = 0;

  // At FEATURES_OK: whether the device can work with exactly these (a subset of info().features).
  virtual Status CheckFeatures(uint64_t features) = 0;
  // At DRIVER_OK, and after Suspend(): hands over memory, features and the enabled queues. A
  // refusal leaves the device idle. When it is lost, the backend keeps the queues for a successor.
  virtual Status Activate(const memory::GuestMemory& memory, uint64_t features,
                          std::span<const QueueActivation> queues) = 0;
  // One queue alone: enabling after DRIVER_OK, and queue reset (virtio 1.2, 2.6.1). A refusal
  // leaves it stopped. When the device is lost, the backend keeps the queue for a successor.
  virtual Status StartQueue(const QueueActivation& queue) = 0;
  // Whatever comes of it, the queue is the driver's again.
  virtual Result<RingPosition> StopQueue(uint16_t index) = 0;
  // VM suspend: drains and stops all queues, and returns the positions of those that ran, by index.
  // What the device knows of its driver stays (open files, negotiation, filters): Activate() goes
  // on, with the same queues and features and these positions. When the device is lost, the
  // backend keeps the queues, and what was in flight, for a successor and the next Activate().
  virtual Result<std::vector<RingPosition>> Suspend() = 0;
  // The driver resets the device: drains and stops all queues; the device forgets its driver, and
  // the backend the queues, whatever comes of it.
  virtual Status Deactivate() = 0;
};

}  // namespace crosvm::virtio
