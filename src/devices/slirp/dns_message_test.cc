#include "devices/slirp/dns_message.h"

#include <gtest/gtest.h>

#include "devices/slirp/testing/frames.h"

namespace crosvm::devices::slirp {
namespace {

using namespace testing;

// A record behind a question; `owner` in wire form.
Bytes Record(const Bytes& owner, uint16_t type, const Bytes& data, uint32_t ttl = 60) {
  return owner + Be16(type) + Be16(1) + Be16(ttl >> 16) + Be16(ttl & 0xffff) + Be16(data.size()) +
         data;
}

const Bytes kQuestionName = {0xc0, 12};

Bytes Answer(const std::string& name, uint16_t type, const std::vector<Bytes>& records) {
  Bytes message = DnsQuestion(name, type);
  message[2] = 0x81;
  message[3] = 0x80;
  message[7] = static_cast<uint8_t>(records.size());
  for (const Bytes& record : records) message = message + record;
  return message;
}

TEST(DnsMessageTest, QueriesAreTakenApartAndMadeAnew) {
  const auto query = ParseDnsQuery(DnsQuestion("WWW.Example.com", 28, 0xabcd));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->id, 0xabcd);
  EXPECT_EQ(query->name, "www.example.com");
  EXPECT_EQ(query->type, 28);
  EXPECT_TRUE(query->AsksForAddress());
  EXPECT_FALSE(query->extended);
  EXPECT_EQ(MakeDnsQuery(*query, 0x1111), DnsQuestion("WWW.Example.com", 28, 0x1111));
}

TEST(DnsMessageTest, OnlyOurOwnExtensionGoesOn) {
  Bytes message = DnsQuestion("a.example", 1);
  message[11] = 1;
  // An option that could carry anything.
  const Bytes option = {0, 10, 0, 4, 's', 'e', 'c', 'r'};
  message =
      message + Bytes{0} + Be16(41) + Be16(1232) + Be16(0) + Be16(0) + Be16(option.size()) + option;
  const auto query = ParseDnsQuery(message);
  ASSERT_TRUE(query);
  EXPECT_TRUE(query->extended);
  const Bytes made = MakeDnsQuery(*query, 7);
  EXPECT_EQ(made.size(), DnsQuestion("a.example", 1).size() + 11);
  EXPECT_EQ(std::search(made.begin(), made.end(), option.begin(), option.end()), made.end());
}

TEST(DnsMessageTest, AnswersGiveTheAddressesOfTheName) {
  const auto query = ParseDnsQuery(DnsQuestion("good.example", 1));
  const auto answer = ParseDnsAnswer(Answer("good.example", 1,
                                            {Record(kQuestionName, 1, {192, 0, 2, 1}),
                                             Record(DnsName("other.example"), 1, {192, 0, 2, 9}),
                                             Record(kQuestionName, 16, {3, 'a', 'b', 'c'}),
                                             Record(kQuestionName, 1, {192, 0, 2, 2}, 0)}),
                                     *query);
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->addresses.size(), 2u);
  EXPECT_EQ(answer->addresses[0].address.ToString(), "192.0.2.1");
  EXPECT_EQ(answer->addresses[0].ttl, 60u);
  EXPECT_EQ(answer->addresses[1].address.ToString(), "192.0.2.2");
}

TEST(DnsMessageTest, AliasesAreFollowed) {
  const auto query = ParseDnsQuery(DnsQuestion("good.example", 28));
  Bytes address(16, 0);
  address[0] = 0x20;
  const auto answer =
      ParseDnsAnswer(Answer("good.example", 28,
                            {Record(kQuestionName, 5, DnsName("One.example")),
                             Record(DnsName("two.example"), 28, address),
                             Record(DnsName("one.example"), 5, DnsName("two.example"))}),
                     *query);
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->addresses.size(), 1u);
  EXPECT_EQ(answer->addresses[0].address.ToString(), "2000::");
}

TEST(DnsMessageTest, Hostile_AliasesThatGoRoundEnd) {
  const auto query = ParseDnsQuery(DnsQuestion("a.example", 1));
  const auto answer =
      ParseDnsAnswer(Answer("a.example", 1,
                            {Record(kQuestionName, 5, DnsName("b.example")),
                             Record(DnsName("b.example"), 5, DnsName("a.example"))}),
                     *query);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->addresses.empty());
}

TEST(DnsMessageTest, Hostile_AnswersToOtherQuestionsAreNone) {
  const auto query = ParseDnsQuery(DnsQuestion("good.example", 1));
  EXPECT_FALSE(ParseDnsAnswer(Answer("evil.example", 1, {}), *query));
  EXPECT_FALSE(ParseDnsAnswer(Answer("good.example", 28, {}), *query));
  EXPECT_FALSE(ParseDnsAnswer(DnsQuestion("good.example", 1), *query));
  EXPECT_TRUE(ParseDnsAnswer(Answer("GOOD.example", 1, {}), *query));
}

TEST(DnsMessageTest, Hostile_QueriesOfAnotherShapeAreNone) {
  const Bytes good = DnsQuestion("a.example", 1);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes message = good;
    message[at] = value;
    return message;
  };
  EXPECT_FALSE(ParseDnsQuery(with(2, 0x81)));  // an answer
  EXPECT_FALSE(ParseDnsQuery(with(2, 0x28)));  // an update
  EXPECT_FALSE(ParseDnsQuery(with(5, 2)));     // two questions
  EXPECT_FALSE(ParseDnsQuery(with(5, 0)));
  EXPECT_FALSE(ParseDnsQuery(with(7, 1)));      // with an answer
  EXPECT_FALSE(ParseDnsQuery(with(12, 0xc0)));  // a pointer
  EXPECT_FALSE(ParseDnsQuery(with(12, 0x41)));
  EXPECT_FALSE(ParseDnsQuery(with(13, '.')));  // a label with a dot: a.example it is not
  EXPECT_FALSE(ParseDnsQuery(with(13, 0)));
  EXPECT_FALSE(ParseDnsQuery(with(good.size() - 1, 3)));  // class CHAOS
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(ParseDnsQuery(std::span(good).first(length))) << length;
}

TEST(DnsMessageTest, Hostile_PointersDoNotLoop) {
  const auto query = ParseDnsQuery(DnsQuestion("a.example", 1));
  const uint8_t here = static_cast<uint8_t>(DnsQuestion("a.example", 1).size());
  for (const Bytes& owner : {Bytes{0xc0, here}, Bytes{0xc0, static_cast<uint8_t>(here + 2)},
                             Bytes{0xff, 0xff}, Bytes{1, 'x', 0xc0, here}}) {
    const auto answer =
        ParseDnsAnswer(Answer("a.example", 1, {Record(owner, 1, {192, 0, 2, 1})}), *query);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->addresses.empty());
  }
}

TEST(DnsMessageTest, Hostile_NamesAreNoLongerThanNamesCanBe) {
  std::string name;
  for (int i = 0; i < 8; ++i) name += std::string(31, 'x') + ".";
  EXPECT_FALSE(ParseDnsQuery(DnsQuestion(name + "yyyyyyy", 1)));
}

TEST(DnsMessageTest, ErrorsHaveTheGuestsId) {
  const auto query = ParseDnsQuery(DnsQuestion("a.example", 1, 0x4711));
  const Bytes error = MakeDnsError(*query, kDnsRefused);
  EXPECT_EQ(error[0], 0x47);
  EXPECT_EQ(error[3] & 0xf, kDnsRefused);
  EXPECT_TRUE(ParseDnsAnswer(error, *query));
}

}  // namespace
}  // namespace crosvm::devices::slirp
