// The checklist of virtio 1.2 for the common configuration, by clause; the transport's own is in
// pci_transport_test.cc.
#include "virtio/pci_common_config.h"

#include <gtest/gtest.h>
#include <linux/virtio_pci.h>

namespace crosvm::virtio {
namespace {

using Kind = CommonConfigAction::Kind;

constexpr uint64_t kVersion1 = FeatureBit(VIRTIO_F_VERSION_1);
constexpr uint64_t kOffered =
    kVersion1 | FeatureBit(VIRTIO_F_RING_PACKED) | FeatureBit(kFeatureRingReset) | FeatureBit(3);

class CommonConfigTest : public ::testing::Test {
 protected:
  uint64_t Read(uint32_t offset, size_t width) {
    std::array<uint8_t, 8> data{};
    config_.Read(offset, std::span(data).first(width));
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) value |= uint64_t{data[i]} << (8 * i);
    return value;
  }
  CommonConfigAction Write(uint32_t offset, size_t width, uint64_t value) {
    std::array<uint8_t, 8> data;
    for (size_t i = 0; i < 8; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
    return config_.Write(offset, std::span(data).first(width));
  }
  CommonConfigAction Status(uint8_t value) { return Write(VIRTIO_PCI_COMMON_STATUS, 1, value); }
  uint64_t Status() { return Read(VIRTIO_PCI_COMMON_STATUS, 1); }
  void SetFeatures(uint64_t features) {
    for (uint32_t page = 0; page < 2; ++page) {
      Write(VIRTIO_PCI_COMMON_GFSELECT, 4, page);
      Write(VIRTIO_PCI_COMMON_GF, 4, features >> (32 * page));
    }
  }
  void Negotiate(uint64_t features) {
    Status(1);
    Status(3);
    SetFeatures(features);
    ASSERT_EQ(Status(11).kind, Kind::kCheckFeatures);
    config_.AcceptFeatures();
  }
  void SetAddresses(uint64_t descriptors, uint64_t driver, uint64_t device) {
    Write(VIRTIO_PCI_COMMON_Q_DESCLO, 4, descriptors);
    Write(VIRTIO_PCI_COMMON_Q_DESCHI, 4, descriptors >> 32);
    Write(VIRTIO_PCI_COMMON_Q_AVAILLO, 4, driver);
    Write(VIRTIO_PCI_COMMON_Q_AVAILHI, 4, driver >> 32);
    Write(VIRTIO_PCI_COMMON_Q_USEDLO, 4, device);
    Write(VIRTIO_PCI_COMMON_Q_USEDHI, 4, device >> 32);
  }
  CommonConfigAction Enable(uint16_t value = 1) {
    return Write(VIRTIO_PCI_COMMON_Q_ENABLE, 2, value);
  }
  uint64_t Enabled() { return Read(VIRTIO_PCI_COMMON_Q_ENABLE, 2); }

  DeviceInfo info_{
      .device_id = 2, .features = kOffered, .queue_sizes = {256, 100}, .config_size = 8};
  CommonConfig config_{info_, kOffered};
};

TEST_F(CommonConfigTest, Clause_2_2_FeaturesComeInTwoPages) {
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_DF, 4), kOffered & 0xffff'ffff);
  Write(VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_DF, 4), kOffered >> 32);
  for (const uint32_t page : {2U, 3U, 64U, 0xffff'ffffU}) {
    Write(VIRTIO_PCI_COMMON_DFSELECT, 4, page);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_DFSELECT, 4), page);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_DF, 4), 0U);
  }
}

TEST_F(CommonConfigTest, Clause_2_2_2_UnofferedFeatureRefusesFeaturesOk) {
  Status(3);
  SetFeatures(kVersion1 | FeatureBit(5));
  EXPECT_EQ(Status(11).kind, Kind::kNone);
  EXPECT_EQ(Status(), 3U);
  SetFeatures(kVersion1);
  EXPECT_EQ(Status(11).kind, Kind::kCheckFeatures);
  EXPECT_EQ(Status(), 3U);  // until the device has agreed
  config_.AcceptFeatures();
  EXPECT_EQ(Status(), 11U);
}

TEST_F(CommonConfigTest, Clause_6_1_Version1IsRequired) {
  Status(3);
  SetFeatures(FeatureBit(3));
  EXPECT_EQ(Status(11).kind, Kind::kNone);
  EXPECT_EQ(Status(), 3U);
}

TEST_F(CommonConfigTest, Clause_6_1_NothingAboveBit63CanBeChosen) {
  Status(3);
  SetFeatures(kVersion1);
  Write(VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
  Write(VIRTIO_PCI_COMMON_GF, 4, 0xffff'ffff);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_GF, 4), 0U);
  EXPECT_EQ(config_.driver_features(), kVersion1);
}

TEST_F(CommonConfigTest, Clause_3_1_1_FeaturesAreFrozenByFeaturesOk) {
  Negotiate(kVersion1);
  SetFeatures(kOffered);
  EXPECT_EQ(config_.driver_features(), kVersion1);
}

TEST_F(CommonConfigTest, Clause_3_1_1_DriverOkNeedsFeaturesOk) {
  Status(3);
  EXPECT_EQ(Status(7).kind, Kind::kNone);
  EXPECT_EQ(Status(), 3U);
  SetFeatures(kVersion1);
  EXPECT_EQ(Status(15).kind, Kind::kCheckFeatures);
  config_.AcceptFeatures();
  EXPECT_EQ(Status(), 11U);
  EXPECT_EQ(Status(15).kind, Kind::kDriverOk);
  EXPECT_EQ(Status(15).kind, Kind::kNone);  // once
  EXPECT_TRUE(config_.driver_ok());
}

TEST_F(CommonConfigTest, Clause_2_1_1_BitsAreClearedByResetOnly) {
  Negotiate(kVersion1);
  EXPECT_EQ(Status(1).kind, Kind::kNone);
  EXPECT_EQ(Status(), 11U);
  Status(128);
  EXPECT_EQ(Status(), 11U | 128U);
  Status(64 | 16 | 32);  // not the driver's, not defined
  EXPECT_EQ(Status(), 11U | 128U);
  EXPECT_EQ(Status(0).kind, Kind::kReset);
  EXPECT_NE(Status(), 0U);
  config_.FinishReset();
  EXPECT_EQ(Status(), 0U);
}

TEST_F(CommonConfigTest, Clause_2_1_2_NeedsResetIsShown) {
  config_.SetOverlay(true, 7);
  EXPECT_EQ(Status(), 64U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 7U);
}

TEST_F(CommonConfigTest, Clause_4_1_4_3_DefaultsOfAQueue) {
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_NUMQ, 2), 2U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 256U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffffU);
  EXPECT_EQ(Enabled(), 0U);
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64U);  // a split ring's size below 100
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_MSIX, 2), 0xffffU);
}

TEST_F(CommonConfigTest, Clause_4_1_4_3_2_QueueSize) {
  for (const uint16_t bad : std::to_array<uint16_t>({0, 3, 512, 0xffff})) {
    Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, bad);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 256U) << bad;
  }
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 128);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 128U);
}

TEST_F(CommonConfigTest, Clause_2_8_10_1_PackedSizesNeedNoPowerOfTwo) {
  Negotiate(kVersion1 | FeatureBit(VIRTIO_F_RING_PACKED));
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 100);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 100U);
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 101);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 100U);
}

TEST_F(CommonConfigTest, Clause_4_1_4_3_2_QueueEnable) {
  SetAddresses(0x1000, 0x2000, 0x3000);
  Enable();
  EXPECT_EQ(Enabled(), 0U) << "before FEATURES_OK";
  Negotiate(kVersion1);
  EXPECT_EQ(Enable(2).kind, Kind::kNone);
  EXPECT_EQ(Enabled(), 0U);
  EXPECT_EQ(Enable().kind, Kind::kNone);
  EXPECT_EQ(Enabled(), 1U);
  Enable(0);
  EXPECT_EQ(Enabled(), 1U);
  SetAddresses(0x4000, 0x5000, 0x6000);
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
  EXPECT_EQ(config_.queues()[0].addresses.descriptors.value(), 0x1000U);
  EXPECT_EQ(config_.queues()[0].size, 256U);
}

TEST_F(CommonConfigTest, Clause_2_7_AlignmentIsChecked) {
  Negotiate(kVersion1);
  SetAddresses(0x1008, 0x2000, 0x3000);
  Enable();
  SetAddresses(0x1000, 0x2001, 0x3000);
  Enable();
  SetAddresses(0x1000, 0x2000, 0x3002);
  Enable();
  EXPECT_EQ(Enabled(), 0U);
  SetAddresses(0x1010, 0x2002, 0x3004);
  Enable();
  EXPECT_EQ(Enabled(), 1U);
}

TEST_F(CommonConfigTest, Clause_2_8_PackedAlignmentIsChecked) {
  Negotiate(kVersion1 | FeatureBit(VIRTIO_F_RING_PACKED));
  SetAddresses(0x1000, 0x2002, 0x3000);
  Enable();
  EXPECT_EQ(Enabled(), 0U);
}

TEST_F(CommonConfigTest, AddressesTakeHalvesAndWholes) {
  SetAddresses(0x1'2345'6780, 0x2'0000'0002, 0xffff'ffff'ffff'fff0);
  EXPECT_EQ(config_.queues()[0].addresses.descriptors.value(), 0x1'2345'6780U);
  EXPECT_EQ(config_.queues()[0].addresses.driver.value(), 0x2'0000'0002U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_USEDLO, 8), 0xffff'ffff'ffff'fff0U);
  Write(VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x3'4000);
  EXPECT_EQ(config_.queues()[0].addresses.device.value(), 0x3'4000U);
  Write(VIRTIO_PCI_COMMON_Q_DESCHI, 8, 0);
  EXPECT_EQ(config_.queues()[0].addresses.descriptors.value(), 0x1'2345'6780U);
}

TEST_F(CommonConfigTest, LateQueuesAreAnActionOfTheirOwn) {
  Negotiate(kVersion1);
  Status(15);
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  SetAddresses(0x1000, 0x2000, 0x3000);
  const CommonConfigAction action = Enable();
  EXPECT_EQ(action.kind, Kind::kEnableQueue);
  EXPECT_EQ(action.queue, 1);
}

TEST_F(CommonConfigTest, Clause_2_6_1_QueueReset) {
  Negotiate(kVersion1 | FeatureBit(kFeatureRingReset));
  EXPECT_EQ(Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 1).kind, Kind::kNone) << "not enabled";
  SetAddresses(0x1000, 0x2000, 0x3000);
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
  Enable();
  Status(15);
  EXPECT_EQ(Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 2).kind, Kind::kNone);
  const CommonConfigAction action = Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
  EXPECT_EQ(action.kind, Kind::kResetQueue);
  EXPECT_EQ(action.queue, 0);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_RESET, 2), 1U);
  config_.FinishQueueReset(0);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_RESET, 2), 0U);
  EXPECT_EQ(Enabled(), 0U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 256U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0U);
}

TEST_F(CommonConfigTest, Clause_2_6_1_QueueResetIsNegotiated) {
  Negotiate(kVersion1);
  SetAddresses(0x1000, 0x2000, 0x3000);
  Enable();
  Status(15);
  EXPECT_EQ(Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 1).kind, Kind::kNone);
}

TEST_F(CommonConfigTest, Clause_4_1_5_1_2_VectorsReadBackWhatIsInForce) {
  const CommonConfigAction config = Write(VIRTIO_PCI_COMMON_MSIX, 2, 9);
  EXPECT_EQ(config.kind, Kind::kConfigVector);
  EXPECT_EQ(config.value, 9);
  config_.SetConfigVector(0xffff);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_MSIX, 2), 0xffffU);
  EXPECT_EQ(Write(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1).kind, Kind::kQueueVector);
  config_.SetQueueVector(0, 1);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1U);
}

TEST_F(CommonConfigTest, ResetPutsEverythingBack) {
  Negotiate(kVersion1);
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  SetAddresses(0x1000, 0x2000, 0x3000);
  Enable();
  Status(15);
  Status(0);
  config_.FinishReset();
  for (uint32_t offset = 0; offset < kCommonConfigSize; ++offset) {
    const CommonConfig fresh(info_, kOffered);
    std::array<uint8_t, 1> expected{};
    fresh.Read(offset, expected);
    EXPECT_EQ(Read(offset, 1), expected[0]) << offset;
  }
}

TEST_F(CommonConfigTest, Hostile_SelectBeyondTheQueues) {
  Negotiate(kVersion1);
  for (const uint16_t queue : std::to_array<uint16_t>({2, 3, 0x7fff, 0xffff})) {
    Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SELECT, 2), queue);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0U);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffffU);
    for (uint32_t offset = VIRTIO_PCI_COMMON_Q_SIZE; offset < kCommonConfigSize; offset += 2) {
      for (const size_t width : {2U, 4U, 8U}) {
        EXPECT_EQ(Write(offset, width, 1).kind, Kind::kNone);
      }
    }
  }
}

TEST_F(CommonConfigTest, Hostile_WrongWidthsChangeNothing) {
  Write(VIRTIO_PCI_COMMON_STATUS, 2, 3);
  Write(VIRTIO_PCI_COMMON_STATUS, 4, 3);
  Write(VIRTIO_PCI_COMMON_NUMQ, 4, 0x0003'0000);
  Write(VIRTIO_PCI_COMMON_Q_SIZE, 1, 16);
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 4, 1);
  EXPECT_EQ(Status(), 0U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE, 2), 256U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0U);
  // Reads of another width are bytes of the same registers.
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_NUMQ, 4), 2U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SIZE + 1, 1), 1U);
}

TEST_F(CommonConfigTest, Hostile_EveryWidthAtEveryOffset) {
  for (uint32_t offset = 0; offset < 0x50; ++offset) {
    for (size_t width = 1; width <= 8; ++width) {
      for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{15}, ~uint64_t{0}}) {
        const CommonConfigAction action = Write(offset, width, value);
        if (action.kind == Kind::kReset) config_.FinishReset();
        if (action.kind == Kind::kCheckFeatures) config_.AcceptFeatures();
        if (action.kind == Kind::kResetQueue) config_.FinishQueueReset(action.queue);
        (void)Read(offset, width);
      }
    }
  }
}

}  // namespace
}  // namespace crosvm::virtio
