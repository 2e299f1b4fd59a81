// A Backend for tests of the transport: records what it is told and answers as the test says.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "virtio/backend.h"

namespace crosvm::virtio {

class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(DeviceInfo info) : info_(std::move(info)) {
    config_bytes.resize(info_.config_size);
    for (size_t i = 0; i < config_bytes.size(); ++i) config_bytes[i] = static_cast<uint8_t>(i + 1);
  }

  struct Started {
    uint16_t index;
    uint16_t size;
    RingAddresses addresses;
    RingPosition position;
    const sys::EventFd* kick;  // the transport's; valid while it lives
  };

  std::vector<uint8_t> config_bytes;
  std::vector<Started> running;         // by Activate and StartQueue
  uint64_t features = 0;                // of the last Activate
  uint64_t refused_features = 0;        // CheckFeatures fails when one of these is set
  std::optional<ErrorKind> failure;     // every call fails with it
  std::vector<RingPosition> positions;  // what Suspend gives back
  int activations = 0;
  int suspensions = 0;
  int deactivations = 0;
  int config_reads = 0;
  BackendEvents events;

  const std::string& name() const override { return name_; }
  const DeviceInfo& info() const override { return info_; }
  void SetEvents(BackendEvents new_events) override { events = std::move(new_events); }

  Status ReadConfig(uint32_t offset, std::span<uint8_t> data) override {
    ++config_reads;
    if (failure) return Broken();
    CHECK(offset + data.size() <= config_bytes.size());
    std::copy_n(config_bytes.begin() + offset, data.size(), data.begin());
    return {};
  }
  Status WriteConfig(uint32_t offset, std::span<const uint8_t> data) override {
    if (failure) return Broken();
    CHECK(offset + data.size() <= config_bytes.size());
    std::copy(data.begin(), data.end(), config_bytes.begin() + offset);
    return {};
  }
  Status CheckFeatures(uint64_t chosen) override {
    if (failure) return Broken();
    CHECK((chosen & ~info_.features) == 0);
    if ((chosen & refused_features) == 0) return {};
    return Fail(ErrorKind::kUnsupported, "features");
  }
  Status Activate(const memory::GuestMemory& /*memory*/, uint64_t chosen,
                  std::span<const QueueActivation> queues) override {
    CHECK(running.empty());
    if (failure && !lost()) return Broken();
    ++activations;
    features = chosen;
    for (const QueueActivation& queue : queues) Start(queue);
    if (failure) return Broken();
    return {};
  }
  Status StartQueue(const QueueActivation& queue) override {
    if (failure && !lost()) return Broken();
    Start(queue);
    if (failure) return Broken();
    return {};
  }
  Result<RingPosition> StopQueue(uint16_t index) override {
    CHECK(std::erase_if(running, [&](const Started& queue) { return queue.index == index; }) == 1);
    if (failure) return std::unexpected(Broken().error().Clone());
    return RingPosition{};
  }
  Result<std::vector<RingPosition>> Suspend() override {
    ++suspensions;
    running.clear();
    if (failure) return std::unexpected(Broken().error().Clone());
    return positions;
  }
  Status Deactivate() override {
    ++deactivations;
    running.clear();
    if (failure) return Broken();
    return {};
  }

 private:
  bool lost() const { return failure && MeansLost(Broken().error()); }
  Status Broken() const { return Fail(*failure, "the fake backend was told to fail"); }
  void Start(const QueueActivation& queue) {
    CHECK(queue.kick != nullptr && queue.kick->valid() && queue.call != nullptr &&
          queue.call->valid());
    CHECK(queue.index < info_.queue_sizes.size() && queue.size > 0);
    for (const Started& other : running) CHECK(other.index != queue.index);
    running.push_back({queue.index, queue.size, queue.addresses, queue.position, queue.kick});
  }

  const std::string name_ = "fake[0]";
  const DeviceInfo info_;
};

}  // namespace crosvm::virtio
