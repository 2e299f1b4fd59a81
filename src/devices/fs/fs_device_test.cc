// The device against a driver of ours: queues, several workers, stopping, resets, requests in
// flight.
#include "devices/fs/fs_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <map>

#include "devices/fs/fs_module.h"
#include "devices/fs/fuse_driver.h"
#include "virtio/testing/driver.h"
#include "virtio/types.h"

namespace crosvm::devices::fs {
namespace {

using virtio::testing::Driver;
using virtio::testing::Used;

class FsDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  FsDeviceTest() {
    loop_ = *event::EventLoop::Create();
    Result<PreparedDevice> prepared =
        kFsModule.prepare(dir_.path() + ":data:type=fs:queues=2:threads=3:max-open=64");
    EXPECT_TRUE(prepared.has_value()) << prepared.error().ToString();
    prepared_ = std::move(*prepared);
    Make();
  }
  ~FsDeviceTest() override {
    for (uint16_t i = 0; i < 3; ++i) Stop(i);
  }

  void Make() {
    PreparedDevice copy;
    copy.start = prepared_.start;
    for (const sys::BorrowedFd fd : prepared_.fds.Borrow()) copy.fds.Put(*fd.Dup());
    Result<std::unique_ptr<virtio::Device>> device =
        kFsModule.create(std::move(copy), {.loop = *loop_});
    ASSERT_TRUE(device.has_value()) << device.error().ToString();
    device_ = std::move(*device);
    device_->Configure(drivers_[0].features());
  }

  void Start(uint16_t index) {
    ASSERT_TRUE(device_->StartQueue(index, drivers_[index].MakeQueue(nullptr, positions_[index]))
                    .has_value());
    running_[index] = true;
  }
  void Stop(uint16_t index) {
    if (!std::exchange(running_[index], false)) return;
    bool stopped = false;
    device_->StopQueue(index, [&](virtio::Queue queue) {
      positions_[index] = queue.position();
      stopped = true;
    });
    while (!stopped) ASSERT_TRUE(loop_->RunOnce(std::chrono::seconds(1)).has_value());
  }

  uint16_t Submit(uint16_t index, uint32_t opcode, uint64_t node, const Bytes& arguments = {},
                  uint32_t room = 4096) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + arguments.data().size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    const std::string text(arguments.data().data(), arguments.data().size());
    auto chain = drivers_[index].Chain();
    chain.ReadableStruct(header);
    if (!text.empty()) chain.Readable(text);
    if (room > 0) chain.Writable(room);
    return chain.Submit();
  }

  // As many answers as `count`, by their chain.
  std::map<uint16_t, Used> Wait(uint16_t index, size_t count) {
    std::map<uint16_t, Used> done;
    Driver& driver = drivers_[index];
    while (done.size() < count) {
      std::optional<Used> used = driver.AwaitUsed();
      if (!used) break;
      done.emplace(used->id, std::move(*used));
    }
    return done;
  }

  template <typename T>
  T Answer(const Used& used) {
    T value{};
    EXPECT_GE(used.written, sizeof(fuse_out_header) + sizeof(T));
    memcpy(&value, used.data.data() + sizeof(fuse_out_header), sizeof(T));
    return value;
  }

  void Init() {
    fuse_init_in in{};
    in.major = 7;
    in.minor = 38;
    const uint16_t id = Submit(1, FUSE_INIT, 0, Struct(in));
    drivers_[1].Kick();
    EXPECT_EQ(Answer<fuse_init_out>(Wait(1, 1).at(id)).major, 7u);
  }

  TestDirectory dir_;
  std::unique_ptr<event::EventLoop> loop_;
  memory::GuestMemory memory_ = Driver::MakeMemory(16 << 20);
  static virtio::testing::DriverOptions Area(uint64_t number, bool packed) {
    return {.size = 64,
            .packed = packed,
            .area = memory::GuestAddr(0x1000 + number * (5 << 20)),
            .area_size = 4 << 20};
  }
  Driver drivers_[3] = {Driver(memory_, Area(0, GetParam())), Driver(memory_, Area(1, GetParam())),
                        Driver(memory_, Area(2, GetParam()))};
  virtio::RingPosition positions_[3];
  bool running_[3] = {};
  PreparedDevice prepared_;
  std::unique_ptr<virtio::Device> device_;
  uint64_t unique_ = 0;
};

// Wherever that ends: threads that run already end, and the caller's signals are as they were.
TEST_P(FsDeviceTest, WithoutADescriptorLeftItIsNotMade) {
  device_.reset();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  int failures = 0;
  for (rlim_t more = 0; device_ == nullptr && more < 64; ++more) {
    PreparedDevice copy;
    copy.start = prepared_.start;
    for (const sys::BorrowedFd fd : prepared_.fds.Borrow()) copy.fds.Put(*fd.Dup());
    const rlim_t lowest = static_cast<rlim_t>(sys::Open("/dev/null", O_RDONLY)->get());
    const rlimit few{.rlim_cur = lowest + more, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    Result<std::unique_ptr<virtio::Device>> device =
        kFsModule.create(std::move(copy), {.loop = *loop_});
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    if (device.has_value()) {
      device_ = std::move(*device);
    } else {
      ++failures;
    }
    sigset_t mask;
    ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &mask), 0);
    ASSERT_EQ(sigismember(&mask, SIGTERM), 0) << more;
  }
  EXPECT_NE(device_, nullptr);
  EXPECT_GE(failures, 5);  // two events and three workers
}

INSTANTIATE_TEST_SUITE_P(Formats, FsDeviceTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(FsDeviceTest, ABufferInTheWindowIsAnError) {
  Result<PreparedDevice> prepared =
      kFsModule.prepare(dir_.path() + ":data:type=fs:queues=2:dax=always:dax-window=2");
  ASSERT_TRUE(prepared.has_value());
  EXPECT_EQ(prepared->shared_memory, 2U << 20);
  prepared_ = std::move(*prepared);
  Make();
  ASSERT_EQ(device_->info().shared_memory.size(), 1u);
  EXPECT_EQ(device_->info().shared_memory[0].size, 2U << 20);
  Start(1);
  Init();
  fuse_in_header header{};
  header.len = sizeof(header) + sizeof(fuse_write_in) + 100;
  header.opcode = FUSE_WRITE;
  header.unique = 77;
  fuse_write_in in{};
  in.size = 100;
  const uint16_t id = drivers_[1]
                          .Chain()
                          .ReadableStruct(header)
                          .ReadableStruct(in)
                          .Raw(uint64_t{1} << 40, 100, 0)
                          .Writable(sizeof(fuse_out_header) + sizeof(fuse_write_out))
                          .Submit();
  drivers_[1].Kick();
  const Used used = Wait(1, 1).at(id);
  fuse_out_header out{};
  memcpy(&out, used.data.data(), sizeof(out));
  EXPECT_EQ(used.written, sizeof(out));
  EXPECT_EQ(out.error, -EFAULT);
  EXPECT_EQ(out.unique, 77u);
  Init();
}

TEST_P(FsDeviceTest, Identity) {
  EXPECT_EQ(device_->info().device_id, VIRTIO_ID_FS);
  EXPECT_EQ(device_->info().queue_sizes.size(), 3u);
  virtio_fs_config config{};
  // SAFETY: a packed struct as bytes.
  device_->ReadConfig(0, {reinterpret_cast<uint8_t*>(&config), sizeof(config)});
  EXPECT_STREQ(reinterpret_cast<const char*>(config.tag), "data");
  EXPECT_EQ(config.num_request_queues, 2u);
}

TEST_P(FsDeviceTest, RequestsOfAllQueues) {
  dir_.Write("file", "x");
  for (uint16_t i = 0; i < 3; ++i) Start(i);
  Init();
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 20; ++i) {
      Submit(1, FUSE_LOOKUP, FUSE_ROOT_ID, Text("file"));
      Submit(2, FUSE_LOOKUP, FUSE_ROOT_ID, Text("none"));
    }
    drivers_[1].Kick();
    drivers_[2].Kick();
    for (const auto& [id, used] : Wait(1, 20))
      EXPECT_EQ(Answer<fuse_entry_out>(used).attr.size, 1u);
    for (const auto& [id, used] : Wait(2, 20)) EXPECT_EQ(used.written, sizeof(fuse_out_header));
  }
  Submit(0, FUSE_FORGET, 2, Struct(fuse_forget_in{.nlookup = 1}), 0);
  drivers_[0].Kick();
  for (const auto& [id, used] : Wait(0, 1)) EXPECT_EQ(used.written, 0u);
}

TEST_P(FsDeviceTest, WhatIsThereBeforeTheStartIsDone) {
  const uint16_t id = Submit(1, FUSE_GETATTR, FUSE_ROOT_ID, Struct(fuse_getattr_in{}));
  Start(1);
  EXPECT_TRUE(S_ISDIR(Answer<fuse_attr_out>(Wait(1, 1).at(id)).attr.mode));
}

TEST_P(FsDeviceTest, StopsAndGoesOn) {
  dir_.Write("file", "x");
  Start(1);
  Init();
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 20; ++i) Submit(1, FUSE_LOOKUP, FUSE_ROOT_ID, Text("file"));
    drivers_[1].Kick();
    Stop(1);
    Start(1);
    EXPECT_EQ(Wait(1, 20).size(), 20u);
  }
}

TEST_P(FsDeviceTest, AResetForgetsAndAFirstOneDoesNot) {
  dir_.Write("file", "x");
  Start(1);
  Init();
  const uint16_t id = Submit(1, FUSE_LOOKUP, FUSE_ROOT_ID, Text("file"));
  drivers_[1].Kick();
  const uint64_t node = Answer<fuse_entry_out>(Wait(1, 1).at(id)).nodeid;
  const auto known = [&] {
    Start(1);
    const uint16_t asked = Submit(1, FUSE_GETATTR, node, Struct(fuse_getattr_in{}));
    drivers_[1].Kick();
    const bool answered = Wait(1, 1).at(asked).written > sizeof(fuse_out_header);
    Stop(1);
    return answered;
  };
  Stop(1);
  // A successor: the front-end resets it before it starts its queues.
  device_.reset();
  Make();
  device_->Reset();
  EXPECT_TRUE(known());
  device_->Reset();
  EXPECT_FALSE(known());
}

TEST_P(FsDeviceTest, Hostile_ChainsOfNothing) {
  Start(1);
  drivers_[1].Chain().Writable(10).Submit();
  drivers_[1].Chain().Readable("abc").Submit();
  drivers_[1].Chain().Readable(std::string(100, '\xff')).Writable(5).Submit();
  drivers_[1].Kick();
  for (const auto& [id, used] : Wait(1, 3)) EXPECT_EQ(used.written, 0u);
}

TEST(FsModule, OptionsAreChecked) {
  const auto error = [](const std::string& option) {
    const Result<PreparedDevice> prepared = kFsModule.prepare(option);
    return prepared.has_value() ? std::string() : prepared.error().ToString();
  };
  EXPECT_NE(error("/nonexistent:tag").find("/nonexistent"), std::string::npos);
  EXPECT_NE(error("/tmp").find("tag"), std::string::npos);
  EXPECT_NE(error("/proc/self/exe:tag").find("irectory"), std::string::npos);
  EXPECT_NE(error("/tmp:tag:uidmap=1 1000 1").find("id 0"), std::string::npos);
  EXPECT_NE(error("/tmp:tag:gidmap=0 1000").find("gidmap"), std::string::npos);
  EXPECT_NE(error("/tmp:tag:uidmap=0 0 10,5 100 1").find("overlap"), std::string::npos);
  EXPECT_NE(error("/tmp:tag:max-open=1000000").find("max-open"), std::string::npos);
  EXPECT_EQ(error("/tmp:tag:cache=always:timeout=3:ro:uidmap=0 1000 1,1 100000 65536"), "");
}

}  // namespace
}  // namespace crosvm::devices::fs
