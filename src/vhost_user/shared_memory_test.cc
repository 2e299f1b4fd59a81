// Files mapped into a device's shared memory over the back-end channel: both ends against each
// other, and each against a peer that does not keep to the protocol.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "event/event_loop.h"
#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "vhost_user/backend_server.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::vhost_user {
namespace {

using namespace std::chrono_literals;
using virtio::testing::Driver;

constexpr uint64_t kWindow = 1U << 20;

sys::UniqueFd File(std::string_view text) {
  sys::UniqueFd file = *sys::CreateSealedMemfd("file", 4096);
  EXPECT_TRUE(sys::WriteAll(file, text).has_value());
  return file;
}

// A device that maps when its queue starts, and as it stops.
class MappingDevice : public virtio::Device {
 public:
  explicit MappingDevice(event::EventLoop& loop) : loop_(loop) {
    info_ = {.device_id = 42,
             .features = virtio::kQueueFeatures,
             .queue_sizes = {64},
             .shared_memory = {{.id = 5, .size = kWindow}}};
  }
  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t, std::span<uint8_t>) override {}
  void WriteConfig(uint32_t, std::span<const uint8_t>) override {}
  void Configure(uint64_t) override {}
  Status StartQueue(uint16_t, virtio::Queue queue) override {
    queue_ = std::make_shared<virtio::Queue>(std::move(queue));
    Map(0);
    return {};
  }
  void StopQueue(uint16_t, std::function<void(virtio::Queue)> done) override {
    Map(8192);
    loop_.Post([queue = std::move(queue_), done = std::move(done)] { done(std::move(*queue)); });
  }
  void Reset() override {}
  void SetSharedMemory(std::shared_ptr<virtio::SharedMemoryMapper> mapper) override {
    mapper_ = std::move(mapper);
  }

  std::atomic<int> mapped{0};
  std::atomic<int> failed{0};

 private:
  void Map(uint64_t offset) {
    const sys::UniqueFd file = File("mapped");
    const bool good =
        mapper_ != nullptr &&
        mapper_->Map({.region = 5, .offset = offset, .length = 4096}, file, 0, true).has_value();
    ++(good ? mapped : failed);
  }

  event::EventLoop& loop_;
  virtio::DeviceInfo info_;
  std::shared_ptr<virtio::SharedMemoryMapper> mapper_;
  std::shared_ptr<virtio::Queue> queue_;
};

class MappingTest : public ::testing::Test {
 protected:
  // The back-end runs on a thread, the front-end's loop does not run: a thread that waits for the
  // back-end serves it.
  void Connect(uint64_t max_shared_memory) {
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    std::promise<void> ready;
    thread_ = std::thread([this, &ready, socket = std::move(back)]() mutable {
      auto loop = event::EventLoop::Create();
      MappingDevice device(**loop);
      device_ = &device;
      auto server = BackendServer::Create(**loop, device, std::move(socket), {},
                                          [&](Error) { (*loop)->Stop(); });
      ready.set_value();
      (void)(*loop)->Run();
      mapped_ = device.mapped;
      failed_ = device.failed;
    });
    ready.get_future().wait();
    auto connected = Frontend::Connect(loop_, std::move(front),
                                       {.name = "map[0]",
                                        .info = {.device_id = 42, .queue_sizes = {64}},
                                        .max_shared_memory = max_shared_memory});
    if (!connected.has_value()) {
      problem_ = connected.error().ToString();
      return;
    }
    frontend_ = std::move(*connected);
  }
  void TearDown() override {
    frontend_.reset();
    if (thread_.joinable()) thread_.join();
  }
  void Activate() {
    const virtio::QueueActivation queues[] = {{.index = 0,
                                               .size = 64,
                                               .addresses = driver_.addresses(),
                                               .position = {},
                                               .kick = &driver_.kick(),
                                               .call = &driver_.call()}};
    ASSERT_TRUE(frontend_->Activate(memory_, driver_.features(), queues).has_value());
    ASSERT_TRUE(frontend_->Deactivate().has_value());
  }
  void End() {
    frontend_.reset();
    thread_.join();
  }

  hypervisor::FakeVm vm_;
  event::TestLoop loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory();
  Driver driver_{memory_, {.size = 64, .area = memory::GuestAddr(0x1000)}};
  std::unique_ptr<Frontend> frontend_;
  std::string problem_;
  std::thread thread_;
  MappingDevice* device_ = nullptr;
  int mapped_ = 0;
  int failed_ = 0;
};

TEST_F(MappingTest, FilesAreMappedWhileTheFrontEndWaits) {
  Connect(kWindow);
  ASSERT_NE(frontend_, nullptr) << problem_;
  ASSERT_EQ(frontend_->info().shared_memory.size(), 1u);
  EXPECT_EQ(frontend_->info().shared_memory[0].id, 5);
  const auto memory =
      virtio::SharedMemory::Create(vm_, "map[0]", frontend_->info().shared_memory).value();
  frontend_->SetSharedMemory(memory);
  Activate();
  EXPECT_EQ(memory->mapping_count(), 2u);
  EXPECT_EQ(memory->data()[0], 'm');
  EXPECT_EQ(memory->data()[8192], 'm');
  End();
  EXPECT_EQ(mapped_, 2);
}

TEST_F(MappingTest, WithoutAWindowEveryMappingIsRefused) {
  Connect(kWindow);
  ASSERT_NE(frontend_, nullptr) << problem_;
  Activate();
  End();
  EXPECT_EQ(failed_, 2);
}

TEST_F(MappingTest, AFrontEndWithoutItIsOfferedNone) {
  Connect(0);
  ASSERT_NE(frontend_, nullptr) << problem_;
  EXPECT_TRUE(frontend_->info().shared_memory.empty());
  Activate();
  End();
  EXPECT_EQ(failed_, 2);
}

TEST_F(MappingTest, Hostile_MoreThanItMayHave) {
  Connect(kWindow - 4096);
  EXPECT_EQ(frontend_, nullptr);
  EXPECT_NE(problem_.find("wants more than"), std::string::npos) << problem_;
}

// A back-end that says what a test wants it to, once the front-end is connected.
class RawBackend {
 public:
  RawBackend(sys::UnixSocket socket, ShmemConfig config)
      : socket_(std::move(socket)), thread_([this, config] { Serve(config); }) {}
  ~RawBackend() { thread_.join(); }
  // Of the front-end's SET_BACKEND_REQ_FD; call when it is connected.
  const sys::UnixSocket& channel() const { return channel_; }

 private:
  void Serve(const ShmemConfig& config) {
    constexpr uint64_t kProtocol = kProtocolReplyAck | kProtocolBackendReq | kProtocolShmem;
    MessageReader reader;
    while (true) {
      Result<std::optional<Message>> message = reader.Read(socket_);
      if (!message || !*message) return;
      switch (static_cast<Request>((*message)->request)) {
        case Request::kGetFeatures:
          Answer(**message, BytesOf(U64{kFeatureProtocol}));
          break;
        case Request::kGetProtocolFeatures:
          Answer(**message, BytesOf(U64{kProtocol}));
          break;
        case Request::kGetShmemConfig:
          Answer(**message, BytesOf(config));
          break;
        case Request::kSetBackendReqFd:
          channel_ = sys::UnixSocket(std::move((*message)->fds.at(0)));
          [[fallthrough]];
        default:
          if ((*message)->needs_reply()) Answer(**message, BytesOf(U64{uint64_t{0}}));
      }
    }
  }
  void Answer(const Message& to, std::span<const uint8_t> payload) {
    (void)SendMessage(socket_, to.request, kFlagReply, payload);
  }

  sys::UnixSocket socket_;
  sys::UnixSocket channel_;
  std::thread thread_;
};

class HostileMapperTest : public ::testing::Test {
 protected:
  void Connect(std::function<void(ShmemConfig&)> change = nullptr) {
    ShmemConfig config{};
    config.count = 1;
    config.sizes[0] = kWindow;
    if (change) change(config);
    auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    backend_ = std::make_unique<RawBackend>(std::move(back), config);
    auto connected = Frontend::Connect(
        loop_, std::move(front),
        {.name = "raw[0]", .info = {.queue_sizes = {64}}, .max_shared_memory = kWindow});
    if (!connected.has_value()) return;
    frontend_ = std::move(*connected);
    frontend_->SetEvents(
        {.config_changed = {}, .failed = [this](Error why) { failure_ = why.ToString(); }});
    auto memory = virtio::SharedMemory::Create(vm_, "raw[0]", frontend_->info().shared_memory);
    ASSERT_TRUE(memory.has_value());
    memory_ = *memory;
    frontend_->SetSharedMemory(memory_);
  }
  void TearDown() override {
    frontend_.reset();
    backend_.reset();
  }
  // Empty: no answer came.
  std::optional<uint64_t> Send(BackendRequest request, const ShmemMapping& mapping, int files = 1) {
    return Send(static_cast<uint32_t>(request), BytesOf(mapping), files);
  }
  std::optional<uint64_t> Send(uint32_t request, std::span<const uint8_t> payload, int files) {
    static const sys::UniqueFd file = File("x");
    const std::vector<sys::BorrowedFd> fds(static_cast<size_t>(files), file);
    EXPECT_TRUE(
        SendMessage(backend_->channel(), request, kFlagNeedReply, payload, fds).has_value());
    loop_.RunUntilIdle();
    (void)backend_->channel().SetTimeouts(50ms);
    MessageReader reader;
    Result<std::optional<Message>> reply = reader.Read(backend_->channel());
    if (!reply || !*reply || !(*reply)->is_reply()) return std::nullopt;
    return (*reply)->As<U64>()->value.value();
  }
  static ShmemMapping Good() {
    return {.region = 0,
            .padding = {},
            .file_offset = uint64_t{0},
            .offset = uint64_t{4096},
            .length = uint64_t{4096},
            .flags = kShmemWritable};
  }

  hypervisor::FakeVm vm_;
  event::TestLoop loop_;
  std::unique_ptr<RawBackend> backend_;
  std::unique_ptr<Frontend> frontend_;
  std::shared_ptr<virtio::SharedMemory> memory_;
  std::string failure_;
};

TEST_F(HostileMapperTest, GoodRequests) {
  Connect();
  EXPECT_EQ(Send(BackendRequest::kShmemMap, Good()), 0u);
  EXPECT_EQ(memory_->mapping_count(), 1u);
  EXPECT_EQ(Send(BackendRequest::kShmemUnmap, Good(), 0), 0u);
  EXPECT_EQ(memory_->mapping_count(), 0u);
}

TEST_F(HostileMapperTest, Hostile_RangesAreRefusedAndTheConnectionLives) {
  Connect();
  const auto refused = [&](auto change) {
    ShmemMapping mapping = Good();
    change(mapping);
    return Send(BackendRequest::kShmemMap, mapping);
  };
  EXPECT_EQ(refused([](ShmemMapping& m) { m.region = 1; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.offset = uint64_t{1}; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.offset = kWindow; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.offset = ~uint64_t{4095}; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.length = ~uint64_t{4095}; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.length = uint64_t{0}; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.file_offset = ~uint64_t{4095}; }), 1u);
  EXPECT_EQ(refused([](ShmemMapping& m) { m.flags = uint64_t{2}; }), 1u);
  EXPECT_EQ(memory_->mapping_count(), 0u);
  EXPECT_EQ(Send(BackendRequest::kShmemMap, Good()), 0u);
  EXPECT_EQ(failure_, "");
}

TEST_F(HostileMapperTest, Hostile_Descriptors) {
  for (const int files : {0, 2}) {
    Connect();
    EXPECT_FALSE(Send(BackendRequest::kShmemMap, Good(), files).has_value());
    EXPECT_NE(failure_, "");
    failure_.clear();
    TearDown();
  }
  Connect();
  EXPECT_FALSE(Send(BackendRequest::kShmemUnmap, Good(), 1).has_value());
  EXPECT_NE(failure_, "");
}

TEST_F(HostileMapperTest, Hostile_Lengths) {
  Connect();
  EXPECT_FALSE(Send(9, BytesOf(Good()).first(39), 1).has_value());
  EXPECT_NE(failure_, "");
}

TEST_F(HostileMapperTest, Hostile_Configurations) {
  Connect([](ShmemConfig& config) { config.sizes[3] = uint64_t{4096}; });
  EXPECT_EQ(frontend_, nullptr);
  TearDown();
  Connect([](ShmemConfig& config) { config.sizes[0] = ~uint64_t{0}; });
  EXPECT_EQ(frontend_, nullptr);
}

// A front-end that answers anything.
class HostileAnswerTest : public ::testing::Test {
 protected:
  HostileAnswerTest() { Make(50ms); }
  void Make(std::chrono::milliseconds timeout) {
    auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
    EXPECT_TRUE(sys::SetNonBlocking(theirs.fd(), true).has_value());
    socket_ = std::move(ours);
    channel_ = std::make_unique<BackendChannel>(std::move(theirs), true, timeout);
  }
  Status Unmap() { return channel_->Unmap({.region = 0, .offset = 0, .length = 4096}); }
  void Answer(uint32_t request, uint32_t flags, std::span<const uint8_t> payload) {
    EXPECT_TRUE(SendMessage(socket_, request, flags, payload).has_value());
  }

  sys::UnixSocket socket_;
  std::unique_ptr<BackendChannel> channel_;
};

TEST_F(HostileAnswerTest, YesAndNo) {
  Answer(10, kFlagReply, BytesOf(U64{uint64_t{0}}));
  EXPECT_TRUE(Unmap().has_value());
  Answer(10, kFlagReply, BytesOf(U64{uint64_t{1}}));
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kInvalidArgument);
  Answer(10, kFlagReply, BytesOf(U64{uint64_t{0}}));
  EXPECT_TRUE(Unmap().has_value());
}

TEST_F(HostileAnswerTest, Hostile_Silence) {
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kTimedOut);
  // An answer that comes late is not one to the next question.
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kDisconnected);
}

TEST_F(HostileAnswerTest, Hostile_AnswersToSomethingElse) {
  Answer(9, kFlagReply, BytesOf(U64{uint64_t{0}}));
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kDisconnected);
}

TEST_F(HostileAnswerTest, Hostile_NoReply) {
  Answer(10, 0, BytesOf(U64{uint64_t{0}}));
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kProtocol);
}

TEST_F(HostileAnswerTest, Hostile_LongAnswer) {
  Answer(10, kFlagReply, BytesOf(ShmemMapping{}));
  EXPECT_EQ(Unmap().error().kind(), ErrorKind::kProtocol);
}

TEST_F(HostileAnswerTest, Hostile_ClosedUnderACall) {
  Make(10s);  // however late it is closed
  auto call = std::async(std::launch::async, [&] { return Unmap().error().kind(); });
  channel_->Close();
  EXPECT_EQ(call.get(), ErrorKind::kDisconnected);
}

TEST_F(HostileAnswerTest, Hostile_AFrontEndThatDoesNotRead) {
  // The notices fill the socket, and nothing waits.
  for (int i = 0; i < 100000; ++i) channel_->NotifyConfigChanged();
  EXPECT_FALSE(Unmap().has_value());
}

}  // namespace
}  // namespace crosvm::vhost_user
