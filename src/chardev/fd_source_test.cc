#include "chardev/fd_source.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "event/test_loop.h"

namespace crosvm::chardev {
namespace {

class FdSourceTest : public ::testing::Test {
 protected:
  void Open() {
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    writer = sys::UniqueFd(fds[1]);
    Use(sys::UniqueFd(fds[0]));
  }
  void Use(sys::UniqueFd fd) {
    auto made = FdSource::Create(loop, std::move(fd), "test");
    ASSERT_TRUE(made.has_value());
    source = std::move(*made);
  }
  void Start() {
    source->Start([this](std::span<const uint8_t> data) {
      const size_t take = std::min(room, data.size());
      text.append(data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
      room -= take;
      return take;
    });
    loop.RunUntilIdle();
  }
  void Type(const std::string& typed) {
    ASSERT_EQ(write(writer.get(), typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
    loop.RunUntilIdle();
  }

  event::TestLoop loop;
  sys::UniqueFd writer;
  std::unique_ptr<FdSource> source;
  std::string text;
  size_t room = SIZE_MAX;
};

TEST_F(FdSourceTest, InputArrives) {
  Open();
  Start();
  Type("hello");
  Type(" world");
  EXPECT_EQ(text, "hello world");
}

TEST_F(FdSourceTest, InputFromBeforeTheStartIsThere) {
  Open();
  Type("early");
  EXPECT_EQ(text, "");
  Start();
  EXPECT_EQ(text, "early");
}

TEST_F(FdSourceTest, WhatDoesNotFitWaitsForResume) {
  Open();
  room = 3;
  Start();
  Type("hello");
  Type("more");
  EXPECT_EQ(text, "hel");
  source->Resume();  // no room yet
  loop.RunUntilIdle();
  EXPECT_EQ(text, "hel");
  room = 4;
  source->Resume();
  loop.RunUntilIdle();
  EXPECT_EQ(text, "hellomo");
  room = SIZE_MAX;
  source->Resume();
  loop.RunUntilIdle();
  EXPECT_EQ(text, "hellomore");
}

TEST_F(FdSourceTest, AHangUpWhileTheReaderIsFullIsQuietAndLosesNothing) {
  Open();
  room = 1;
  Start();
  Type("abc");
  writer.Reset();
  loop.RunUntilIdle();  // would not end if the hang-up were reported on and on
  room = SIZE_MAX;
  source->Resume();
  loop.RunUntilIdle();
  EXPECT_EQ(text, "abc");
  source->Resume();
  loop.RunUntilIdle();
}

TEST_F(FdSourceTest, AFileIsReadToItsEnd) {
  char path[] = "/tmp/crosvm-fd-source-XXXXXX";
  sys::UniqueFd file(mkostemp(path, O_CLOEXEC));
  unlink(path);
  const std::string content(10'000, 'z');
  ASSERT_EQ(write(file.get(), content.data(), content.size()), 10'000);
  ASSERT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  Use(std::move(file));
  room = 5000;
  Start();
  EXPECT_EQ(text.size(), 5000u);
  room = SIZE_MAX;
  source->Resume();
  loop.RunUntilIdle();
  EXPECT_EQ(text, content);
}

TEST_F(FdSourceTest, DevNullEndsAtOnce) {
  Use(sys::UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)));
  Start();
  EXPECT_EQ(text, "");
}

TEST_F(FdSourceTest, NothingHappensAfterItsEnd) {
  Open();
  Start();
  ASSERT_EQ(write(writer.get(), "lost", 4), 4);
  source->Resume();
  source.reset();
  loop.RunUntilIdle();
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace crosvm::chardev
