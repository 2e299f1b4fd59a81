#include "codec/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "codec/test_types.h"
#include "sys/file.h"

namespace crosvm::codec {
namespace {

using namespace test_types;
using Ours = Channel<Command, Command>;

struct Ends {
  Ours ours;
  sys::UnixSocket raw;
};

Ends MakeEnds() {
  auto pair = sys::UnixSocket::Pair(sys::SocketType::kSeqPacket).value();
  return {Ours(std::move(pair.first)), std::move(pair.second)};
}

sys::UniqueFd AnFd() {
  return sys::Open("/dev/null", O_RDWR).value();
}

TEST(Channel, CarriesAMessageAndItsDescriptors) {
  auto pair = sys::UnixSocket::Pair(sys::SocketType::kSeqPacket).value();
  Ours a(std::move(pair.first));
  Ours b(std::move(pair.second));
  FdTable fds;
  const Attach attach = {.image = fds.Put(AnFd())};
  ASSERT_TRUE(a.Send(attach, fds));
  Incoming<Command> got = b.Receive().value();
  EXPECT_EQ(std::get<Attach>(got.message), attach);
  EXPECT_TRUE(got.fds.Take(std::get<Attach>(got.message).image));
  ASSERT_TRUE(b.Send(Exit{}));
  EXPECT_EQ(a.Receive()->message, Command(Exit{}));
}

TEST(Channel, JsonFormIsTextOnTheWire) {
  auto pair = sys::UnixSocket::Pair(sys::SocketType::kSeqPacket).value();
  JsonChannel<Command, Command> a(std::move(pair.first));
  ASSERT_TRUE(a.Send(Exit{}));
  uint8_t buffer[64];
  const sys::Received got = pair.second.Receive(buffer).value();
  EXPECT_EQ(std::string(buffer, buffer + got.bytes), "\"Exit\"");
}

TEST(Channel, ClosedPeerIsDisconnected) {
  Ends ends = MakeEnds();
  ends.raw = sys::UnixSocket();
  EXPECT_EQ(ends.ours.Receive().error().kind(), ErrorKind::kDisconnected);
  EXPECT_EQ(ends.ours.Send(Exit{}).error().kind(), ErrorKind::kDisconnected);
}

TEST(Channel, NonBlockingIsBusyWhenEmpty) {
  Ends ends = MakeEnds();
  ASSERT_TRUE(sys::SetNonBlocking(ends.ours.fd(), true));
  EXPECT_EQ(ends.ours.Receive().error().kind(), ErrorKind::kBusy);
}

TEST(Channel, Hostile_GarbageIsAnErrorAndTheNextMessageArrives) {
  Ends ends = MakeEnds();
  const std::vector<uint8_t> garbage = {0xff, 0x00, 0x13};
  ASSERT_TRUE(ends.raw.Send(garbage));
  ASSERT_TRUE(ends.raw.Send(ToCbor<Command>(Exit{})));
  EXPECT_EQ(ends.ours.Receive().error().kind(), ErrorKind::kProtocol);
  EXPECT_EQ(ends.ours.Receive()->message, Command(Exit{}));
}

TEST(Channel, Hostile_NamedDescriptorsMustArrive) {
  Ends ends = MakeEnds();
  ASSERT_TRUE(ends.raw.Send(ToCbor<Command>(Attach{.image = {0}})));
  EXPECT_FALSE(ends.ours.Receive());
}

TEST(Channel, Hostile_UnnamedDescriptorsAreClosed) {
  Ends ends = MakeEnds();
  auto pair = sys::UnixSocket::Pair(sys::SocketType::kSeqPacket).value();
  const sys::BorrowedFd fds[] = {pair.first.fd()};
  ASSERT_TRUE(ends.raw.Send(ToCbor<Command>(Exit{}), fds));
  pair.first = sys::UnixSocket();
  ASSERT_TRUE(ends.ours.Receive());
  // All copies of the other end are closed now.
  uint8_t buffer[1];
  EXPECT_EQ(pair.second.Receive(buffer)->bytes, 0u);
}

TEST(Channel, Hostile_TooLargeIsRefusedOnBothSides) {
  Ends ends = MakeEnds();
  Attach big;
  big.blob.resize(kMaxMessageBytes);
  EXPECT_EQ(ends.ours.Send(big).error().kind(), ErrorKind::kInvalidArgument);
  const std::vector<uint8_t> raw(kMaxMessageBytes + 1);
  ASSERT_TRUE(ends.raw.Send(raw));
  EXPECT_EQ(ends.ours.Receive().error().kind(), ErrorKind::kProtocol);
}

}  // namespace
}  // namespace crosvm::codec
