// The device process' end of vhost-user: drives one virtio::Device for one connected front-end (our
// VMM, QEMU, …). Runs on the device's event loop, in a jailed child, a thread of the VMM or a
// stand-alone process.
//
// The front-end is not trusted: wrong order, sizes, descriptors or addresses end the connection
// with an error.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "event/event_loop.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "sys/mapped_region.h"
#include "sys/socket.h"
#include "vhost_user/backend_channel.h"
#include "vhost_user/message.h"
#include "virtio/device.h"

namespace crosvm::vhost_user {

struct BackendServerOptions {
  // Guest memory must be sealed against shrinking. Our VMM's is; QEMU's is not.
  bool require_seals = true;
  // The end of the connection resets the device, as it does for a front-end that knows of no
  // successors. Otherwise what the device keeps for one stays.
  bool reset_at_end = true;
};

class BackendServer {
 public:
  // Called once, posted on the loop, when the connection has ended, all queues are stopped and the
  // device is reset (reset_at_end); the server may be destroyed in it. An orderly close of the peer
  // is kDisconnected.
  using Closed = std::function<void(Error why)>;

  // `loop` and `device` outlive the server. Destroying the server before it has closed is allowed
  // only when no queue of the device runs any more (or the device is destroyed first).
  static Result<std::unique_ptr<BackendServer>> Create(event::EventLoop& loop,
                                                       virtio::Device& device,
                                                       sys::UnixSocket socket,
                                                       BackendServerOptions options,
                                                       Closed on_closed);
  ~BackendServer();
  BackendServer(const BackendServer&) = delete;
  BackendServer& operator=(const BackendServer&) = delete;

  // Ends the connection from this side; `on_closed` follows.
  void Close(Error why);
  // What the front-end has acknowledged of the protocol.
  uint64_t protocol_features() const { return protocol_features_; }

 private:
  enum class RingState : uint8_t { kStopped, kRunning, kStopping };

  struct Vring {
    uint16_t size = 0;
    std::optional<VringAddr> addresses;
    uint32_t base = 0;     // as in SET_VRING_BASE; its meaning depends on the ring format
    bool started = false;  // a kick descriptor was given, and the position not yet asked for
    bool enabled = false;
    RingState state = RingState::kStopped;
    // The in-flight records may hold requests that were not submitted again yet.
    bool recovery_pending = true;
    sys::EventFd kick;
    sys::EventFd call;
    sys::EventFd error;
    std::shared_ptr<sys::EventFd> running_call;
    std::vector<std::function<void()>> when_stopped;
  };

  // The front-end's name for a range of guest memory, in which it gives ring addresses.
  struct UserRange {
    uint64_t user_address = 0;
    uint64_t size = 0;
    memory::GuestAddr guest;
  };

  BackendServer(event::EventLoop& loop, virtio::Device& device, sys::UnixSocket socket,
                BackendServerOptions options, Closed on_closed);

  void OnReadable();
  // Messages wait while one is being worked on that takes time.
  void Pause();
  void Resume();
  Status Handle(Message& message);
  Status Reply(const Message& to, std::span<const uint8_t> payload,
               std::span<const sys::BorrowedFd> fds = {});
  Status ReplyU64(const Message& to, uint64_t value);
  // The answer to a message that has none of its own, if one was asked for. Failures are not fatal
  // here: the caller decides.
  Status Acknowledge(uint32_t request, uint32_t flags, bool success);

  Status SetFeatures(const Message& message);
  Status SetProtocolFeatures(const Message& message);
  Status SetMemTable(Message& message);
  Status SetVringNum(const Message& message);
  Status SetVringAddr(const Message& message);
  Status SetVringBase(const Message& message);
  Status GetVringBase(const Message& message);
  Status SetVringKick(Message& message);
  Status SetVringCall(Message& message);
  Status SetVringErr(Message& message);
  Status SetVringEnable(const Message& message);
  Status SetBackendReqFd(Message& message);
  Status GetShmemConfig(const Message& message);
  Status GetConfig(const Message& message);
  Status SetConfig(const Message& message);
  Status GetInflightFd(const Message& message);
  Status SetInflightFd(Message& message);
  Status SetStatus(const Message& message);
  void ResetDevice(uint32_t request, uint32_t flags);

  Result<Vring*> StoppedVring(uint64_t index);
  struct VringFile {
    uint16_t index = 0;
    sys::EventFd event;
  };
  Result<VringFile> TakeVringFile(Message& message);
  std::optional<memory::GuestAddr> FromUser(uint64_t address) const;
  bool packed() const;
  uint64_t offered_protocol() const;

  Status RequireProtocol(const Message& message, uint64_t feature) const;
  // Starts the ring if all it needs is there. An error is the guest's (bad addresses), not the
  // front-end's.
  Status MaybeStart(uint16_t index);
  Result<std::unique_ptr<virtio::InflightQueue>> MakeInflight(uint16_t index);
  void Stop(uint16_t index, std::function<void()> then);
  void StopAll(std::function<void()> then);
  void OnStopped(uint16_t index, virtio::Queue queue);
  // Clears the in-flight records of a stopped ring whose position was handed over.
  void ForgetInflight(uint16_t index);
  void ResetNow();
  void OnConfigChanged();
  void CloseBackendChannel();
  void FinishClose();

  event::EventLoop& loop_;
  virtio::Device& device_;
  sys::UnixSocket socket_;
  BackendServerOptions options_;
  Closed on_closed_;
  event::Watch watch_;
  MessageReader reader_;
  int paused_ = 0;
  bool closing_ = false;
  std::optional<Error> why_closed_;
  // Callbacks of the device may come after the server is gone.
  std::shared_ptr<BackendServer*> self_;

  uint64_t protocol_features_ = 0;
  std::optional<uint64_t> features_;
  bool configured_ = false;
  uint8_t status_ = 0;
  memory::GuestMemory memory_;
  std::vector<UserRange> user_ranges_;
  std::vector<Vring> vrings_;
  std::shared_ptr<BackendChannel> backend_channel_;  // null: none was given
  std::shared_ptr<sys::MappedRegion> inflight_;
  uint16_t inflight_queues_ = 0;
  uint16_t inflight_queue_size_ = 0;
};

}  // namespace crosvm::vhost_user
