#include "devices/vsock/credit.h"

#include <gtest/gtest.h>

namespace crosvm::devices::vsock {
namespace {

TEST(Credit, TheGuestMaySendAWindow) {
  Credit credit(1000);
  EXPECT_TRUE(credit.TakeIn(600));
  EXPECT_TRUE(credit.TakeIn(400));
  EXPECT_FALSE(credit.TakeIn(1));
  credit.Forward(300);
  EXPECT_FALSE(credit.TakeIn(301));
  EXPECT_TRUE(credit.TakeIn(300));
}

TEST(Credit, NewsAreDueAfterAQuarterOfTheWindow) {
  Credit credit(1000);
  ASSERT_TRUE(credit.TakeIn(1000));
  credit.Forward(249);
  EXPECT_FALSE(credit.news_due());
  credit.Forward(1);
  EXPECT_TRUE(credit.news_due());
  EXPECT_EQ(credit.Tell().fwd_cnt, 250u);
  EXPECT_FALSE(credit.news_due());
}

TEST(Credit, OurCountersWrap) {
  Credit credit(1u << 20);
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(credit.TakeIn(1u << 20));
    EXPECT_FALSE(credit.TakeIn(1));
    credit.Forward(1u << 20);
    const Credit::Said said = credit.Tell();
    EXPECT_EQ(said.buf_alloc, 1u << 20);
    EXPECT_EQ(said.fwd_cnt, static_cast<uint32_t>((i + 1) * (uint64_t{1} << 20)));
  }
}

TEST(Credit, TheGuestsCountersWrap) {
  Credit credit(1000);
  credit.Hear(0x1000, 0);
  uint32_t forwarded = 0;
  for (int i = 0; i < 1 << 21; ++i) {
    ASSERT_EQ(credit.peer_free(), 0x1000u);
    credit.Sent(0x1000);
    ASSERT_EQ(credit.peer_free(), 0u);
    forwarded += 0x1000;
    credit.Hear(0x1000, forwarded);
  }
}

TEST(Credit, Hostile_Lies) {
  Credit credit(1000);
  EXPECT_EQ(credit.peer_free(), 0u);
  credit.Hear(100, 0);
  credit.Sent(60);
  EXPECT_EQ(credit.peer_free(), 40u);
  credit.Hear(50, 0);  // the window shrinks below what is under way
  EXPECT_EQ(credit.peer_free(), 0u);
  credit.Hear(100, 61);  // more forwarded than was sent
  EXPECT_EQ(credit.peer_free(), 0u);
  credit.Hear(UINT32_MAX, 60);
  EXPECT_EQ(credit.peer_free(), UINT32_MAX);
  credit.Hear(UINT32_MAX, 61);
  EXPECT_EQ(credit.peer_free(), 0u);
  EXPECT_FALSE(credit.TakeIn(UINT32_MAX));
}

}  // namespace
}  // namespace crosvm::devices::vsock
