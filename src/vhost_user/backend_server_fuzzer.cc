// A front-end that sends anything: the input is a list of messages, each {request, kind of
// descriptors, length, bytes}.
#include <fcntl.h>

#include "event/test_loop.h"
#include "sys/memfd.h"
#include "vhost_user/backend_server.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;

class SinkDevice : public virtio::Device {
 public:
  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override {
    if (offset + data.size() > info_.config_size) __builtin_trap();
  }
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override {
    if (offset + data.size() > info_.config_size) __builtin_trap();
    NotifyConfigChanged();
  }
  void Configure(uint64_t) override {
    if (configured_) __builtin_trap();
    configured_ = true;
  }
  void SetSharedMemory(std::shared_ptr<virtio::SharedMemoryMapper> mapper) override {
    mapper_ = std::move(mapper);
  }
  Status StartQueue(uint16_t index, virtio::Queue queue) override {
    if (!configured_ || queues_[index]) __builtin_trap();
    int budget = 256;
    while (budget-- > 0) {
      std::optional<virtio::Chain> chain = queue.Pop();
      if (!chain) break;
      queue.Complete(*std::move(chain), 0);
    }
    queue.Flush();
    queues_[index].emplace(std::move(queue));
    return {};
  }
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override {
    if (!queues_[index]) __builtin_trap();
    virtio::Queue queue = *std::move(queues_[index]);
    queues_[index].reset();
    done(std::move(queue));
  }
  void Reset() override {
    if (queues_[0] || queues_[1] || !configured_) __builtin_trap();
    configured_ = false;
  }

 private:
  virtio::DeviceInfo info_{.device_id = 1,
                           .features = virtio::kQueueFeatures,
                           .queue_sizes = {16, 16},
                           .config_size = 8,
                           .shared_memory = {{.id = 0, .size = 4096}}};
  std::shared_ptr<virtio::SharedMemoryMapper> mapper_;
  bool configured_ = false;
  std::optional<virtio::Queue> queues_[2];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sys::UniqueFd memory = *sys::CreateSealedMemfd("fuzz", 0x10000);
  static const sys::UniqueFd plain(open("/dev/null", O_RDWR | O_CLOEXEC));
  static const sys::EventFd event = *sys::EventFd::Create();
  std::span<const uint8_t> input(data, size);
  event::TestLoop loop;
  SinkDevice device;
  auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
  (void)front.SetTimeouts(std::chrono::milliseconds(1));
  bool closed = false;
  auto server = *vhost_user::BackendServer::Create(loop, device, std::move(back), {},
                                                   [&](Error) { closed = true; });
  while (input.size() >= 3 && !closed) {
    const uint32_t request = input[0];
    const uint8_t kind = input[1];
    const size_t length = std::min<size_t>(input[2], input.size() - 3);
    const std::span<const uint8_t> payload = input.subspan(3, length);
    input = input.subspan(3 + length);
    std::vector<sys::BorrowedFd> fds;
    for (int i = 0; i < (kind & 3); ++i) {
      const int which = (kind >> 2) & 3;
      fds.push_back(which == 0   ? sys::BorrowedFd(memory)
                    : which == 1 ? sys::BorrowedFd(event.fd())
                                 : sys::BorrowedFd(plain));
    }
    const uint32_t flags = (kind & 0x40) != 0 ? vhost_user::kFlagNeedReply : 0;
    if ((kind & 0x80) != 0) {
      if (!payload.empty()) (void)front.Send(payload, fds);  // no header at all
    } else {
      (void)vhost_user::SendMessage(front, request, flags, payload, fds);
    }
    loop.RunUntilIdle();
  }
  front = sys::UnixSocket();
  loop.RunUntilIdle();
  if (!closed) __builtin_trap();
  return 0;
}
