#include "base/error.h"

#include <gtest/gtest.h>

#include "base/result.h"

namespace crosvm {
namespace {

Status OpenImage(int err) {
  errno = err;
  return FailErrno("opening root.img");
}

Status StartDisk(int index, int err) {
  TRY_CONTEXT(OpenImage(err), "starting disk {}", index);
  return {};
}

Result<std::unique_ptr<int>> MakeNumber(bool ok) {
  if (!ok) return Fail(ErrorKind::kInvalidArgument, "no number {}", 7);
  return std::make_unique<int>(7);
}

Result<int> TwiceNumber(bool ok) {
  const std::unique_ptr<int> number = TRY(MakeNumber(ok));  // move-only
  return *number * 2;
}

TEST(ErrorTest, ReadsAsAChain) {
  const Status status = StartDisk(0, EACCES);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().ToString(), "starting disk 0: opening root.img: permission denied");
  EXPECT_EQ(status.error().kind(), ErrorKind::kPermissionDenied);
  EXPECT_EQ(status.error().sys_errno(), EACCES);
}

TEST(ErrorTest, KindFollowsErrno) {
  const std::pair<int, ErrorKind> kinds[] = {
      {ENOENT, ErrorKind::kNotFound},
      {EEXIST, ErrorKind::kAlreadyExists},
      {EADDRINUSE, ErrorKind::kAlreadyExists},
      {EPERM, ErrorKind::kPermissionDenied},
      {EAGAIN, ErrorKind::kBusy},
      {EINVAL, ErrorKind::kInvalidArgument},
      {ENOSYS, ErrorKind::kUnsupported},
      {EOPNOTSUPP, ErrorKind::kUnsupported},
      {ETIMEDOUT, ErrorKind::kTimedOut},
      {EPIPE, ErrorKind::kDisconnected},
      {ECONNRESET, ErrorKind::kDisconnected},
      {EIO, ErrorKind::kIo},
  };
  for (const auto& [err, kind] : kinds) {
    EXPECT_EQ(Error::FromErrno(err, "x").kind(), kind) << err;
  }
}

TEST(ErrorTest, UnknownErrnoHasText) {
  EXPECT_FALSE(Error::FromErrno(99999, "x").ToString().empty());
}

TEST(ErrorTest, TryPassesValuesAndErrors) {
  EXPECT_EQ(TwiceNumber(true).value(), 14);
  const auto failed = TwiceNumber(false);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().ToString(), "no number 7");
  EXPECT_EQ(failed.error().sys_errno(), 0);
}

TEST(ErrorTest, CloneIsIndependent) {
  Error original = Error::FromErrno(EIO, "reading");
  const Error copy = original.Clone();
  const Error longer = std::move(original).Context("block");
  EXPECT_EQ(copy.ToString(), "reading: input/output error");
  EXPECT_EQ(copy.sys_errno(), EIO);
  EXPECT_EQ(longer.ToString(), "block: reading: input/output error");
}

}  // namespace
}  // namespace crosvm
