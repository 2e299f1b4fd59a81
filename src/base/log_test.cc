#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "base/check.h"
#include "testing/child_main.h"

namespace crosvm {
namespace {

// Catches the log of one test in a memory file.
class LogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fd_ = memfd_create("log", MFD_CLOEXEC);
    ASSERT_GE(fd_, 0);
    // Memory files do not lock their position as files of open(2) do.
    ASSERT_EQ(fcntl(fd_, F_SETFL, O_APPEND), 0);
    before_ = LogFilterSpec();
    SetLogFd(fd_);
  }
  void TearDown() override {
    SetLogFd(STDERR_FILENO);
    SetLogLabel("");
    EXPECT_TRUE(SetLogFilter(before_).has_value());
    close(fd_);
  }
  std::string Text(int fd) {
    std::string text(1 << 20, '\0');
    const ssize_t size = pread(fd, text.data(), text.size(), 0);
    text.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return text;
  }
  std::string Text() { return Text(fd_); }

  int fd_ = -1;
  std::string before_;
};

TEST_F(LogTest, LinesCarryLevelAndModule) {
  ASSERT_TRUE(SetLogFilter("info").has_value());
  LOG_INFO("disk {}: {} bytes", 1, 512);
  LOG_DEBUG("not shown");
  EXPECT_EQ(Text(), "crosvm: info: base: disk 1: 512 bytes\n");
}

TEST_F(LogTest, LabelNamesTheProcess) {
  ASSERT_TRUE(SetLogFilter("warn").has_value());
  SetLogLabel("block[0]");
  LOG_WARN("x");
  EXPECT_EQ(Text(), fmt::format("crosvm block[0]({}): warn: base: x\n", getpid()));
}

TEST_F(LogTest, FilterPicksModules) {
  ASSERT_TRUE(SetLogFilter("warn,base=debug,virtio=error").has_value());
  EXPECT_TRUE(internal::LogEnabled(LogLevel::kDebug, "base"));
  EXPECT_FALSE(internal::LogEnabled(LogLevel::kWarn, "virtio"));
  EXPECT_TRUE(internal::LogEnabled(LogLevel::kWarn, "pci"));
  EXPECT_FALSE(internal::LogEnabled(LogLevel::kInfo, "pci"));
  EXPECT_EQ(LogFilterSpec(), "warn,base=debug,virtio=error");
}

TEST_F(LogTest, BadFilterChangesNothing) {
  ASSERT_TRUE(SetLogFilter("info,base=debug").has_value());
  for (const char* spec : {"loud", "info,base=loud", "info,", ",info", "info,=x", "info,base="}) {
    const Status status = SetLogFilter(spec);
    ASSERT_FALSE(status.has_value()) << spec;
    EXPECT_EQ(status.error().kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(LogFilterSpec(), "info,base=debug");
  }
}

TEST_F(LogTest, ErrorsAreCounted) {
  ::crosvm::testing::ExpectLoggedErrors();
  const uint64_t before = LoggedErrors();
  LOG_ERROR("one");
  LOG_WARN("none");
  EXPECT_EQ(LoggedErrors(), before + 1);
}

TEST_F(LogTest, RecentLinesAreKept) {
  for (int i = 0; i < 100; ++i) LOG_WARN("line {}.", i);
  LOG_WARN("{}", std::string(1000, 'y'));
  const int dump = memfd_create("dump", MFD_CLOEXEC);
  DumpRecentLog(dump);
  const std::string text = Text(dump);
  close(dump);
  EXPECT_EQ(text.find("line 36."), std::string::npos);
  EXPECT_NE(text.find("line 37."), std::string::npos);
  EXPECT_LT(text.find("line 98."), text.find("line 99."));
  // A long line is cut, and still a line.
  EXPECT_EQ(text.back(), '\n');
}

TEST_F(LogTest, HostileTextStaysOneLine) {
  LOG_WARN("guest says '{}'", "a\nb\x1b[2J\r");
  const std::string text = Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST_F(LogTest, RateLimitCountsWhatItDrops) {
  internal::RateLimit limit;
  uint64_t suppressed = 99;
  EXPECT_TRUE(limit.Pass(std::chrono::hours(1), suppressed));
  EXPECT_EQ(suppressed, 0U);
  EXPECT_FALSE(limit.Pass(std::chrono::hours(1), suppressed));
  internal::RateLimit open;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(open.Pass(std::chrono::nanoseconds(0), suppressed));
  for (int i = 0; i < 5; ++i) LOG_WARN_EVERY(std::chrono::hours(1), "often");
  EXPECT_EQ(Text(), "crosvm: warn: base: often\n");
}

TEST_F(LogTest, ThreadsWriteWholeLines) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) LOG_WARN("thread {} says something of some length", t);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = Text();
  size_t lines = 0;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    EXPECT_EQ(text.compare(at, 14, "crosvm: warn: "), 0);
    ++lines;
  }
  EXPECT_EQ(lines, 800U);
}

TEST(CheckDeathTest, NamesTheConditionAndRecentLines) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        LOG_WARN("before the end");
        CHECK(1 + 1 == 3, "queue {}", 5);
      },
      "CHECK\\(1 \\+ 1 == 3\\) failed: queue 5\n.*recent log:\n.*before the end");
}

}  // namespace
}  // namespace crosvm
