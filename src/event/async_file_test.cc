// One suite for both engines: they must not differ in anything a device can see.
#include "event/async_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "event/io_step.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::event {
namespace {

struct Uring {
  static constexpr IoEngine kEngine = IoEngine::kUring;
  static constexpr const char* kName = "io_uring";
};
struct Pool {
  static constexpr IoEngine kEngine = IoEngine::kPool;
  static constexpr const char* kName = "pool";
};

// A file that has no name any more, on a file system that can punch holes.
sys::UniqueFd MakeFile(uint64_t size = 0) {
  char path[] = "/var/tmp/crosvm-event-XXXXXX";
  sys::UniqueFd fd(mkostemp(path, O_CLOEXEC));
  EXPECT_TRUE(fd.valid());
  unlink(path);
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

std::vector<uint8_t> Pattern(size_t size, uint8_t seed = 1) {
  std::vector<uint8_t> data(size);
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<uint8_t>(i * 31 + i / 253 + seed);
  return data;
}

iovec Iov(std::vector<uint8_t>& data) {
  return {data.data(), data.size()};
}

template <typename Engine>
class AsyncFileTest : public ::testing::Test {
 protected:
  void Open(sys::UniqueFd fd, uint32_t depth = 16) {
    copy_ = fd.Dup().value();
    auto file = OpenAsyncFile(loop_, std::move(fd),
                              {.engine = Engine::kEngine, .depth = depth, .pool_threads = 3});
    ASSERT_TRUE(file.has_value()) << file.error().ToString();
    file_ = *std::move(file);
    EXPECT_STREQ(file_->engine(), Engine::kName);
  }

  int64_t RunOp(IoOp& op) {
    bool done = false;
    op.done = [](IoOp&, void* context) { *static_cast<bool*>(context) = true; };
    op.context = &done;
    file_->Submit(op);
    EXPECT_FALSE(done);
    file_->Flush();
    EXPECT_TRUE(loop_.RunUntil([&] { return done; }));
    EXPECT_EQ(file_->in_flight(), 0U);
    return op.result;
  }
  int64_t Transfer(IoKind kind, uint64_t offset, std::span<const iovec> buffers) {
    IoOp op{.kind = kind, .offset = offset, .buffers = buffers};
    return RunOp(op);
  }
  int64_t Range(IoKind kind, uint64_t offset, uint64_t length, bool may_unmap = false) {
    IoOp op{.kind = kind, .offset = offset, .length = length, .may_unmap = may_unmap};
    return RunOp(op);
  }
  std::vector<uint8_t> Contents(uint64_t offset, size_t size) {
    std::vector<uint8_t> data(size, 0xee);
    data.resize(sys::PreadAll(copy_, data, offset).value());
    return data;
  }
  uint64_t AllocatedBytes() {
    return static_cast<uint64_t>(sys::Stat(copy_).value().st_blocks) * 512;
  }

  TestLoop loop_;
  sys::UniqueFd copy_;
  std::unique_ptr<AsyncFile> file_;
};

using Engines = ::testing::Types<Uring, Pool>;
TYPED_TEST_SUITE(AsyncFileTest, Engines);

TYPED_TEST(AsyncFileTest, WritesAndReadsScattered) {
  this->Open(MakeFile());
  std::vector<uint8_t> a = Pattern(4096, 1);
  std::vector<uint8_t> b = Pattern(513, 2);
  std::vector<uint8_t> c = Pattern(1, 3);
  const iovec out[] = {Iov(a), Iov(b), Iov(c)};
  EXPECT_EQ(this->Transfer(IoKind::kWrite, 7, out), 4096 + 513 + 1);
  std::vector<uint8_t> all = a;
  all.insert(all.end(), b.begin(), b.end());
  all.insert(all.end(), c.begin(), c.end());
  EXPECT_EQ(this->Contents(7, 10000), all);

  std::vector<uint8_t> in1(3);
  std::vector<uint8_t> in2(all.size() - 3);
  const iovec in[] = {Iov(in1), Iov(in2)};
  EXPECT_EQ(this->Transfer(IoKind::kRead, 7, in), static_cast<int64_t>(all.size()));
  in1.insert(in1.end(), in2.begin(), in2.end());
  EXPECT_EQ(in1, all);
}

TYPED_TEST(AsyncFileTest, ReadAtTheEndIsShort) {
  this->Open(MakeFile(5000));
  std::vector<uint8_t> data(4096, 1);
  const iovec in[] = {Iov(data)};
  EXPECT_EQ(this->Transfer(IoKind::kRead, 4096, in), 5000 - 4096);
  EXPECT_EQ(data[5000 - 4096 - 1], 0);
  EXPECT_EQ(data[5000 - 4096], 1);
  EXPECT_EQ(this->Transfer(IoKind::kRead, 5000, in), 0);
  EXPECT_EQ(this->Transfer(IoKind::kRead, 1 << 20, in), 0);
}

TYPED_TEST(AsyncFileTest, NoBuffersMoveNothing) {
  this->Open(MakeFile(4096));
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, {}), 0);
  EXPECT_EQ(this->Transfer(IoKind::kWrite, 0, {}), 0);
}

TYPED_TEST(AsyncFileTest, ErrorsComeBackAsErrno) {
  sys::UniqueFd file = MakeFile(4096);
  const std::string path = fmt::format("/proc/self/fd/{}", file.get());
  this->Open(sys::Open(path, O_RDONLY).value());
  std::vector<uint8_t> data = Pattern(512);
  const iovec buffers[] = {Iov(data)};
  EXPECT_EQ(this->Transfer(IoKind::kWrite, 0, buffers), -EBADF);
  EXPECT_EQ(this->Range(IoKind::kPunchHole, 0, 512), -EBADF);
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, buffers), 512);
}

TYPED_TEST(AsyncFileTest, FullDeviceReportsNoSpace) {
  this->Open(sys::Open("/dev/full", O_RDWR).value());
  std::vector<uint8_t> data = Pattern(512);
  const iovec buffers[] = {Iov(data)};
  EXPECT_EQ(this->Transfer(IoKind::kWrite, 0, buffers), -ENOSPC);
}

TYPED_TEST(AsyncFileTest, BadMemoryIsAnError) {
  this->Open(MakeFile(8192));
  void* const hole = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(hole, MAP_FAILED);
  const iovec buffers[] = {{hole, 4096}};
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, buffers), -EFAULT);
  EXPECT_EQ(munmap(hole, 4096), 0);
}

// What a careless device could pass on from a guest: refused, and later operations work.
TYPED_TEST(AsyncFileTest, Hostile_ImpossibleRanges) {
  this->Open(MakeFile(8192));
  std::vector<uint8_t> data(512);
  const iovec one[] = {Iov(data)};
  // All ones means "the current position" to io_uring; it must not get there.
  EXPECT_EQ(this->Transfer(IoKind::kRead, UINT64_MAX, one), -EINVAL);
  EXPECT_EQ(this->Transfer(IoKind::kRead, INT64_MAX, one), -EINVAL);
  const iovec huge[] = {{data.data(), SIZE_MAX}, {data.data(), 512}};
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, huge), -EINVAL);
  const std::vector<iovec> many(IOV_MAX + 1, one[0]);
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, many), -EINVAL);
  EXPECT_EQ(this->Range(IoKind::kPunchHole, UINT64_MAX, UINT64_MAX), -EINVAL);
  EXPECT_EQ(this->Range(IoKind::kWriteZeroes, 4096, UINT64_MAX), -EINVAL);
  EXPECT_EQ(this->Range(IoKind::kPunchHole, 0, 0), -EINVAL);
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, one), 512);
}

TYPED_TEST(AsyncFileTest, ManyOperationsBeyondTheDepth) {
  constexpr size_t kOps = 500;
  static constexpr size_t kBytes = 700;
  this->Open(MakeFile(), /*depth=*/4);
  struct Request {
    IoOp op;
    std::vector<uint8_t> data;
    iovec buffer{};
    int calls = 0;
  };
  std::vector<Request> requests(kOps);
  size_t done = 0;
  const auto submit_all = [&](IoKind kind) {
    done = 0;
    for (size_t i = 0; i < kOps; ++i) {
      Request& request = requests[i];
      request.buffer = Iov(request.data);
      request.op.kind = kind;
      // Not in the order of the offsets.
      request.op.offset = (i * 7919 % kOps) * kBytes;
      request.op.buffers = std::span(&request.buffer, 1);
      request.op.context = &done;
      request.op.done = [](IoOp& op, void* context) {
        EXPECT_EQ(op.result, static_cast<int64_t>(kBytes));
        ++*static_cast<size_t*>(context);
      };
      this->file_->Submit(request.op);
    }
    EXPECT_EQ(this->file_->in_flight(), kOps);
    this->file_->Flush();
    EXPECT_TRUE(this->loop_.RunUntil([&] { return done == kOps; }));
    EXPECT_EQ(this->file_->in_flight(), 0U);
  };
  for (size_t i = 0; i < kOps; ++i) {
    requests[i].data = Pattern(kBytes, static_cast<uint8_t>(i * 7919 % kOps));
  }
  submit_all(IoKind::kWrite);
  for (Request& request : requests) std::ranges::fill(request.data, 0);
  submit_all(IoKind::kRead);
  for (size_t i = 0; i < kOps; ++i) {
    EXPECT_EQ(requests[i].data, Pattern(kBytes, static_cast<uint8_t>(i * 7919 % kOps))) << i;
  }
}

TYPED_TEST(AsyncFileTest, CallbackMaySubmitTheSameOperationAgain) {
  this->Open(MakeFile(1 << 16), /*depth=*/1);
  struct Chain {
    AsyncFile* file;
    int left = 50;
    IoOp op;
  } chain{.file = this->file_.get()};
  std::vector<uint8_t> data(512);
  const iovec buffers[] = {Iov(data)};
  chain.op = {.kind = IoKind::kRead, .buffers = buffers};
  chain.op.context = &chain;
  chain.op.done = [](IoOp& op, void* context) {
    auto& self = *static_cast<Chain*>(context);
    EXPECT_EQ(op.result, 512);
    if (--self.left == 0) return;
    op.offset += 512;
    self.file->Submit(op);
    self.file->Flush();
  };
  this->file_->Submit(chain.op);
  this->file_->Flush();
  EXPECT_TRUE(this->loop_.RunUntil([&] { return chain.left == 0; }));
}

TYPED_TEST(AsyncFileTest, LastCallbackMayDestroyTheFile) {
  this->Open(MakeFile(4096));
  for (const uint64_t offset : {uint64_t{0}, UINT64_MAX}) {  // carried out, and refused
    if (!this->file_) this->Open(MakeFile(4096));
    std::vector<uint8_t> data(512);
    const iovec buffers[] = {Iov(data)};
    IoOp op{.kind = IoKind::kRead, .offset = offset, .buffers = buffers};
    op.context = &this->file_;
    op.done = [](IoOp&, void* context) {
      static_cast<std::unique_ptr<AsyncFile>*>(context)->reset();
    };
    this->file_->Submit(op);
    this->file_->Flush();
    EXPECT_TRUE(this->loop_.RunUntil([&] { return this->file_ == nullptr; }));
    this->loop_.RunUntilIdle();
  }
}

TYPED_TEST(AsyncFileTest, Syncs) {
  this->Open(MakeFile(4096));
  EXPECT_EQ(this->Range(IoKind::kSync, 0, 0), 0);
  EXPECT_EQ(this->Range(IoKind::kDataSync, 0, 0), 0);
}

TYPED_TEST(AsyncFileTest, PunchHoleFreesBlocks) {
  this->Open(MakeFile());
  constexpr size_t kSize = 1 << 20;
  std::vector<uint8_t> data = Pattern(kSize);
  const iovec buffers[] = {Iov(data)};
  ASSERT_EQ(this->Transfer(IoKind::kWrite, 0, buffers), kSize);
  ASSERT_EQ(this->Range(IoKind::kSync, 0, 0), 0);
  const uint64_t before = this->AllocatedBytes();
  ASSERT_EQ(this->Range(IoKind::kPunchHole, kSize / 4, kSize / 2), 0);
  ASSERT_EQ(this->Range(IoKind::kSync, 0, 0), 0);
  EXPECT_LE(this->AllocatedBytes() + kSize / 2, before);
  EXPECT_EQ(sys::FileSize(this->copy_).value(), kSize);
  std::fill(data.begin() + kSize / 4, data.begin() + kSize * 3 / 4, uint8_t{0});
  EXPECT_EQ(this->Contents(0, kSize), data);
}

TYPED_TEST(AsyncFileTest, WriteZeroesKeepsOrFreesBlocks) {
  this->Open(MakeFile());
  constexpr size_t kSize = 1 << 20;
  std::vector<uint8_t> data = Pattern(kSize);
  const iovec buffers[] = {Iov(data)};
  for (const bool may_unmap : {false, true}) {
    ASSERT_EQ(this->Transfer(IoKind::kWrite, 0, buffers), kSize);
    ASSERT_EQ(this->Range(IoKind::kSync, 0, 0), 0);
    const uint64_t before = this->AllocatedBytes();
    // Not aligned to anything.
    ASSERT_EQ(this->Range(IoKind::kWriteZeroes, 1001, kSize - 5000, may_unmap), 0);
    ASSERT_EQ(this->Range(IoKind::kSync, 0, 0), 0);
    if (may_unmap) {
      EXPECT_LT(this->AllocatedBytes(), before / 2);
    } else {
      EXPECT_GE(this->AllocatedBytes(), kSize);
    }
    std::vector<uint8_t> expected = data;
    std::fill_n(expected.begin() + 1001, kSize - 5000, uint8_t{0});
    EXPECT_EQ(this->Contents(0, kSize), expected);
  }
}

// A memory file has no FALLOC_FL_ZERO_RANGE, so the zeroes are really written: more than one call's
// worth.
TYPED_TEST(AsyncFileTest, WriteZeroesFallsBackToWriting) {
  constexpr size_t kSize = 40 << 20;
  sys::UniqueFd memory(memfd_create("test", MFD_CLOEXEC));
  ASSERT_TRUE(memory.valid());
  std::vector<uint8_t> data(kSize, 0xff);
  ASSERT_TRUE(sys::WriteAll(memory, data).has_value());
  ASSERT_EQ(fallocate(memory.get(), FALLOC_FL_ZERO_RANGE, 0, 4096), -1);
  this->Open(std::move(memory));
  ASSERT_EQ(this->Range(IoKind::kWriteZeroes, 3, kSize - 10), 0);
  std::fill_n(data.begin() + 3, kSize - 10, uint8_t{0});
  EXPECT_EQ(this->Contents(0, kSize + 1), data);
}

TYPED_TEST(AsyncFileTest, UnsupportedHoleIsReported) {
  auto [ours, peer] = sys::UnixSocket::Pair(sys::SocketType::kStream).value();
  this->Open(ours.TakeFd());
  // Sockets have no fallocate at all: an error, not a hang or a fallback.
  EXPECT_LT(this->Range(IoKind::kPunchHole, 0, 4096), 0);
}

TYPED_TEST(AsyncFileTest, DirectReadAtAnOddEndIsShort) {
  sys::UniqueFd buffered = MakeFile(6000);
  std::vector<uint8_t> contents = Pattern(6000);
  ASSERT_TRUE(sys::PwriteAll(buffered, contents, 0).has_value());
  ASSERT_EQ(fsync(buffered.get()), 0);
  auto direct = sys::Open(fmt::format("/proc/self/fd/{}", buffered.get()), O_RDWR | O_DIRECT);
  if (!direct) GTEST_SKIP() << "no O_DIRECT here: " << direct.error().ToString();
  this->Open(*std::move(direct));
  void* const memory = aligned_alloc(4096, 8192);
  const iovec buffers[] = {{memory, 8192}};
  EXPECT_EQ(this->Transfer(IoKind::kRead, 0, buffers), 6000);
  EXPECT_EQ(memcmp(memory, contents.data(), contents.size()), 0);
  free(memory);
}

TEST(AsyncFileTest, ReapNeedsNoTurnOfTheLoop) {
  TestLoop loop;
  auto file = OpenAsyncFile(loop, MakeFile(4096), {.engine = IoEngine::kUring}).value();
  std::vector<uint8_t> data(512);
  const iovec buffers[] = {Iov(data)};
  bool done = false;
  int batches = 0;
  IoOp op{.kind = IoKind::kRead, .buffers = buffers};
  op.done = [](IoOp&, void* context) { *static_cast<bool*>(context) = true; };
  op.context = &done;
  file->OnBatchEnd([&] { ++batches; });
  file->Reap();
  EXPECT_EQ(batches, 0);
  file->Submit(op);
  file->Flush();
  EXPECT_FALSE(done);
  while (!done) file->Reap();
  EXPECT_EQ(op.result, 512);
  EXPECT_EQ(batches, 1);
}

TEST(AsyncFileDeathTest, DestructionInFlightAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        TestLoop loop;
        auto file = OpenAsyncFile(loop, MakeFile(4096), {.engine = IoEngine::kPool}).value();
        IoOp op{.kind = IoKind::kSync};
        op.done = [](IoOp&, void*) {};
        file->Submit(op);
        file.reset();
      },
      "in flight");
}

TEST(AsyncFileTest, AutoPicksAnEngine) {
  TestLoop loop;
  const auto file = OpenAsyncFile(loop, MakeFile(4096), {}).value();
  EXPECT_EQ(file->in_flight(), 0U);
}

TEST(AsyncFileTest, AutoFallsBackToThreads) {
  TestLoop loop;
  // A ring takes a file of any kind but one opened with O_PATH, so this stands for a host without
  // io_uring.
  sys::UniqueFd path_only = sys::Open("/", O_PATH).value();
  const auto uring = OpenAsyncFile(loop, path_only.Dup().value(), {.engine = IoEngine::kUring});
  EXPECT_FALSE(uring.has_value());
  const auto file = OpenAsyncFile(loop, std::move(path_only), {}).value();
  EXPECT_STREQ(file->engine(), "pool");
}

// The steps alone, with results that no real file gives on demand.
TEST(IoStepTest, ShortTransfersContinueWhereTheyStopped) {
  std::vector<uint8_t> a(10);
  std::vector<uint8_t> b(20);
  const iovec buffers[] = {Iov(a), Iov(b)};
  IoOp op{.kind = IoKind::kWrite, .offset = 100, .buffers = buffers};
  ASSERT_TRUE(Begin(op));
  IoStep step = NextStep(op);
  EXPECT_EQ(step.offset, 100U);
  EXPECT_EQ(step.buffers.size(), 2U);
  EXPECT_FALSE(Finish(op, 4));
  step = NextStep(op);
  EXPECT_EQ(step.offset, 104U);
  ASSERT_EQ(step.buffers.size(), 2U);
  EXPECT_EQ(step.buffers[0].iov_base, a.data() + 4);
  EXPECT_EQ(step.buffers[0].iov_len, 6U);
  EXPECT_FALSE(Finish(op, -EINTR));
  EXPECT_FALSE(Finish(op, 6));
  step = NextStep(op);
  ASSERT_EQ(step.buffers.size(), 1U);
  EXPECT_EQ(step.buffers[0].iov_base, b.data());
  EXPECT_FALSE(Finish(op, 19));
  step = NextStep(op);
  EXPECT_EQ(step.offset, 129U);
  EXPECT_EQ(step.buffers[0].iov_len, 1U);
  EXPECT_TRUE(Finish(op, 1));
  EXPECT_EQ(op.result, 30);
}

TEST(IoStepTest, ErrorAfterAPartIsTheResult) {
  std::vector<uint8_t> a(10);
  const iovec buffers[] = {Iov(a)};
  IoOp op{.kind = IoKind::kRead, .buffers = buffers};
  ASSERT_TRUE(Begin(op));
  NextStep(op);
  EXPECT_FALSE(Finish(op, 4));
  NextStep(op);
  EXPECT_TRUE(Finish(op, -EIO));
  EXPECT_EQ(op.result, -EIO);
}

TEST(IoStepTest, WriteThatTakesNothingEnds) {
  std::vector<uint8_t> a(10);
  const iovec buffers[] = {Iov(a)};
  IoOp op{.kind = IoKind::kWrite, .buffers = buffers};
  ASSERT_TRUE(Begin(op));
  NextStep(op);
  EXPECT_TRUE(Finish(op, 0));
  EXPECT_EQ(op.result, -EIO);
}

TEST(IoStepTest, ZeroingTriesEachWay) {
  IoOp op{.kind = IoKind::kWriteZeroes, .length = 100, .may_unmap = true};
  ASSERT_TRUE(Begin(op));
  EXPECT_EQ(NextStep(op).mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  EXPECT_FALSE(Finish(op, -EOPNOTSUPP));
  EXPECT_EQ(NextStep(op).mode, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
  EXPECT_FALSE(Finish(op, -EOPNOTSUPP));
  EXPECT_EQ(NextStep(op).call, IoStep::Call::kWritev);
  EXPECT_TRUE(Finish(op, 100));
  EXPECT_EQ(op.result, 0);
}

}  // namespace
}  // namespace crosvm::event
