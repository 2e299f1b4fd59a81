#include "devices/slirp/packet.h"

#include <gtest/gtest.h>

#include "devices/slirp/testing/frames.h"

namespace crosvm::devices::slirp {
namespace {

using namespace testing;

TEST(PacketTest, TcpOpensWithASynAlone) {
  const auto packet = ParseFrame(Tcp(kGuest, 1000, "192.0.2.1", 443, kSyn));
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->protocol, Protocol::kTcp);
  EXPECT_EQ(packet->source.ToString(), kGuest);
  EXPECT_EQ(packet->destination.ToString(), "192.0.2.1");
  EXPECT_EQ(packet->source_port, 1000);
  EXPECT_EQ(packet->destination_port, 443);
  EXPECT_TRUE(packet->opens);
  EXPECT_FALSE(ParseFrame(Tcp(kGuest, 1, "192.0.2.1", 2, kAck))->opens);
  EXPECT_FALSE(ParseFrame(Tcp(kGuest, 1, "192.0.2.1", 2, kSyn | kAck))->opens);
  // Whatever else is set: libslirp looks at less than all of the flags.
  EXPECT_TRUE(ParseFrame(Tcp(kGuest, 1, "192.0.2.1", 2, kSyn | 0xc8))->opens);
}

TEST(PacketTest, UdpOfBothFamilies) {
  for (const auto& [from, to] :
       {std::pair(kGuest, "192.0.2.1"), std::pair(kGuest6, "2001:db8::1")}) {
    const Bytes frame = Udp(from, 5, to, 6, {1, 2, 3});
    const auto packet = ParseFrame(frame);
    ASSERT_TRUE(packet) << to;
    EXPECT_EQ(packet->protocol, Protocol::kUdp);
    EXPECT_EQ(Bytes(packet->payload.begin(), packet->payload.end()), (Bytes{1, 2, 3}));
    EXPECT_EQ(packet->destination.ToString(), to);
  }
}

TEST(PacketTest, PaddingIsNotPartOfThePacket) {
  Bytes frame = Udp(kGuest, 5, "192.0.2.1", 6, {1});
  frame.resize(frame.size() + 17, 0xee);
  const auto packet = ParseFrame(frame);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->payload.size(), 1u);
  EXPECT_EQ(packet->network.size(), 29u);
}

TEST(PacketTest, EchoArpAndNeighbours) {
  EXPECT_EQ(ParseFrame(Echo(kGuest, "10.0.2.2"))->protocol, Protocol::kEcho);
  EXPECT_EQ(ParseFrame(Echo(kGuest6, "fd00::2"))->protocol, Protocol::kEcho);
  EXPECT_EQ(ParseFrame(ArpRequest(kGuest, "10.0.2.2"))->protocol, Protocol::kArp);
  const Bytes solicitation = WithSum(58, "fe80::1", "ff02::2", {133, 0, 0, 0, 0, 0, 0, 0}, 2);
  EXPECT_EQ(ParseFrame(solicitation)->protocol, Protocol::kNeighbour);
}

TEST(PacketTest, Hostile_EveryCutIsRefused) {
  for (const Bytes& whole : {Tcp(kGuest, 1, "192.0.2.1", 2, kSyn), Udp(kGuest, 1, "192.0.2.1", 2),
                             Udp(kGuest6, 1, "2001:db8::1", 2), Echo(kGuest, "10.0.2.2"),
                             ArpRequest(kGuest, "10.0.2.2")}) {
    for (size_t length = 0; length < whole.size(); ++length) {
      EXPECT_FALSE(ParseFrame(std::span(whole).first(length))) << length;
    }
  }
}

TEST(PacketTest, Hostile_FragmentsAndOptionsAreRefused) {
  const Bytes good = Udp(kGuest, 1, "192.0.2.1", 2);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes frame = good;
    frame[14 + at] = value;
    return frame;
  };
  EXPECT_TRUE(ParseFrame(with(6, 0x40)));   // do not fragment
  EXPECT_FALSE(ParseFrame(with(6, 0x20)));  // more fragments
  EXPECT_FALSE(ParseFrame(with(7, 1)));     // not the first fragment
  EXPECT_FALSE(ParseFrame(with(6, 0x80)));  // reserved
  EXPECT_FALSE(ParseFrame(with(0, 0x46)));  // options
  EXPECT_FALSE(ParseFrame(with(0, 0x44)));
  EXPECT_FALSE(ParseFrame(with(0, 0x65)));  // IPv6 where IPv4 is said to be
  EXPECT_FALSE(ParseFrame(with(9, 2)));     // IGMP
  EXPECT_FALSE(ParseFrame(with(3, 19)));    // shorter than its header
}

TEST(PacketTest, Hostile_LengthsThatDisagreeAreRefused) {
  Bytes udp = Udp(kGuest, 1, "192.0.2.1", 2, {1, 2, 3, 4});
  udp[14 + 20 + 5] = 11;  // shorter than the packet: the rest could be taken for something else
  EXPECT_FALSE(ParseFrame(udp));
  udp[14 + 20 + 5] = 13;
  EXPECT_FALSE(ParseFrame(udp));
  Bytes tcp = Tcp(kGuest, 1, "192.0.2.1", 2, kSyn);
  tcp[14 + 20 + 12] = 0x60;  // header beyond the end
  EXPECT_FALSE(ParseFrame(tcp));
  tcp[14 + 20 + 12] = 0x40;  // header too short
  EXPECT_FALSE(ParseFrame(tcp));
}

TEST(PacketTest, Hostile_ExtensionHeadersAndOtherTypesAreRefused) {
  for (const int next : {0, 43, 44, 50, 51, 59, 60, 135, 1, 4, 41}) {
    EXPECT_FALSE(ParseFrame(Ip(static_cast<uint8_t>(next), kGuest6, "2001:db8::1", Bytes(40, 0))))
        << next;
  }
  for (const int type : {0x8100, 0x88a8, 0x88f8, 0x8863, 0x0801, 46}) {
    Bytes frame = Udp(kGuest, 1, "192.0.2.1", 2);
    frame[12] = static_cast<uint8_t>(type >> 8);
    frame[13] = static_cast<uint8_t>(type);
    EXPECT_FALSE(ParseFrame(frame)) << type;
  }
  Bytes unreachable = Echo(kGuest, "192.0.2.1");
  unreachable[14 + 20] = 3;
  EXPECT_FALSE(ParseFrame(unreachable));
}

TEST(PacketTest, RepliesAreWellFormed) {
  for (const auto& [from, to] : {std::pair(kGuest, "10.0.2.3"), std::pair(kGuest6, "fd00::3")}) {
    const Bytes request = Udp(from, 4000, to, 53, {1, 2, 3});
    const auto packet = ParseFrame(request);
    ASSERT_TRUE(packet);
    const Bytes answer = MakeUdpReply(*packet, Bytes{9, 8, 7, 6, 5});
    EXPECT_EQ(answer, [&] {
      // The same by the other way, but for the fields that are ours to choose.
      Bytes expected = Udp(to, 53, from, 4000, {9, 8, 7, 6, 5});
      std::copy_n(request.begin() + 6, 6, expected.begin());
      std::copy_n(request.begin(), 6, expected.begin() + 6);
      if (packet->source.v6) return expected;
      expected[14 + 5] = 0;  // identification
      expected[14 + 10] = answer[14 + 10];
      expected[14 + 11] = answer[14 + 11];
      return expected;
    }());
    const auto parsed = ParseFrame(answer);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->source, packet->destination);
    if (packet->source.v6) continue;
    EXPECT_EQ(Checksum(Bytes(answer.begin() + 14, answer.begin() + 34)), 0);
  }
}

TEST(PacketTest, RefusalsQuoteWhatWasRefused) {
  const Bytes syn = Tcp(kGuest, 1, "192.0.2.1", 2, kSyn);
  const Bytes answer = MakeProhibited(*ParseFrame(syn));
  ASSERT_EQ(answer.size(), 14u + 20 + 8 + 40);
  EXPECT_EQ(answer[14 + 20], 3);
  EXPECT_EQ(answer[14 + 21], 13);
  EXPECT_EQ(Checksum(Bytes(answer.begin() + 34, answer.end())), 0);
  EXPECT_EQ(Bytes(answer.begin() + 42, answer.end()), Bytes(syn.begin() + 14, syn.end()));
  const Bytes answer6 = MakeProhibited(*ParseFrame(Tcp(kGuest6, 1, "2001:db8::1", 2, kSyn)));
  EXPECT_EQ(answer6[14 + 40], 1);
  EXPECT_EQ(answer6[14 + 41], 1);
}

}  // namespace
}  // namespace crosvm::devices::slirp
