#include "devices/slirp/filter.h"

#include <gtest/gtest.h>

#include "devices/slirp/testing/frames.h"

namespace crosvm::devices::slirp {
namespace {

using namespace testing;
using config::AllowedHost;

constexpr Filter::Clock::time_point kNow{std::chrono::hours(1)};

Verdict JudgeFrame(Filter& filter, const Bytes& frame, Filter::Clock::time_point now = kNow) {
  const auto packet = ParseFrame(frame);
  if (!packet) return Verdict::kDrop;
  return filter.Judge(*packet, now);
}

Verdict Opening(Filter& filter, const std::string& to, uint16_t port = 80,
                Filter::Clock::time_point now = kNow) {
  const bool v6 = to.find(':') != std::string::npos;
  return JudgeFrame(filter, Tcp(v6 ? kGuest6 : kGuest, 1000, to, port, kSyn), now);
}

Filter Allowing(std::initializer_list<const char*> texts) {
  FilterOptions options{.restricted = true, .allow = {}, .host_loopback = false};
  for (const char* text : texts) options.allow.push_back(AllowedHost::Parse(text).value());
  return Filter(std::move(options));
}

IpAddress Address(const char* text) {
  return IpAddress::Parse(text).value();
}

TEST(FilterTest, WithoutRestrictionTheWorldIsOpen) {
  Filter filter({});
  EXPECT_EQ(Opening(filter, "192.0.2.1"), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "2001:db8::1"), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 1, "192.0.2.1", 5)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Echo(kGuest, "192.0.2.1")), Verdict::kPass);
}

TEST(FilterTest, LoopbackLinkLocalAndMetadataAreClosed) {
  Filter filter({});
  for (const char* address : {"10.0.2.2",
                              "127.0.0.1",
                              "127.9.9.9",
                              "0.0.0.0",
                              "169.254.1.1",
                              "169.254.169.254",
                              "224.0.0.251",
                              "255.255.255.255",
                              "240.0.0.1",
                              "100.100.100.200",
                              "168.63.129.16",
                              "10.0.2.3",
                              "10.0.2.77",
                              "::1",
                              "::",
                              "fe80::1",
                              "fec0::1",
                              "ff02::fb",
                              "fd00:ec2::254",
                              "fd00::2",
                              "fd00::77",
                              "::ffff:192.0.2.1",
                              "::ffff:127.0.0.1",
                              "::192.0.2.1",
                              "64:ff9b::127.0.0.1",
                              "64:ff9b::169.254.169.254",
                              "2002:7f00:1::1",
                              "64:ff9b::10.0.2.2"}) {
    EXPECT_NE(Opening(filter, address), Verdict::kPass) << address;
    const bool v6 = std::string(address).find(':') != std::string::npos;
    EXPECT_NE(JudgeFrame(filter, Udp(v6 ? kGuest6 : kGuest, 1, address, 5)), Verdict::kPass)
        << address;
  }
  EXPECT_EQ(Opening(filter, "64:ff9b::192.0.2.1"), Verdict::kPass);
}

TEST(FilterTest, TheNetworkItselfWorksUnderAllRestrictions) {
  Filter filter = Allowing({});
  EXPECT_EQ(JudgeFrame(filter, ArpRequest(kGuest, "10.0.2.2")), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp("0.0.0.0", 68, "255.255.255.255", 67)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 68, "10.0.2.2", 67)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp("fe80::1", 546, "ff02::1:2", 547)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Echo(kGuest, "10.0.2.2")), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Echo(kGuest6, "fd00::2")), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 1000, "10.0.2.3", 53)), Verdict::kDns);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest6, 1000, "fd00::3", 53)), Verdict::kDns);
}

TEST(FilterTest, AllowOpensWhatItNames) {
  Filter filter = Allowing({"192.0.2.1:80", "192.0.2.2", "[2001:db8::1]:443"});
  EXPECT_EQ(Opening(filter, "192.0.2.1", 80), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "192.0.2.1", 81), Verdict::kRefuse);
  EXPECT_EQ(Opening(filter, "192.0.2.2", 81), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "192.0.2.3", 80), Verdict::kRefuse);
  EXPECT_EQ(Opening(filter, "2001:db8::1", 443), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "2001:db8::1", 80), Verdict::kRefuse);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 1, "192.0.2.1", 80)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 1, "192.0.2.1", 53)), Verdict::kRefuse);
  // An echo request has no port: a place of one port does not open it.
  EXPECT_EQ(JudgeFrame(filter, Echo(kGuest, "192.0.2.1")), Verdict::kRefuse);
  EXPECT_EQ(JudgeFrame(filter, Echo(kGuest, "192.0.2.2")), Verdict::kPass);
}

TEST(FilterTest, ClosedPlacesOpenWhenNamed) {
  Filter filter = Allowing({"127.0.0.1:8080", "169.254.169.254:80"});
  EXPECT_EQ(Opening(filter, "10.0.2.2", 8080), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "10.0.2.2", 8081), Verdict::kRefuse);
  EXPECT_EQ(Opening(filter, "169.254.169.254", 80), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "169.254.169.254", 81), Verdict::kRefuse);
  // Not by its own address on the wire.
  EXPECT_EQ(Opening(filter, "127.0.0.1", 8080), Verdict::kDrop);
  Filter by_gateway = Allowing({"10.0.2.2:8080"});
  EXPECT_EQ(Opening(by_gateway, "10.0.2.2", 8080), Verdict::kPass);
  Filter loopback({.restricted = false, .allow = {}, .host_loopback = true});
  EXPECT_EQ(Opening(loopback, "10.0.2.2", 1), Verdict::kPass);
  EXPECT_EQ(Opening(loopback, "fd00::2", 1), Verdict::kPass);
  EXPECT_EQ(Opening(loopback, "127.0.0.1", 1), Verdict::kDrop);
}

TEST(FilterTest, NamesOpenTheAddressesOfTheirAnswers) {
  Filter filter = Allowing({"good.example:443", "any.example"});
  EXPECT_TRUE(filter.AllowsName("good.example"));
  EXPECT_FALSE(filter.AllowsName("evil.example"));
  EXPECT_FALSE(filter.AllowsName("sub.good.example"));
  EXPECT_FALSE(filter.AllowsName(""));
  EXPECT_EQ(Opening(filter, "192.0.2.1", 443), Verdict::kRefuse);
  filter.Pin("good.example", Address("192.0.2.1"), std::chrono::seconds(1), kNow);
  EXPECT_EQ(Opening(filter, "192.0.2.1", 443), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "192.0.2.1", 80), Verdict::kRefuse);
  filter.Pin("any.example", Address("192.0.2.2"), std::chrono::seconds(1), kNow);
  EXPECT_EQ(Opening(filter, "192.0.2.2", 80), Verdict::kPass);
  // For at least the shortest time, and at most the longest.
  EXPECT_EQ(Opening(filter, "192.0.2.1", 443, kNow + std::chrono::minutes(9)), Verdict::kPass);
  EXPECT_EQ(Opening(filter, "192.0.2.1", 443, kNow + std::chrono::minutes(11)), Verdict::kRefuse);
  filter.Pin("good.example", Address("192.0.2.3"), std::chrono::seconds(UINT32_MAX), kNow);
  EXPECT_EQ(Opening(filter, "192.0.2.3", 443, kNow + std::chrono::hours(25)), Verdict::kRefuse);
}

TEST(FilterTest, Hostile_RebindingOpensNothingClosed) {
  Filter filter = Allowing({"good.example"});
  for (const char* address :
       {"127.0.0.1", "10.0.2.2", "10.0.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1",
        "fe80::1", "fd00::2", "::ffff:10.1.1.1", "64:ff9b::127.0.0.1", "fd00:ec2::254"}) {
    filter.Pin("good.example", Address(address), std::chrono::hours(1), kNow);
    EXPECT_NE(Opening(filter, address), Verdict::kPass) << address;
  }
  EXPECT_EQ(filter.pins(), 0u);
  // Nor does a name that was not allowed.
  filter.Pin("evil.example", Address("192.0.2.1"), std::chrono::hours(1), kNow);
  EXPECT_EQ(filter.pins(), 0u);
}

TEST(FilterTest, Hostile_AnswersDoNotFillMemory) {
  Filter filter = Allowing({"good.example"});
  for (uint32_t i = 0; i < 3 * Filter::kMaxPins; ++i) {
    filter.Pin("good.example",
               IpAddress::V4({192, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                              static_cast<uint8_t>(i)}),
               std::chrono::seconds(i), kNow);
  }
  EXPECT_EQ(filter.pins(), Filter::kMaxPins);
}

TEST(FilterTest, SegmentsOfConnectionsPassAndOpenNone) {
  Filter filter = Allowing({});
  // A connection that a forward brought is answered; libslirp resets what belongs to none.
  EXPECT_EQ(JudgeFrame(filter, Tcp(kGuest, 80, "192.0.2.1", 5000, kSyn | kAck)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Tcp(kGuest, 80, "192.0.2.1", 5000, kAck)), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Tcp(kGuest, 80, "192.0.2.1", 5000, kSyn)), Verdict::kRefuse);
  EXPECT_EQ(JudgeFrame(filter, Tcp(kGuest, 80, "192.0.2.1", 5000, kSyn | 8)), Verdict::kRefuse);
}

TEST(FilterTest, DatagramsOfForwardsMayBeAnswered) {
  Filter filter = Allowing({});
  const Bytes answer = Udp(kGuest, 81, "192.0.2.1", 6000);
  EXPECT_EQ(JudgeFrame(filter, answer), Verdict::kRefuse);
  filter.NoteDatagram(*ParseFrame(Udp("192.0.2.1", 6000, kGuest, 81)), kNow);
  EXPECT_EQ(JudgeFrame(filter, answer), Verdict::kPass);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 82, "192.0.2.1", 6000)), Verdict::kRefuse);
  EXPECT_EQ(JudgeFrame(filter, Udp(kGuest, 81, "192.0.2.1", 6001)), Verdict::kRefuse);
  EXPECT_EQ(JudgeFrame(filter, answer, kNow + std::chrono::minutes(5)), Verdict::kRefuse);
  for (uint16_t port = 1; port < 2000; ++port)
    filter.NoteDatagram(*ParseFrame(Udp("192.0.2.1", port, kGuest, 81)), kNow);
  EXPECT_EQ(filter.flows(), Filter::kMaxFlows);
}

TEST(FilterTest, Hostile_ForeignSourcesAreDropped) {
  Filter filter({});
  for (const char* source :
       {"192.0.2.9", "127.0.0.1", "10.0.2.2", "10.0.2.3", "0.0.0.0", "255.255.255.255"})
    EXPECT_EQ(JudgeFrame(filter, Udp(source, 1, "192.0.2.1", 2)), Verdict::kDrop) << source;
  EXPECT_EQ(JudgeFrame(filter, Udp("2001:db8::9", 1, "2001:db8::1", 2)), Verdict::kDrop);
}

TEST(FilterTest, Hostile_OtherServicesOfTheGatewayAreClosed) {
  Filter filter({});
  for (const uint16_t port : {67, 69, 53, 123, 547}) {
    EXPECT_NE(JudgeFrame(filter, Udp(kGuest, 1000, "10.0.2.2", port)), Verdict::kPass) << port;
  }
  EXPECT_EQ(Opening(filter, "10.0.2.3", 53), Verdict::kRefuse);
}

}  // namespace
}  // namespace crosvm::devices::slirp
