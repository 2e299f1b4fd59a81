// The VMM's end of vhost-user: a virtio::Backend that lives in another process (a jailed child of
// ours, or a foreign one such as virtiofsd) or on another thread. Calls come from vCPU threads or
// the main loop, one at a time (a lock); each waits for the back-end until a deadline of its own,
// however many messages it takes. The back-end is not trusted: whatever it sends or does not send
// ends in an error and in `failed`, after which only Reattach() helps.
//
//             Activate               Suspend
//   [idle] ─────────────► [running] ─────────► [suspended]
//     ▲                    │     ▲               │   │
//     └─────Deactivate─────┘     └───Activate────┘   │
//     └─────Deactivate───────────────────────────────┘
//
// Running or suspended, the queues and their in-flight records are kept until a Deactivate(), also
// when the back-end dies in the middle of a call: a successor is given them.
//
// Ring addresses are sent as guest-physical addresses (the memory table names each region by its
// own), so that no pointer of the VMM leaks.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "event/event_loop.h"
#include "memory/guest_memory.h"
#include "sys/socket.h"
#include "vhost_user/message.h"
#include "virtio/backend.h"
#include "virtio/shared_memory.h"

namespace crosvm::vhost_user {

struct FrontendOptions {
  std::string name;  // "block[0]", for messages
  // What the protocol does not tell: device id, maximal queue sizes, size of the configuration
  // space. `features` is ignored: the back-end's are taken. More queues than the back-end has are
  // dropped.
  virtio::DeviceInfo info;
  // For back-ends without the CONFIG protocol feature: the configuration space, answered from here.
  std::vector<uint8_t> local_config;
  // How many queues there are by the back-end's features and what it answers to GET_QUEUE_NUM,
  // which some kinds of back-ends take for something else; null: the answer.
  uint64_t (*queue_count)(uint64_t features, uint64_t answer) = nullptr;
  // Takes away what cannot be without another feature that the back-end lacks; null: nothing.
  uint64_t (*fitting)(uint64_t features) = nullptr;
  // The most shared memory that the back-end may have, in bytes; 0: none, and it is not asked. What
  // it has is in info() after Connect().
  uint64_t max_shared_memory = 0;
  // How long a call may take. Connecting, and handing over the queues:
  std::chrono::milliseconds handshake_timeout{5000};
  std::chrono::milliseconds reply_timeout{2000};
  // Those that let the device finish its requests:
  std::chrono::milliseconds drain_timeout{10000};
};

class Frontend final : public virtio::Backend {
 public:
  // Takes a connected stream socket and learns the back-end's features, within the handshake
  // timeout. `loop` outlives the front-end, which is made, re-attached and destroyed on the loop's
  // thread.
  static Result<std::unique_ptr<Frontend>> Connect(event::EventLoop& loop, sys::UnixSocket socket,
                                                   FrontendOptions options);
  ~Frontend() override;

  // Goes on with a successor of a back-end that died: replays features, memory, in-flight records
  // and rings (those of a suspended device with the next Activate()). The guest notices a delay.
  // kUnsupported when the successor offers less than was acknowledged or has fewer queues, or when
  // requests cannot be recovered.
  Status Reattach(sys::UnixSocket socket);

  // Where the back-end has files mapped; before the guest runs. Without it every mapping is
  // refused. Stays over a Reattach(), with its mappings: the guest goes on to use them.
  void SetSharedMemory(std::shared_ptr<virtio::SharedMemory> memory)
      CROSVM_EXCLUDES(channel_mutex_);

  const std::string& name() const override { return options_.name; }
  const virtio::DeviceInfo& info() const override { return options_.info; }
  void SetEvents(virtio::BackendEvents events) override;
  Status ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  Status WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  Status CheckFeatures(uint64_t features) override;
  Status Activate(const memory::GuestMemory& memory, uint64_t features,
                  std::span<const virtio::QueueActivation> queues) override;
  Status StartQueue(const virtio::QueueActivation& queue) override;
  Result<virtio::RingPosition> StopQueue(uint16_t index) override;
  Result<std::vector<virtio::RingPosition>> Suspend() override;
  Status Deactivate() override;

 private:
  // A queue that runs, with what is needed to start it again in a successor.
  struct Ring {
    uint16_t index = 0;
    uint16_t size = 0;
    virtio::RingAddresses addresses;
    virtio::RingPosition position;
    // The ring may have been worked on since `position`: only the records know the rest.
    bool started = false;
    sys::EventFd kick;
    sys::EventFd call;
  };

  Frontend(event::EventLoop& loop, FrontendOptions options);

  Status Attach(sys::UnixSocket socket) CROSVM_REQUIRES(mutex_);
  Status Handshake() CROSVM_REQUIRES(mutex_);
  Status OpenBackendChannel() CROSVM_REQUIRES(mutex_);
  Status SendSetup() CROSVM_REQUIRES(mutex_);
  // Takes back the rings that may run, and has the device forget its driver.
  Status StopDevice() CROSVM_REQUIRES(mutex_);
  void Forget() CROSVM_REQUIRES(mutex_);
  Status SendMemory() CROSVM_REQUIRES(mutex_);
  Status GetInflight() CROSVM_REQUIRES(mutex_);
  Status ClearTakenBack() CROSVM_REQUIRES(mutex_);
  Status SendRing(Ring& ring) CROSVM_REQUIRES(mutex_);
  Status SendStatus(uint8_t status) CROSVM_REQUIRES(mutex_);
  // Stops the ring and learns where it stands.
  Status FetchPosition(Ring& ring) CROSVM_REQUIRES(mutex_);
  // Null when the queue does not run.
  Ring* FindRing(uint16_t index) CROSVM_REQUIRES(mutex_);
  Result<Ring> MakeRing(const virtio::QueueActivation& queue) const;

  // A request without an answer of its own; waits for the acknowledgement where that was
  // negotiated.
  Status Set(Request request, std::span<const uint8_t> payload,
             std::span<const sys::BorrowedFd> fds = {}) CROSVM_REQUIRES(mutex_);
  Result<Message> Get(Request request, std::span<const uint8_t> payload) CROSVM_REQUIRES(mutex_);
  Result<uint64_t> GetU64(Request request) CROSVM_REQUIRES(mutex_);
  Status Send(Request request, uint32_t flags, std::span<const uint8_t> payload,
              std::span<const sys::BorrowedFd> fds) CROSVM_REQUIRES(mutex_);
  Result<Message> ReceiveReply(Request request) CROSVM_REQUIRES(mutex_);
  Status CheckAlive() const CROSVM_REQUIRES(mutex_);
  // What a call answers whose back-end has broken the protocol: for the caller it is gone.
  Error AsLost(Error why) const CROSVM_REQUIRES(mutex_);
  // The connection ends here, for the back-end too; `failed` is posted once.
  Error Break(Error why) CROSVM_REQUIRES(mutex_);
  bool Has(uint64_t protocol_feature) const CROSVM_REQUIRES(mutex_) {
    return (protocol_features_ & protocol_feature) != 0;
  }
  bool packed() const CROSVM_REQUIRES(mutex_);

  void OnSocketReady();
  void PostFailed(Error why);

  // frontend_channel.cc: what the back-end asks for
  Status LearnSharedMemory() CROSVM_REQUIRES(mutex_) CROSVM_EXCLUDES(channel_mutex_);
  void OnBackendRequest() CROSVM_EXCLUDES(channel_mutex_);
  // Waits until the socket can be read from (POLLIN) or written to (POLLOUT); false when it can
  // not, yet. kTimedOut when the deadline of the call is over. Serves the back-end meanwhile.
  Result<bool> WaitForSocket(short events) CROSVM_REQUIRES(mutex_) CROSVM_EXCLUDES(channel_mutex_);
  // An error means that the back-end broke the protocol.
  Status ServeBackendChannel() CROSVM_REQUIRES(channel_mutex_);
  Status HandleBackendRequest(const Message& message) CROSVM_REQUIRES(channel_mutex_);
  Status ChangeMapping(const ShmemMapping& mapping, const sys::UniqueFd* file)
      CROSVM_REQUIRES(channel_mutex_);

  event::EventLoop& loop_;
  // `info` and `local_config` are read on every thread: constant after the first Attach().
  FrontendOptions options_;
  // Posted work may run after the front-end is gone.
  std::shared_ptr<Frontend*> self_;

  // On the loop's thread alone.
  event::Watch socket_watch_;
  event::Watch backend_watch_;

  // Held for the length of a call.
  Mutex mutex_;
  sys::UnixSocket socket_ CROSVM_GUARDED_BY(mutex_);
  MessageReader reader_ CROSVM_GUARDED_BY(mutex_);
  bool broken_ CROSVM_GUARDED_BY(mutex_) = true;
  bool known_ CROSVM_GUARDED_BY(mutex_) = false;  // info() is settled
  // Of the call that is being made.
  std::chrono::milliseconds timeout_ CROSVM_GUARDED_BY(mutex_){0};
  std::chrono::steady_clock::time_point deadline_ CROSVM_GUARDED_BY(mutex_);
  uint64_t backend_features_ CROSVM_GUARDED_BY(mutex_) = 0;  // with kFeatureProtocol
  uint64_t offered_ CROSVM_GUARDED_BY(mutex_) = 0;           // of it, what a driver can have
  uint64_t protocol_features_ CROSVM_GUARDED_BY(mutex_) = 0;
  bool active_ CROSVM_GUARDED_BY(mutex_) = false;  // it has queues, running or suspended
  bool suspended_ CROSVM_GUARDED_BY(mutex_) = false;
  memory::GuestMemory memory_ CROSVM_GUARDED_BY(mutex_);
  uint64_t features_ CROSVM_GUARDED_BY(mutex_) = 0;
  std::vector<Ring> rings_ CROSVM_GUARDED_BY(mutex_);
  sys::UniqueFd inflight_fd_ CROSVM_GUARDED_BY(mutex_);
  Inflight inflight_ CROSVM_GUARDED_BY(mutex_);
  // Queues that the driver took back from a lost device, whose records are to be cleared.
  std::vector<uint16_t> taken_back_ CROSVM_GUARDED_BY(mutex_);

  // Held for moments, after mutex_ or without it.
  Mutex channel_mutex_;
  sys::UnixSocket backend_channel_ CROSVM_GUARDED_BY(channel_mutex_);
  MessageReader backend_reader_ CROSVM_GUARDED_BY(channel_mutex_);
  bool channel_open_ CROSVM_GUARDED_BY(channel_mutex_) = false;  // the back-end has its end
  bool shmem_negotiated_ CROSVM_GUARDED_BY(channel_mutex_) = false;
  std::shared_ptr<virtio::SharedMemory> shared_memory_ CROSVM_GUARDED_BY(channel_mutex_);

  // Held for moments, also on the loop; the last.
  Mutex state_mutex_;
  virtio::BackendEvents events_ CROSVM_GUARDED_BY(state_mutex_);
  // A call is waiting for an answer: bytes on the socket are its own.
  int calls_ CROSVM_GUARDED_BY(state_mutex_) = 0;
  bool silenced_ CROSVM_GUARDED_BY(state_mutex_) = false;
  // Counts connections, so that a late report of an old one is told from one of the new.
  std::atomic<uint64_t> generation_{0};

  class CallScope;
};

}  // namespace crosvm::vhost_user
