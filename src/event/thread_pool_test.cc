#include "event/thread_pool.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <set>

#include "event/test_loop.h"

namespace crosvm::event {
namespace {

TEST(ThreadPoolTest, RunsJobsOnOtherThreadsAndPostsBack) {
  TestLoop loop;
  auto pool = ThreadPool::Create(3, "a name longer than fifteen bytes").value();
  const pthread_t self = pthread_self();
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    pool->Run([&] {
      const bool other = pthread_equal(self, pthread_self()) == 0;
      loop.Post([&, other] { done += other ? 1 : 0; });
    });
  }
  EXPECT_TRUE(loop.RunUntil([&] { return done == 100; }));
}

TEST(ThreadPoolTest, DestructionRunsWhatIsQueued) {
  std::atomic<int> done{0};
  {
    auto pool = ThreadPool::Create(2, "test").value();
    for (int i = 0; i < 500; ++i) pool->Run([&] { done.fetch_add(1); });
  }
  EXPECT_EQ(done.load(), 500);
}

TEST(ThreadPoolTest, OneThreadKeepsTheOrder) {
  std::string order;
  {
    auto pool = ThreadPool::Create(1, "test").value();
    for (const char c : {'a', 'b', 'c'}) pool->Run([&order, c] { order += c; });
  }
  EXPECT_EQ(order, "abc");
}

TEST(ThreadPoolTest, ThreadsRunAtTheSameTime) {
  Mutex mutex;
  CondVar changed;
  int waiting = 0;
  {
    auto pool = ThreadPool::Create(2, "test").value();
    for (int i = 0; i < 2; ++i) {
      // Each waits for the other: one thread alone would never end.
      pool->Run([&] {
        MutexLock lock(mutex);
        ++waiting;
        changed.NotifyAll();
        while (waiting < 2) changed.Wait(mutex);
      });
    }
  }
  EXPECT_EQ(waiting, 2);
}

TEST(ThreadPoolTest, WorkersTakeNoSignalsButFaults) {
  sigset_t mask;
  {
    auto pool = ThreadPool::Create(1, "test").value();
    pool->Run([&] { pthread_sigmask(SIG_SETMASK, nullptr, &mask); });
  }
  EXPECT_EQ(sigismember(&mask, SIGTERM), 1);
  EXPECT_EQ(sigismember(&mask, SIGCHLD), 1);
  EXPECT_EQ(sigismember(&mask, SIGSYS), 0);
  EXPECT_EQ(sigismember(&mask, SIGSEGV), 0);
  sigset_t ours;
  pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  EXPECT_EQ(sigismember(&ours, SIGTERM), 0);
}

}  // namespace
}  // namespace crosvm::event
