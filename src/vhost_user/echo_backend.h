// For tests: a device that answers what it is asked, in a back-end on a thread of its own as in a
// device process, with a front-end before it.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "event/event_loop.h"
#include "event/test_loop.h"
#include "vhost_user/backend_server.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::vhost_user {

using virtio::testing::Driver;

// Answers each request with its readable bytes. Requests that begin with '!' are held until
// released or recovered.
class EchoDevice : public virtio::Device {
 public:
  struct Behaviour {
    bool hold = true;              // of requests with '!'
    std::atomic<int> stuck = -1;   // the queue that does not drain
    std::atomic<int> deadly = -1;  // the queue whose start is the end of the connection
    std::atomic<int> socket = -1;
    std::atomic<bool> idle = false;  // takes no requests
  };

  EchoDevice(event::EventLoop& loop, const Behaviour& behaviour)
      : loop_(loop), behaviour_(behaviour) {
    info_ = {.device_id = 42,
             .features = virtio::kQueueFeatures | 3,
             .queue_sizes = {64, 64},
             .config_size = 8};
  }
  ~EchoDevice() override {
    for (size_t i = 0; i < 2; ++i) AbandonHeld(i);
  }
  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override {
    for (size_t i = 0; i < data.size(); ++i) data[i] = config_[offset + i];
  }
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override {
    for (size_t i = 0; i < data.size(); ++i) config_[offset + i] = data[i];
    NotifyConfigChanged();
  }
  void Configure(uint64_t features) override { features_ = features; }
  Status StartQueue(uint16_t index, virtio::Queue queue) override {
    queues_[index] = std::make_unique<virtio::Queue>(std::move(queue));
    auto watch = loop_.AddWatch(queues_[index]->kick().fd(), event::Interest::kRead,
                                [this, index](event::Ready) {
                                  queues_[index]->kick().Drain();
                                  Work(index);
                                });
    if (!watch) return std::unexpected(std::move(watch).error());
    watches_[index] = std::move(*watch);
    Work(index);
    if (behaviour_.deadly == index) {
      loop_.Stop();
      (void)shutdown(behaviour_.socket, SHUT_RDWR);
    }
    return {};
  }
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override {
    watches_[index].Reset();
    auto drain = [this, index, done = std::move(done)] {
      for (virtio::Chain& chain : held_[index]) queues_[index]->Complete(std::move(chain), 0);
      held_[index].clear();
      queues_[index]->Flush();
      const std::shared_ptr<virtio::Queue> queue = std::move(queues_[index]);
      loop_.Post([queue, done] { done(std::move(*queue)); });
    };
    if (behaviour_.stuck != index) return drain();
    late_ = std::move(drain);
  }
  // What is stuck drains after all.
  void Drain() {
    if (late_) std::exchange(late_, nullptr)();
  }
  void Reset() override {
    features_ = 0;
    ++resets_;
  }
  void AbandonHeld(size_t index) {
    // As dying does: the chains are never finished, and the records keep them.
    static std::vector<std::unique_ptr<virtio::Chain>>& graveyard =
        *new std::vector<std::unique_ptr<virtio::Chain>>();
    for (virtio::Chain& chain : held_[index]) {
      graveyard.push_back(std::make_unique<virtio::Chain>(std::move(chain)));
    }
    held_[index].clear();
  }
  int resets() const { return resets_; }

 private:
  void Work(uint16_t index) {
    virtio::Queue& queue = *queues_[index];
    if (behaviour_.idle) return;
    while (std::optional<virtio::Chain> chain = queue.Pop()) {
      virtio::SliceReader reader(chain->readable());
      std::vector<uint8_t> bytes(reader.remaining());
      (void)reader.Read(bytes);
      if (!bytes.empty() && bytes[0] == '!' && behaviour_.hold) {
        held_[index].push_back(*std::move(chain));
        continue;
      }
      virtio::SliceWriter writer(chain->writable());
      (void)writer.Write(std::span<const uint8_t>(bytes));
      queue.Complete(*std::move(chain), static_cast<uint32_t>(writer.written()));
    }
    queue.Flush();
  }
  event::EventLoop& loop_;
  const Behaviour& behaviour_;
  virtio::DeviceInfo info_;
  uint64_t features_ = 0;
  int resets_ = 0;
  uint8_t config_[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::unique_ptr<virtio::Queue> queues_[2];
  event::Watch watches_[2];
  std::vector<virtio::Chain> held_[2];
  std::function<void()> late_;
};

// A back-end on its own thread.
class BackendThread {
 public:
  explicit BackendThread(sys::UnixSocket socket, bool hold = true,
                         BackendServerOptions options = {}) {
    behaviour.hold = hold;
    behaviour.socket = socket.fd().get();
    std::promise<void> ready;
    thread_ = std::thread([this, &ready, options, socket = std::move(socket)]() mutable {
      EchoDevice device(*loop_, behaviour);
      device_ = &device;
      auto server =
          BackendServer::Create(*loop_, device, std::move(socket), options, [&](Error why) {
            why_ = why.ToString();
            loop_->Stop();
          });
      ready.set_value();
      (void)loop_->Run();
      server->reset();
      resets_ = device.resets();
    });
    ready.get_future().wait();
  }
  ~BackendThread() { Join(); }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  // Stops where it is, as a crash does: nothing is drained, records and rings stay as they are.
  void Crash() {
    loop_->Stop();
    Join();
  }
  // Its end by itself, once the queue that is stuck has drained.
  void DrainAndJoin() {
    loop_->Post([this] { device_->Drain(); });
    Join();
  }
  const std::string& why() const { return why_; }
  int resets() const { return resets_; }

  EchoDevice::Behaviour behaviour;

 private:
  // Outlives its thread: Stop() may still be on its way out when that ends.
  std::unique_ptr<event::EventLoop> loop_ = *event::EventLoop::Create();
  std::thread thread_;
  EchoDevice* device_ = nullptr;
  std::string why_;
  int resets_ = 0;
};

// Both, and two queues of a guest.
class VhostUserTest : public ::testing::TestWithParam<bool> {
 protected:
  virtio::testing::DriverOptions Options(uint64_t area) const {
    return {.size = 64, .packed = GetParam(), .event_idx = true, .area = memory::GuestAddr(area)};
  }
  static FrontendOptions FrontOptions() {
    return {.name = "echo[0]",
            .info = {.device_id = 42, .queue_sizes = {64, 64}, .config_size = 8}};
  }
  void Connect(bool hold = true, FrontendOptions options = FrontOptions(),
               BackendServerOptions back_options = {}) {
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    backend_ = std::make_unique<BackendThread>(std::move(back), hold, back_options);
    auto frontend = Frontend::Connect(loop_, std::move(front), std::move(options));
    ASSERT_TRUE(frontend.has_value()) << frontend.error().ToString();
    frontend_ = *std::move(frontend);
    frontend_->SetEvents({.config_changed = [this] { ++config_changes_; },
                          .failed = [this](Error why) { failures_.push_back(why.ToString()); }});
  }
  // A successor takes the place of what has crashed.
  Status Succeed(bool idle = false) {
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    backend_ = std::make_unique<BackendThread>(std::move(back), /*hold=*/false);
    backend_->behaviour.idle = idle;
    return frontend_->Reattach(std::move(front));
  }
  virtio::QueueActivation Activation(uint16_t index, Driver& driver,
                                     virtio::RingPosition position = {}) {
    return {.index = index,
            .size = 64,
            .addresses = driver.addresses(),
            .position = position,
            .kick = &driver.kick(),
            .call = &driver.call()};
  }
  Status ActivateBoth() {
    const virtio::QueueActivation queues[] = {Activation(0, driver0_), Activation(1, driver1_)};
    return frontend_->Activate(memory_, driver0_.features(), queues);
  }
  static std::string Next(Driver& driver) {
    const std::optional<virtio::testing::Used> used = driver.AwaitUsed();
    if (!used) return "(nothing)";
    return std::string(used->data.begin(), used->data.begin() + used->written);
  }

  memory::GuestMemory memory_ = Driver::MakeMemory();
  event::TestLoop loop_;
  std::unique_ptr<BackendThread> backend_;
  std::unique_ptr<Frontend> frontend_;
  Driver driver0_{memory_, Options(0x1000)};
  Driver driver1_{memory_, Options(0x200000)};
  int config_changes_ = 0;
  std::vector<std::string> failures_;
};

}  // namespace crosvm::vhost_user
