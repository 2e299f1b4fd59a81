#include "devices/slirp/dns_relay.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "devices/slirp/testing/frames.h"
#include "event/test_loop.h"

namespace crosvm::devices::slirp {
namespace {

using namespace testing;

// A resolver on the loopback that the test plays.
class FakeResolver {
 public:
  FakeResolver() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  uint16_t port() const { return port_; }
  // Empty: nothing came.
  Bytes Receive() {
    Bytes message(4096);
    length_ = sizeof(peer_);
    const ssize_t got = recvfrom(fd_.get(), message.data(), message.size(), 0,
                                 reinterpret_cast<sockaddr*>(&peer_), &length_);
    message.resize(got > 0 ? got : 0);
    return message;
  }
  void Answer(const Bytes& message) {
    EXPECT_EQ(sendto(fd_.get(), message.data(), message.size(), 0,
                     reinterpret_cast<sockaddr*>(&peer_), length_),
              static_cast<ssize_t>(message.size()));
  }

 private:
  sys::UniqueFd fd_;
  uint16_t port_ = 0;
  sockaddr_in peer_{};
  socklen_t length_ = 0;
};

// One address for whatever was asked.
Bytes AnswerTo(Bytes query, const Bytes& address = {192, 0, 2, 1}) {
  query[2] = 0x81;
  query[3] = 0x80;
  query[7] = 1;
  query[11] = 0;
  return query + Bytes{0xc0, 12} + Be16(1) + Be16(1) + Be16(0) + Be16(60) + Be16(4) + address;
}

class DnsRelayTest : public ::testing::Test {
 protected:
  void Make(FilterOptions options, size_t resolvers = 1) {
    filter_ = std::make_unique<Filter>(std::move(options));
    relay_ = std::make_unique<DnsRelay>(
        loop_, *filter_, std::vector<IpAddress>(resolvers, IpAddress::V4({127, 0, 0, 1})),
        [this](std::vector<uint8_t> frame) { frames_.push_back(std::move(frame)); },
        resolver_.port());
  }
  void Ask(const Bytes& message, uint16_t port = 4000) {
    const Bytes frame = Udp(kGuest, port, "10.0.2.3", 53, message);
    relay_->Ask(*ParseFrame(frame));
  }
  // The payload of the only frame for the guest.
  Bytes Replied() {
    EXPECT_EQ(frames_.size(), 1u);
    if (frames_.empty()) return Bytes(12);
    const auto packet = ParseFrame(frames_[0]);
    EXPECT_TRUE(packet && packet->destination_port == 4000 && packet->source_port == 53);
    return packet ? Bytes(packet->payload.begin(), packet->payload.end()) : Bytes(12);
  }
  FilterOptions Allowing(const char* text) {
    return {.restricted = true,
            .allow = {config::AllowedHost::Parse(text).value()},
            .host_loopback = false};
  }
  Verdict Opening(const char* to) {
    return filter_->Judge(*ParseFrame(Tcp(kGuest, 1, to, 80, kSyn)), loop_.Now());
  }

  event::TestLoop loop_;
  FakeResolver resolver_;
  std::unique_ptr<Filter> filter_;
  std::unique_ptr<DnsRelay> relay_;
  std::vector<Bytes> frames_;
};

TEST_F(DnsRelayTest, QuestionsAndAnswersPass) {
  Make({});
  Ask(DnsQuestion("a.example", 16, 0x4242));
  const Bytes query = resolver_.Receive();
  ASSERT_EQ(query.size(), DnsQuestion("a.example", 16).size());
  resolver_.Answer(AnswerTo(query));
  ASSERT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
  Bytes expected = AnswerTo(DnsQuestion("a.example", 16, 0x4242));
  EXPECT_EQ(Replied(), expected);
  EXPECT_EQ(relay_->pending(), 0u);
}

TEST_F(DnsRelayTest, AnAnswerOpensTheAddressesOfAnAllowedName) {
  Make(Allowing("good.example:80"));
  Ask(DnsQuestion("Good.Example", 1));
  EXPECT_EQ(Opening("192.0.2.1"), Verdict::kRefuse);
  resolver_.Answer(AnswerTo(resolver_.Receive()));
  ASSERT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
  EXPECT_EQ(Opening("192.0.2.1"), Verdict::kPass);
}

TEST_F(DnsRelayTest, Hostile_OtherNamesAndOtherQuestionsAreNotAsked) {
  Make(Allowing("good.example"));
  Ask(DnsQuestion("secret.evil.example", 1));
  EXPECT_EQ(Replied()[3] & 0xf, kDnsRefused);
  frames_.clear();
  Ask(DnsQuestion("good.example", 16));
  EXPECT_EQ(Replied()[3] & 0xf, kDnsRefused);
  EXPECT_TRUE(resolver_.Receive().empty());
}

TEST_F(DnsRelayTest, Hostile_AnswersWithAnotherIdOrQuestionAreIgnored) {
  Make(Allowing("good.example"));
  Ask(DnsQuestion("good.example", 1));
  const Bytes query = resolver_.Receive();
  Bytes forged = AnswerTo(query, {192, 0, 2, 66});
  forged[0] ^= 1;
  resolver_.Answer(forged);
  Bytes other = AnswerTo(DnsQuestion("evil.example", 1), {192, 0, 2, 66});
  other[0] = query[0];
  other[1] = query[1];
  resolver_.Answer(other);
  resolver_.Answer(AnswerTo(query));
  ASSERT_TRUE(loop_.RunUntil([&] { return !frames_.empty(); }));
  EXPECT_EQ(Opening("192.0.2.66"), Verdict::kRefuse);
  EXPECT_EQ(Opening("192.0.2.1"), Verdict::kPass);
}

TEST_F(DnsRelayTest, ASilentResolverIsAskedAgainAndThenGivenUp) {
  Make({}, 2);
  Ask(DnsQuestion("a.example", 1));
  for (int tries = 0; tries < 4; ++tries) {
    EXPECT_FALSE(resolver_.Receive().empty()) << tries;
    EXPECT_TRUE(frames_.empty());
    loop_.AdvanceTime(DnsRelay::kPatience);
  }
  EXPECT_EQ(Replied()[3] & 0xf, kDnsServerFailure);
  EXPECT_TRUE(resolver_.Receive().empty());
  EXPECT_EQ(relay_->pending(), 0u);
}

TEST_F(DnsRelayTest, WithoutAResolverQuestionsFailAtOnce) {
  Make({}, 0);
  Ask(DnsQuestion("a.example", 1));
  EXPECT_EQ(Replied()[3] & 0xf, kDnsServerFailure);
}

TEST_F(DnsRelayTest, Hostile_AFloodIsBounded) {
  Make({});
  for (uint16_t i = 0; i < 1000; ++i) Ask(DnsQuestion("a.example", 1, i), i + 1);
  EXPECT_EQ(relay_->pending(), DnsRelay::kMaxPending);
  loop_.AdvanceTime(std::chrono::minutes(1));
  EXPECT_EQ(relay_->pending(), 0u);
  EXPECT_EQ(frames_.size(), DnsRelay::kMaxPending);
}

TEST_F(DnsRelayTest, Hostile_NonsenseIsIgnored) {
  Make({});
  Ask({});
  Ask(Bytes(11, 0xff));
  Ask(Bytes(600, 0xff));
  EXPECT_TRUE(resolver_.Receive().empty());
  EXPECT_TRUE(frames_.empty());
}

}  // namespace
}  // namespace crosvm::devices::slirp
