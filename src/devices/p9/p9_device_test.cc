// The device against a driver of ours: messages in chains of any shape, flushes, stops.
#include "devices/p9/p9_device.h"

#include <fcntl.h>
#include <ftw.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/p9/p9_module.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "virtio/testing/driver.h"

namespace crosvm::devices::p9 {
namespace {

using virtio::testing::Driver;
using virtio::testing::Used;

class P9DeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    char path[] = "/var/tmp/crosvm-9p-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    path_ = path;
    Result<PreparedDevice> prepared = kP9Module.prepare(path_ + ":data");
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    Result<std::unique_ptr<virtio::Device>> device =
        kP9Module.create(std::move(*prepared), {.loop = loop_, .self_fds = {}});
    ASSERT_TRUE(device.has_value()) << device.error().ToString();
    device_ = std::move(*device);
    device_->Configure(driver_.features());
    ASSERT_TRUE(device_->StartQueue(0, driver_.MakeQueue()).has_value());
    running_ = true;
  }
  void TearDown() override {
    if (running_) Stop();
    device_.reset();
    nftw(
        path_.c_str(), [](const char* file, const struct stat*, int, FTW*) { return remove(file); },
        16, FTW_DEPTH | FTW_PHYS);
  }
  void Stop() {
    running_ = false;
    bool stopped = false;
    device_->StopQueue(0, [&](virtio::Queue) { stopped = true; });
    EXPECT_TRUE(loop_.RunUntil([&] { return stopped; }));
  }

  std::vector<uint8_t> Message(Type type, MessageWriter body, uint16_t tag = 1, uint32_t more = 0) {
    return std::move(body).Finish(static_cast<uint8_t>(type), tag, more);
  }
  std::vector<Used> Run() {
    std::vector<Used> all;
    driver_.Kick();
    EXPECT_TRUE(loop_.RunUntil([&] {
      for (Used& used : driver_.AllUsed()) all.push_back(std::move(used));
      return driver_.outstanding() == 0;
    }));
    return all;
  }
  std::vector<uint8_t> Call(const std::vector<uint8_t>& message) {
    driver_.Chain().Readable(message).Writable(4096).Submit();
    const std::vector<Used> used = Run();
    if (used.size() != 1) return {};
    EXPECT_LE(used[0].written, 4096u);
    return {used[0].data.begin(), used[0].data.begin() + used[0].written};
  }
  static uint8_t TypeOf(std::span<const uint8_t> answer) {
    return answer.size() < kHeaderBytes ? 0 : answer[4];
  }
  void Begin() {
    MessageWriter version;
    version.U32(65536).String(kVersionText);
    ASSERT_EQ(TypeOf(Call(Message(Type::kVersion, std::move(version)))), AnswerTo(Type::kVersion));
    MessageWriter attach;
    attach.U32(0).U32(kNoFid).String("").String("").U32(0);
    ASSERT_EQ(TypeOf(Call(Message(Type::kAttach, std::move(attach)))), AnswerTo(Type::kAttach));
  }
  // Their names end in their numbers, which are the tags. Does not notify.
  void SubmitMakeDirectories(uint16_t count, const std::string& prefix = "d") {
    for (uint16_t i = 0; i < count; ++i) {
      MessageWriter make;
      make.U32(0).String(prefix + std::to_string(i)).U32(0755).U32(0);
      driver_.Chain().Readable(Message(Type::kMkdir, std::move(make), i)).Writable(64).Submit();
    }
  }
  void CreateFile(uint32_t fid, const std::string& name) {
    MessageWriter walk;
    walk.U32(0).U32(fid).U16(0);
    ASSERT_EQ(TypeOf(Call(Message(Type::kWalk, std::move(walk)))), AnswerTo(Type::kWalk));
    MessageWriter create;
    create.U32(fid).String(name).U32(O_RDWR).U32(0644).U32(0);
    ASSERT_EQ(TypeOf(Call(Message(Type::kLcreate, std::move(create)))), AnswerTo(Type::kLcreate));
  }

  std::string path_;
  event::TestLoop loop_;
  Driver driver_{Driver::MakeMemory(8 << 20),
                 {.size = 128, .packed = GetParam(), .area_size = 7 << 20}};
  std::unique_ptr<virtio::Device> device_;
  bool running_ = false;
};

INSTANTIATE_TEST_SUITE_P(Formats, P9DeviceTest, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Packed" : "Split"; });

TEST_P(P9DeviceTest, TellsItsTag) {
  EXPECT_EQ(device_->info().device_id, 9);
  ASSERT_EQ(device_->info().config_size, 6u);
  std::vector<uint8_t> config(6);
  device_->ReadConfig(0, config);
  EXPECT_EQ(config, (std::vector<uint8_t>{4, 0, 'd', 'a', 't', 'a'}));
}

TEST_P(P9DeviceTest, DataGoesStraightThroughPiecesOfAnySize) {
  Begin();
  CreateFile(1, "f");
  const std::string text = "a text in several pieces";
  MessageWriter write;
  write.U32(1).U64(0).U32(static_cast<uint32_t>(text.size()));
  const std::vector<uint8_t> head =
      Message(Type::kWrite, std::move(write), 7, static_cast<uint32_t>(text.size()));
  driver_.Chain()
      .Readable(std::span(head).first(3))
      .Readable(std::span(head).subspan(3))
      .Readable(text.substr(0, 5))
      .Readable(text.substr(5))
      .Writable(5)
      .Writable(100)
      .Submit();
  EXPECT_EQ(TypeOf(Run().at(0).data), AnswerTo(Type::kWrite));
  EXPECT_EQ(*sys::ReadFileToString(path_ + "/f"), text);

  MessageWriter read;
  read.U32(1).U64(2).U32(1000);
  driver_.Chain()
      .Readable(Message(Type::kRead, std::move(read)))
      .Writable(11)
      .Writable(4)
      .Writable(1000)
      .Submit();
  const Used used = Run().at(0);
  EXPECT_EQ(TypeOf(used.data), AnswerTo(Type::kRead));
  ASSERT_EQ(used.written, kReadHeaderBytes + text.size() - 2);
  EXPECT_EQ(std::string(used.data.begin() + 11, used.data.begin() + used.written), text.substr(2));
}

TEST_P(P9DeviceTest, ManyAtOnce) {
  Begin();
  for (int round = 0; round < 4; ++round) {
    SubmitMakeDirectories(60, fmt::format("d{}-", round));
    const std::vector<Used> all = Run();
    ASSERT_EQ(all.size(), 60u);
    for (const Used& used : all) EXPECT_EQ(TypeOf(used.data), AnswerTo(Type::kMkdir));
  }
}

TEST_P(P9DeviceTest, AFlushComesAfterWhatItFlushes) {
  Begin();
  for (int i = 0; i < 20; ++i) {
    MessageWriter make;
    make.U32(0).String(fmt::format("d{}", i)).U32(0755).U32(0);
    driver_.Chain().Readable(Message(Type::kMkdir, std::move(make), 5)).Writable(64).Submit();
    MessageWriter flush;
    flush.U16(5);
    driver_.Chain().Readable(Message(Type::kFlush, std::move(flush), 6)).Writable(64).Submit();
    const std::vector<Used> all = Run();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(TypeOf(all[0].data), AnswerTo(Type::kMkdir));
    EXPECT_EQ(TypeOf(all[1].data), AnswerTo(Type::kFlush));
  }
  // Nothing of that tag.
  MessageWriter flush;
  flush.U16(999);
  EXPECT_EQ(TypeOf(Call(Message(Type::kFlush, std::move(flush)))), AnswerTo(Type::kFlush));
}

TEST_P(P9DeviceTest, StopsWhenWhatIsUnderWayIsDone) {
  Begin();
  SubmitMakeDirectories(60);
  driver_.Kick();
  ASSERT_TRUE(loop_.RunOnce({}).has_value());
  Stop();
  device_->Reset();
  const size_t answered = driver_.AllUsed().size();
  EXPECT_GT(answered, 0u);
  for (uint32_t i = 0; i < answered; ++i) {
    EXPECT_EQ(access(fmt::format("{}/d{}", path_, i).c_str(), F_OK), 0);
  }
}

// As when the loop fails: nobody stops the queue.
TEST_P(P9DeviceTest, WhatIsUnderWayAtItsEndIsAnswered) {
  Begin();
  SubmitMakeDirectories(60);
  MessageWriter flush;
  flush.U16(59);
  driver_.Chain().Readable(Message(Type::kFlush, std::move(flush), 60)).Writable(64).Submit();
  driver_.Kick();
  ASSERT_TRUE(loop_.RunOnce({}).has_value());
  device_.reset();
  running_ = false;
  EXPECT_EQ(driver_.AllUsed().size(), 61u);
}

TEST_P(P9DeviceTest, Hostile_Chains) {
  Begin();
  const auto raw = [](uint32_t size, uint8_t type) {
    MessageWriter out;
    std::vector<uint8_t> bytes = std::move(out).Finish(type, 9);
    const Le32 claimed(size);
    memcpy(bytes.data(), &claimed, 4);
    return bytes;
  };
  // Sizes that are no sizes; each gets an error, none more than it has room for.
  for (const uint32_t size : {0u, 6u, 8u, 1000u, 1u << 20, UINT32_MAX}) {
    const std::vector<uint8_t> answer = Call(raw(size, static_cast<uint8_t>(Type::kWalk)));
    EXPECT_EQ(TypeOf(answer), AnswerTo(Type::kLerror)) << size;
  }
  // No request, no room, room for nothing.
  driver_.Chain().Writable(100).Submit();
  driver_.Chain().Readable("abc").Writable(100).Submit();
  driver_.Chain().Readable(raw(7, static_cast<uint8_t>(Type::kClunk))).Submit();
  driver_.Chain().Readable(raw(7, static_cast<uint8_t>(Type::kRead))).Writable(10).Submit();
  driver_.Chain().Readable(raw(7, static_cast<uint8_t>(Type::kFlush))).Writable(3).Submit();
  driver_.Chain().Readable(std::string(70000, '\xff')).Writable(100).Submit();
  EXPECT_EQ(Run().size(), 6u);
  // A flush of itself, and of a flush.
  MessageWriter flush;
  flush.U16(3);
  const std::vector<uint8_t> message = Message(Type::kFlush, std::move(flush), 3);
  driver_.Chain().Readable(message).Writable(64).Submit();
  driver_.Chain().Readable(message).Writable(64).Submit();
  EXPECT_EQ(Run().size(), 2u);
}

TEST(P9Module, OptionsOfTheOtherProtocolAreRefused) {
  for (const char* more : {":cache=always", ":writeback=true", ":timeout=1", ":queues=2"}) {
    const auto prepared = kP9Module.prepare(std::string("/tmp:tag") + more);
    ASSERT_FALSE(prepared.has_value()) << more;
    EXPECT_NE(prepared.error().ToString().find("type=fs"), std::string::npos);
  }
  EXPECT_FALSE(kP9Module.prepare("/tmp").has_value());
  EXPECT_FALSE(kP9Module.prepare("/does/not/exist:tag").has_value());
}

}  // namespace
}  // namespace crosvm::devices::p9
