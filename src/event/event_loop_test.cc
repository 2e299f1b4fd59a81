#include "event/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <thread>

#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "sys/socket.h"

namespace crosvm::event {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::unique_ptr<EventLoop> MakeLoop() {
  auto loop = EventLoop::Create();
  EXPECT_TRUE(loop.has_value());
  return *std::move(loop);
}

sys::EventFd MakeEvent() {
  return sys::EventFd::Create().value();
}

TEST(EventLoopTest, DispatchesReadableDescriptor) {
  TestLoop loop;
  sys::EventFd event = MakeEvent();
  int calls = 0;
  Watch watch = loop.AddWatch(event.fd(), Interest::kRead,
                              [&](Ready ready) {
                                EXPECT_TRUE(ready.readable);
                                EXPECT_FALSE(ready.writable);
                                EXPECT_EQ(event.Drain(), 1U);
                                ++calls;
                              })
                    .value();
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 0);
  event.Signal();
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, DestroyedWatchIsNotCalledInTheSameBatch) {
  TestLoop loop;
  sys::EventFd a = MakeEvent();
  sys::EventFd b = MakeEvent();
  int calls = 0;
  Watch watch_a;
  Watch watch_b;
  // Both are ready in one wait; whichever comes first removes the other.
  watch_a = loop.AddWatch(a.fd(), Interest::kRead,
                          [&](Ready) {
                            ++calls;
                            a.Drain();
                            watch_b.Reset();
                          })
                .value();
  watch_b = loop.AddWatch(b.fd(), Interest::kRead,
                          [&](Ready) {
                            ++calls;
                            b.Drain();
                            watch_a.Reset();
                          })
                .value();
  a.Signal();
  b.Signal();
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 1);
  EXPECT_NE(watch_a.active(), watch_b.active());
}

TEST(EventLoopTest, WatchMayDestroyItselfInsideItsCallback) {
  TestLoop loop;
  sys::EventFd event = MakeEvent();
  auto token = std::make_shared<int>(7);
  int seen = 0;
  Watch watch;
  watch = loop.AddWatch(event.fd(), Interest::kRead,
                        [&, token](Ready) {
                          watch = Watch();
                          seen = *token;  // the captured state lives on until the callback returns
                        })
              .value();
  event.Signal();
  loop.RunUntilIdle();
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(event.Drain(), 1U);
}

TEST(EventLoopTest, SilencedWatchComesBack) {
  TestLoop loop;
  auto [ours, peer] = sys::UnixSocket::Pair(sys::SocketType::kStream).value();
  int calls = 0;
  Watch watch = loop.AddWatch(ours.fd(), Interest::kNone,
                              [&](Ready ready) {
                                EXPECT_TRUE(ready.hangup);
                                ++calls;
                                watch.SetInterest(Interest::kNone);
                              })
                    .value();
  peer = sys::UnixSocket();  // a hangup is silenced too
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 0);
  watch.SetInterest(Interest::kRead);
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, InterestChangedInTheSameBatchHolds) {
  TestLoop loop;
  sys::EventFd a = MakeEvent();
  sys::EventFd b = MakeEvent();
  Watch watch_a;
  Watch watch_b;
  int calls = 0;
  const auto silence_other = [&](Watch& other) {
    return [&](Ready) {
      ++calls;
      other.SetInterest(Interest::kNone);
    };
  };
  watch_a = loop.AddWatch(a.fd(), Interest::kRead, silence_other(watch_b)).value();
  watch_b = loop.AddWatch(b.fd(), Interest::kRead, silence_other(watch_a)).value();
  a.Signal();
  b.Signal();
  ASSERT_TRUE(loop.RunOnce(seconds(10)).has_value());
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, ReportsWritable) {
  TestLoop loop;
  auto [ours, peer] = sys::UnixSocket::Pair(sys::SocketType::kStream).value();
  int writable = 0;
  Watch watch = loop.AddWatch(ours.fd(), Interest::kReadWrite,
                              [&](Ready ready) {
                                EXPECT_FALSE(ready.readable);
                                writable += ready.writable ? 1 : 0;
                                watch.SetInterest(Interest::kRead);
                              })
                    .value();
  loop.RunUntilIdle();
  EXPECT_EQ(writable, 1);
}

TEST(EventLoopTest, RefusesRegularFilesAndDoubleWatches) {
  TestLoop loop;
  const sys::UniqueFd file = sys::CreateSealedMemfd("test", 4096).value();
  EXPECT_FALSE(loop.AddWatch(file, Interest::kRead, [](Ready) {}).has_value());
  sys::EventFd event = MakeEvent();
  Watch first = loop.AddWatch(event.fd(), Interest::kRead, [](Ready) {}).value();
  const auto second = loop.AddWatch(event.fd(), Interest::kRead, [](Ready) {});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind(), ErrorKind::kAlreadyExists);
}

TEST(EventLoopTest, MovedWatchKeepsItsCallback) {
  TestLoop loop;
  sys::EventFd event = MakeEvent();
  int calls = 0;
  Watch first = loop.AddWatch(event.fd(), Interest::kRead,
                              [&](Ready) {
                                event.Drain();
                                ++calls;
                              })
                    .value();
  Watch second = std::move(first);
  EXPECT_FALSE(first.active());  // NOLINT: a moved-from watch is inactive
  event.Signal();
  loop.RunUntilIdle();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, TimersFireInDeadlineOrder) {
  TestLoop loop;
  std::string order;
  Timer c = loop.AddTimer(seconds(3), [&] { order += 'c'; });
  Timer a = loop.AddTimer(seconds(1), [&] { order += 'a'; });
  Timer b = loop.AddTimer(seconds(2), [&] { order += 'b'; });
  loop.AdvanceTime(milliseconds(999));
  EXPECT_EQ(order, "");
  loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(order, "a");
  loop.AdvanceTime(seconds(10));
  EXPECT_EQ(order, "abc");
  loop.AdvanceTime(seconds(10));
  EXPECT_EQ(order, "abc");
}

TEST(EventLoopTest, PeriodicTimerSeesItsDeadlines) {
  TestLoop loop;
  const Clock::time_point start = loop.Now();
  std::vector<Clock::duration> fired;
  Timer timer;
  std::function<void()> tick = [&] {
    fired.push_back(loop.Now() - start);
    timer = loop.AddTimer(seconds(1), tick);
  };
  timer = loop.AddTimer(seconds(1), tick);
  loop.AdvanceTime(milliseconds(3500));
  EXPECT_EQ(fired, (std::vector<Clock::duration>{seconds(1), seconds(2), seconds(3)}));
}

TEST(EventLoopTest, TimerCancelledInTheSameBatchDoesNotFire) {
  TestLoop loop;
  int calls = 0;
  Timer a;
  Timer b;
  a = loop.AddTimer(seconds(1), [&] {
    ++calls;
    b.Reset();
    a.Reset();  // itself: fine
  });
  b = loop.AddTimer(seconds(1), [&] { ++calls; });
  loop.AdvanceTime(seconds(2));
  EXPECT_EQ(calls, 1);
}

TEST(EventLoopTest, RealTimerFires) {
  const auto loop = MakeLoop();
  const Clock::time_point deadline = loop->Now() + milliseconds(5);
  Timer never = loop->AddTimer(std::chrono::hours(1), [] { ADD_FAILURE(); });
  Clock::time_point fired;
  Timer timer = loop->AddTimer(deadline, [&] {
    fired = loop->Now();
    loop->Stop();
  });
  ASSERT_TRUE(loop->Run().has_value());
  EXPECT_GE(fired, deadline);
}

TEST(EventLoopTest, TimerInThePastFiresAtOnce) {
  const auto loop = MakeLoop();
  Timer timer = loop->AddTimer(Clock::time_point(), [&] { loop->Stop(); });
  ASSERT_TRUE(loop->Run().has_value());
}

TEST(EventLoopTest, ZeroTimersDoNotStarveDescriptors) {
  const auto loop = MakeLoop();
  sys::EventFd event = MakeEvent();
  Watch watch = loop->AddWatch(event.fd(), Interest::kRead, [&](Ready) { loop->Stop(); }).value();
  Timer timer;
  std::function<void()> again = [&] {
    timer = loop->AddTimer(Clock::duration::zero(), again);
    event.Signal();
  };
  again();
  ASSERT_TRUE(loop->Run().has_value());
}

TEST(EventLoopTest, PostedWorkRunsInOrder) {
  TestLoop loop;
  std::string order;
  loop.Post([&] {
    order += 'a';
    loop.Post([&] { order += 'c'; });
  });
  loop.Post([&] { order += 'b'; });
  EXPECT_EQ(order, "");
  loop.RunUntilIdle();
  EXPECT_EQ(order, "abc");
}

TEST(EventLoopTest, StopReturnsAfterTheCurrentCallbackAndKeepsTheRest) {
  const auto loop = MakeLoop();
  std::string order;
  loop->Post([&] {
    order += 'a';
    loop->Stop();
    order += 'b';
  });
  loop->Post([&] {
    order += 'c';
    loop->Stop();
  });
  ASSERT_TRUE(loop->Run().has_value());
  EXPECT_EQ(order, "ab");
  ASSERT_TRUE(loop->Run().has_value());
  EXPECT_EQ(order, "abc");
}

TEST(EventLoopTest, PostsAndStopFromOtherThreads) {
  const auto loop = MakeLoop();
  constexpr int kThreads = 4;
  constexpr int kPosts = 2000;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) {
        loop->Post([&] {
          if (++count == kThreads * kPosts) loop->Stop();
        });
      }
    });
  }
  ASSERT_TRUE(loop->Run().has_value());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, kThreads * kPosts);

  std::thread stopper([&] { loop->Stop(); });
  ASSERT_TRUE(loop->Run().has_value());
  stopper.join();
}

TEST(EventLoopTest, DestructionDropsPostedWorkThatOwnsWatches) {
  sys::EventFd event = MakeEvent();
  const auto loop = MakeLoop();
  auto watch =
      std::make_shared<Watch>(loop->AddWatch(event.fd(), Interest::kRead, [](Ready) {}).value());
  auto timer = std::make_shared<Timer>(loop->AddTimer(seconds(1), [] {}));
  loop->Post([watch, timer] { ADD_FAILURE(); });
}

TEST(EventLoopDeathTest, WatchMustNotOutliveItsLoop) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        sys::EventFd event = MakeEvent();
        Watch watch;
        auto loop = MakeLoop();
        watch = loop->AddWatch(event.fd(), Interest::kRead, [](Ready) {}).value();
        loop.reset();
      },
      "outlive");
}

TEST(EventLoopTest, RunMayBeNested) {
  TestLoop loop;
  std::string order;
  loop.Post([&] {
    order += 'a';
    loop.Post([&] { order += 'c'; });
    EXPECT_TRUE(loop.RunUntil([&] { return order == "abc"; }));
    order += 'd';
  });
  loop.Post([&] { order += 'b'; });
  loop.RunUntilIdle();
  EXPECT_EQ(order, "abcd");
}

TEST(TestLoopTest, CheckpointIsReachedFromAnotherThread) {
  TestLoop loop;
  auto reached = loop.CreateCheckpoint("peer");
  std::thread thread([&] { loop.Post(reached); });
  EXPECT_TRUE(loop.RunUntil("peer"));
  thread.join();
  // It was forgotten, so waiting again does not succeed by the old mark.
  EXPECT_FALSE(loop.RunUntil("peer", Clock::duration::zero()));
}

}  // namespace
}  // namespace crosvm::event
