#include "sys/tap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "testing/child_main.h"

namespace crosvm::sys {
namespace {

// Interfaces of these tests live in a network of their own that ends with the process; needs root,
// or user namespaces.
bool EnterOwnNetwork() {
  return access("/dev/net/tun", R_OK | W_OK) == 0 && unshare(CLONE_NEWNET) == 0;
}

#define OWN_NETWORK() \
  if (!EnterOwnNetwork()) GTEST_SKIP() << "needs /dev/net/tun and a network namespace (root)"

TEST(Tap, IsMadeConfiguredAndGoesWithItsDescriptor) {
  OWN_NETWORK();
  {
    auto tap = MakeTap("vmtap%d", 1);
    ASSERT_TRUE(tap.has_value()) << tap.error().ToString();
    EXPECT_EQ(tap->name, "vmtap0");
    ASSERT_EQ(tap->queues.size(), 1u);
    const Status configured = ConfigureTap(
        tap->name,
        {.ip = {10, 9, 8, 1}, .netmask = {255, 255, 255, 0}, .mac = {{2, 0, 0, 0, 0, 7}}});
    ASSERT_TRUE(configured.has_value()) << configured.error().ToString();
    EXPECT_EQ(*TapMtu(tap->name), 1500u);
    int header = 0;
    ASSERT_EQ(ioctl(tap->queues[0].get(), TUNGETVNETHDRSZ, &header), 0);
    EXPECT_EQ(header, kTapHeaderBytes);
    EXPECT_TRUE(SetTapOffloads(tap->queues[0], TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6).has_value());
    EXPECT_FALSE(SetTapOffloads(tap->queues[0], 1u << 30).has_value());

    UniqueFd control(socket(AF_INET, SOCK_DGRAM, 0));
    ifreq request{};
    memcpy(request.ifr_name, "vmtap0", 7);
    ASSERT_EQ(ioctl(control.get(), SIOCGIFFLAGS, &request), 0);
    EXPECT_TRUE(request.ifr_flags & IFF_UP);
    ASSERT_EQ(ioctl(control.get(), SIOCGIFHWADDR, &request), 0);
    EXPECT_EQ(request.ifr_hwaddr.sa_data[5], 7);
  }
  EXPECT_EQ(if_nametoindex("vmtap0"), 0u);
}

TEST(Tap, QueuesAttachAndDetach) {
  OWN_NETWORK();
  auto tap = MakeTap("multi", 3);
  ASSERT_TRUE(tap.has_value()) << tap.error().ToString();
  ASSERT_EQ(tap->queues.size(), 3u);
  EXPECT_TRUE(SetTapQueueAttached(tap->queues[2], false).has_value());
  EXPECT_FALSE(SetTapQueueAttached(tap->queues[2], false).has_value());
  EXPECT_TRUE(SetTapQueueAttached(tap->queues[2], true).has_value());
}

TEST(Tap, NameInUseSaysSo) {
  OWN_NETWORK();
  auto first = MakeTap("mine", 1);
  ASSERT_TRUE(first.has_value());
  auto second = MakeTap("mine", 1);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind(), ErrorKind::kAlreadyExists);
  EXPECT_NE(second.error().ToString().find("tap-name=mine"), std::string::npos);
  auto attached = AttachTap("mine", 1);
  ASSERT_FALSE(attached.has_value());
  EXPECT_EQ(attached.error().kind(), ErrorKind::kBusy) << attached.error().ToString();
}

TEST(Tap, AttachesToWhatIsThere) {
  OWN_NETWORK();
  auto absent = AttachTap("absent", 2);
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().kind(), ErrorKind::kNotFound);
  EXPECT_NE(absent.error().ToString().find("ip tuntap add"), std::string::npos);
  EXPECT_EQ(if_nametoindex("absent"), 0u);  // not made by the attempt
  auto loopback = AttachTap("lo", 1);
  ASSERT_FALSE(loopback.has_value());
  EXPECT_EQ(loopback.error().kind(), ErrorKind::kInvalidArgument) << loopback.error().ToString();

  auto made = MakeTap("kept", 2);
  ASSERT_TRUE(made.has_value());
  ASSERT_EQ(ioctl(made->queues[0].get(), TUNSETPERSIST, 1), 0);
  made->queues.clear();
  for (uint16_t queues : {1, 2}) {
    auto attached = AttachTap("kept", queues);
    ASSERT_TRUE(attached.has_value()) << attached.error().ToString();
    EXPECT_EQ(attached->queues.size(), queues);
  }
}

TEST(Tap, AdoptsADescriptorWithTheRightFlags) {
  OWN_NETWORK();
  const auto open_tap = [](int flags) {
    UniqueFd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    request.ifr_flags = static_cast<short>(flags);
    EXPECT_EQ(ioctl(fd.get(), TUNSETIFF, &request), 0);
    return fd;
  };
  auto good = AdoptTap(open_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), 1);
  ASSERT_TRUE(good.has_value()) << good.error().ToString();
  EXPECT_EQ(good->name, "tap0");
  EXPECT_TRUE(fcntl(good->queues[0].get(), F_GETFL) & O_NONBLOCK);

  auto multi = AdoptTap(open_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE), 2);
  ASSERT_TRUE(multi.has_value()) << multi.error().ToString();
  EXPECT_EQ(multi->queues.size(), 2u);

  auto poor = AdoptTap(open_tap(IFF_TUN), 2);
  ASSERT_FALSE(poor.has_value());
  EXPECT_NE(poor.error().ToString().find("IFF_VNET_HDR, IFF_MULTI_QUEUE"), std::string::npos)
      << poor.error().ToString();
}

TEST(Tap, Hostile_DescriptorsAndNames) {
  EXPECT_FALSE(AdoptTap(UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)), 1).has_value());
  EXPECT_FALSE(AttachTap("", 1).has_value());
  EXPECT_FALSE(AttachTap("name-of-sixteen-c", 1).has_value());
  EXPECT_FALSE(AttachTap("lo", 0).has_value());
  EXPECT_FALSE(MakeTap("lo", 1).has_value());
  EXPECT_FALSE(MakeTap("many", kMaxTapQueues + 1).has_value());
}

}  // namespace
}  // namespace crosvm::sys
