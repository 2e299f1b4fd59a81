#include "sys/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "sys/epoll.h"
#include "sys/event_fd.h"
#include "sys/timer_fd.h"

namespace crosvm::sys {
namespace {

bool IsOpen(int fd) {
  return fcntl(fd, F_GETFD) != -1;
}

UniqueFd OpenNull() {
  return UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
}

TEST(UniqueFdTest, ClosesOnceAndMoves) {
  UniqueFd a = OpenNull();
  const int number = a.get();
  UniqueFd b = std::move(a);
  EXPECT_FALSE(a.valid());  // NOLINT: moved from
  EXPECT_TRUE(IsOpen(number));
  b = UniqueFd();
  EXPECT_FALSE(IsOpen(number));
}

TEST(UniqueFdTest, SelfMoveKeepsIt) {
  UniqueFd a = OpenNull();
  UniqueFd& same = a;
  a = std::move(same);
  EXPECT_TRUE(IsOpen(a.get()));
}

TEST(UniqueFdTest, ClosingKeepsErrno) {
  UniqueFd a = OpenNull();
  errno = ENOTTY;
  a.Reset();
  EXPECT_EQ(errno, ENOTTY);
}

TEST(UniqueFdTest, DupIsCloseOnExecAndFailsWithoutDescriptor) {
  const UniqueFd a = OpenNull();
  const UniqueFd b = BorrowedFd(a).Dup().value();
  EXPECT_NE(a.get(), b.get());
  EXPECT_EQ(fcntl(b.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FALSE(UniqueFd().Dup().has_value());
}

TEST(UniqueFdDeathTest, DoubleCloseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        UniqueFd a = OpenNull();
        close(a.get());
      },
      "closed by somebody else");
}

TEST(EventFdTest, CountsAndDrains) {
  const EventFd event = EventFd::Create().value();
  EXPECT_EQ(event.Drain(), 0U);
  event.Signal();
  event.Signal();
  EXPECT_EQ(event.Drain(), 2U);
  EXPECT_EQ(event.Drain(), 0U);
  const EventFd copy = event.Dup().value();
  copy.Signal();
  EXPECT_EQ(event.Drain(), 1U);
}

TEST(EventFdTest, FullCounterDoesNotBlock) {
  const EventFd event = EventFd::Create().value();
  const uint64_t most = UINT64_MAX - 1;
  ASSERT_EQ(write(event.fd().get(), &most, sizeof(most)), 8);
  event.Signal();
  EXPECT_EQ(event.Drain(), most);
}

// Whoever was given a copy can make all of them blocking.
TEST(EventFdTest, Hostile_MadeBlockingBehindOurBack) {
  const EventFd event = EventFd::Create().value();
  const EventFd copy = event.Dup().value();
  const UniqueFd theirs = event.fd().Dup().value();
  ASSERT_EQ(fcntl(theirs.get(), F_SETFL, 0), 0);
  for (const EventFd* const ours : {&event, &copy}) {
    EXPECT_EQ(ours->Drain(), 0U);
    ours->Signal();
    ours->Signal();
    EXPECT_EQ(ours->Drain(), 2U);
    const uint64_t most = UINT64_MAX - 1;
    ASSERT_EQ(write(theirs.get(), &most, sizeof(most)), 8);
    ours->Signal();
    EXPECT_EQ(ours->Drain(), most);
  }
}

TEST(EventFdTest, PrivateCountsAndDrains) {
  const EventFd event = EventFd::CreatePrivate().value();
  EXPECT_EQ(event.Drain(), 0U);
  event.Signal();
  event.Dup()->Signal();
  EXPECT_EQ(event.Drain(), 2U);
  EXPECT_EQ(event.Drain(), 0U);
}

TEST(EventFdTest, AdoptedBecomesNonBlocking) {
  const EventFd made = EventFd::Create().value();
  ASSERT_EQ(fcntl(made.fd().get(), F_SETFL, 0), 0);
  const EventFd event = EventFd::Adopt(made.fd().Dup().value());
  EXPECT_EQ(event.Drain(), 0U);
  event.Signal();
  EXPECT_EQ(made.Drain(), 1U);
}

// A peer may send any descriptor as a doorbell.
TEST(EventFdTest, Hostile_OtherDescriptors) {
  EventFd().Signal();
  EXPECT_EQ(EventFd().Drain(), 0U);
  EXPECT_FALSE(EventFd::Adopt(UniqueFd()).valid());
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const EventFd reader = EventFd::Adopt(UniqueFd(ends[0]));
  EXPECT_EQ(reader.Drain(), 0U);  // would block for ever
  {
    const EventFd writer = EventFd::Adopt(UniqueFd(ends[1]));
    writer.Signal();
    EXPECT_EQ(reader.Drain(), 0U);
  }
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  const EventFd broken = EventFd::Adopt(UniqueFd(ends[1]));
  broken.Signal();  // would raise SIGPIPE
  const EventFd null = EventFd::Adopt(OpenNull());
  null.Signal();
  EXPECT_EQ(null.Drain(), 0U);
  const EventFd epoll = EventFd::Adopt(UniqueFd(epoll_create1(EPOLL_CLOEXEC)));
  epoll.Signal();
  EXPECT_EQ(epoll.Drain(), 0U);
}

TEST(TimerFdTest, PastDeadlineFiresAndCancelDisarms) {
  const TimerFd timer = TimerFd::Create().value();
  EXPECT_EQ(timer.Drain(), 0U);
  timer.SetDeadline(std::chrono::steady_clock::time_point());
  const Epoll epoll = Epoll::Create().value();
  ASSERT_TRUE(epoll.Add(timer.fd(), EPOLLIN, 5).has_value());
  epoll_event events[2];
  EXPECT_EQ(epoll.Wait(events, 10'000).value(), 1U);
  EXPECT_EQ(events[0].data.u64, 5U);
  EXPECT_EQ(timer.Drain(), 1U);
  timer.SetDeadline(std::chrono::steady_clock::time_point());
  timer.Cancel();
  EXPECT_EQ(epoll.Wait(events, 0).value(), 0U);
}

TEST(TimerFdTest, FutureDeadlineIsNotEarly) {
  const TimerFd timer = TimerFd::Create().value();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(3);
  timer.SetDeadline(deadline);
  const Epoll epoll = Epoll::Create().value();
  ASSERT_TRUE(epoll.Add(timer.fd(), EPOLLIN, 0).has_value());
  epoll_event events[1];
  ASSERT_EQ(epoll.Wait(events, 10'000).value(), 1U);
  EXPECT_GE(std::chrono::steady_clock::now(), deadline);
}

TEST(EpollTest, ModifyRemoveAndErrors) {
  const Epoll epoll = Epoll::Create().value();
  const EventFd event = EventFd::Create().value();
  epoll_event events[4];
  ASSERT_TRUE(epoll.Add(event.fd(), EPOLLIN, 1).has_value());
  EXPECT_EQ(epoll.Add(event.fd(), EPOLLIN, 1).error().kind(), ErrorKind::kAlreadyExists);
  EXPECT_EQ(epoll.Wait(events, 0).value(), 0U);
  ASSERT_TRUE(epoll.Modify(event.fd(), EPOLLOUT, UINT64_MAX).has_value());
  ASSERT_EQ(epoll.Wait(events, 0).value(), 1U);
  EXPECT_EQ(events[0].data.u64, UINT64_MAX);
  ASSERT_TRUE(epoll.Remove(event.fd()).has_value());
  EXPECT_EQ(epoll.Wait(events, 0).value(), 0U);
  EXPECT_EQ(epoll.Remove(event.fd()).error().kind(), ErrorKind::kNotFound);
}

}  // namespace
}  // namespace crosvm::sys
