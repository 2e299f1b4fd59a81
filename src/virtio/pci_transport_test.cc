#include "virtio/pci_transport.h"

#include <gtest/gtest.h>
#include <linux/virtio_pci.h>

#include <cstring>
#include <tuple>

#include "sys/memfd.h"
#include "virtio/pci_transport_fixture.h"

namespace crosvm::virtio {
namespace {

TEST_F(PciTransportTest, Clause_4_1_2_Identity) {
  EXPECT_EQ(ConfigRead(0, 4), 0x1042'1af4U);
  EXPECT_EQ(ConfigRead(PCI_REVISION_ID, 4), 0x0100'0001U);
  EXPECT_EQ(ConfigRead(PCI_SUBSYSTEM_VENDOR_ID, 4), 0x1042'1af4U);
  EXPECT_EQ(ConfigRead(PCI_INTERRUPT_LINE, 2), 0x010bU);
}

// The whole header and capability list, as `lspci -xxx` would show it. Guests' drivers bind by
// these bytes.
TEST_F(PciTransportTest, GoldenConfigurationSpace) {
  constexpr const char* kGolden =
      "00: f4 1a 42 10 06 00 10 00 01 00 00 01 00 00 00 00\n"
      "10: 00 00 00 d0 00 00 00 00 00 00 00 00 00 00 00 00\n"
      "20: 00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 42 10\n"
      "30: 00 00 00 00 40 00 00 00 00 00 00 00 0b 01 00 00\n"
      "40: 09 50 10 01 00 00 00 00 00 00 00 00 40 00 00 00\n"
      "50: 09 60 10 03 00 00 00 00 00 10 00 00 01 00 00 00\n"
      "60: 09 70 10 04 00 00 00 00 00 20 00 00 00 10 00 00\n"
      "70: 09 84 14 02 00 00 00 00 00 30 00 00 00 10 00 00\n"
      "80: 04 00 00 00 09 98 14 05 00 00 00 00 00 00 00 00\n"
      "90: 00 00 00 00 00 00 00 00 11 00 03 00 00 60 00 00\n"
      "a0: 00 70 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n";
  std::string dump;
  for (uint32_t line = 0; line < 0xb0; line += 16) {
    dump += fmt::format("{:02x}:", line);
    for (uint32_t i = 0; i < 16; ++i) dump += fmt::format(" {:02x}", ConfigRead(line + i, 1));
    dump += "\n";
  }
  EXPECT_EQ(dump, kGolden);
}

TEST_F(PciTransportTest, Clause_4_1_4_7_SharedMemoryCapabilities) {
  Make({{.id = 1, .size = 0x3000}, {.id = 7, .size = uint64_t{8} << 30}});
  ASSERT_TRUE(transport_->config().SetBarAddress(4, uint64_t{1} << 36).has_value());
  EXPECT_EQ(transport_->config().bar(4)->size, uint64_t{16} << 30);
  const uint32_t first = FindCapability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_SHARED_MEMORY_CFG);
  const auto second = static_cast<uint32_t>(ConfigRead(first + 1, 1));
  EXPECT_EQ(ConfigRead(second + 4, 2), 0x0704U);  // BAR 4, id 7
  EXPECT_EQ(ConfigRead(second + 8, 4), 0x3000U);
  EXPECT_EQ(ConfigRead(second + 12, 4), 0U);
  EXPECT_EQ(ConfigRead(second + 16, 4), 0U);
  EXPECT_EQ(ConfigRead(second + 20, 4), 2U);
  ConfigWrite(PCI_COMMAND, 2, 0);
  EXPECT_EQ(vm_.memory_count(), 0u);
  ConfigWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  EXPECT_EQ(vm_.Memory(hypervisor::MemorySlot(0))->guest.value(), uint64_t{1} << 36);
  EXPECT_EQ(vm_.Memory(hypervisor::MemorySlot(0))->size, (uint64_t{8} << 30) + 0x3000);
}

TEST_F(PciTransportTest, AResetUnmapsTheSharedMemory) {
  Make({{.id = 0, .size = 0x10000}});
  const sys::UniqueFd file = *sys::CreateSealedMemfd("file", 0x1000);
  ASSERT_TRUE(shared_->Map({.region = 0, .offset = 0, .length = 0x1000}, file, 0, true));
  Drive(kVersion1);
  EXPECT_EQ(shared_->mapping_count(), 1u);
  Write(VIRTIO_PCI_COMMON_STATUS, 1, 0);
  EXPECT_EQ(shared_->mapping_count(), 0u);
}

TEST_F(PciTransportTest, DriverOkActivatesTheEnabledQueues) {
  Drive(kVersion1 | FeatureBit(6));
  EXPECT_EQ(Status(), 15U);
  EXPECT_EQ(backend_->activations, 1);
  EXPECT_EQ(backend_->features, kVersion1 | FeatureBit(6));
  ASSERT_EQ(backend_->running.size(), 2U);
  EXPECT_EQ(backend_->running[1].index, 2);
  EXPECT_EQ(backend_->running[1].size, 16);
  EXPECT_EQ(backend_->running[1].addresses.device.value(), 0xa000U);
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase, 0)));
  EXPECT_FALSE(vm_.HasIoEvent(Doorbell(kBase, 1)));
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase, 2)));
}

TEST_F(PciTransportTest, Clause_2_2_DeviceMayRefuseFeatures) {
  backend_->refused_features = FeatureBit(6);
  Negotiate(kVersion1 | FeatureBit(6));
  EXPECT_EQ(Status(), 3U);
  Negotiate(kVersion1);
  EXPECT_EQ(Status(), 11U);
}

TEST_F(PciTransportTest, DoorbellsMoveWithTheBar) {
  Drive();
  ConfigWrite(PCI_BASE_ADDRESS_0, 4, kBase + 0x10'0000);
  EXPECT_FALSE(vm_.HasIoEvent(Doorbell(kBase, 0)));
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase + 0x10'0000, 0)));
  std::array<uint8_t, 1> status{};
  EXPECT_TRUE(mmio_.Read(kBase + 0x10'0000 + VIRTIO_PCI_COMMON_STATUS, status));
  EXPECT_EQ(status[0], 15);
  ConfigWrite(PCI_COMMAND, 2, 0);
  EXPECT_EQ(vm_.io_event_count(), 0U);
  ConfigWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  EXPECT_EQ(vm_.io_event_count(), 2U);
}

TEST_F(PciTransportTest, NotifyInUserSpaceRingsTheDoorbellToo) {
  Drive();
  for (const size_t width : {1U, 2U, 4U}) Write(kNotifyOffset + 8, width, 2);
  Write(kNotifyOffset + 0xffc, 4, 0);  // no such queue
  EXPECT_EQ(backend_->running[1].kick->Drain(), 3U);
  EXPECT_EQ(backend_->running[0].kick->Drain(), 0U);
  // The same descriptor is what the ioeventfd rings, for a write of any length.
  EXPECT_EQ(vm_.WriteIo(kBase + kNotifyOffset + 8, 2, 2), 1U);
  EXPECT_EQ(backend_->running[1].kick->Drain(), 1U);
}

TEST_F(PciTransportTest, Clause_2_1_2_ResetDrainsAndStartsOver) {
  Drive();
  SetStatus(0);
  EXPECT_EQ(Status(), 0U);
  EXPECT_EQ(backend_->deactivations, 1);
  EXPECT_EQ(vm_.io_event_count(), 0U);
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0U);
  SetStatus(0);
  EXPECT_EQ(backend_->deactivations, 1);
  Drive();
  EXPECT_EQ(backend_->activations, 2);
}

TEST_F(PciTransportTest, ResetOfADeadDeviceStillEnds) {
  Drive();
  backend_->failure = ErrorKind::kTimedOut;
  SetStatus(0);
  EXPECT_EQ(Status(), 0U);
  // It is treated as gone: it is not asked again, and the driver cannot get it to work.
  const int reads = backend_->config_reads;
  EXPECT_EQ(Read(kDeviceConfigOffset, 4), 0U);
  EXPECT_EQ(backend_->config_reads, reads);
  Negotiate(kVersion1);
  EXPECT_EQ(Status(), 3U);
}

TEST_F(PciTransportTest, WhileADeviceIsReplacedTheDriverReadsWhatItRead) {
  Drive();
  EXPECT_EQ(Read(kDeviceConfigOffset, 4), 0x04030201U);
  const int reads = backend_->config_reads;
  backend_->failure = ErrorKind::kDisconnected;
  EXPECT_EQ(Read(kDeviceConfigOffset, 4), 0x04030201U);
  EXPECT_EQ(Read(kDeviceConfigOffset, 4), 0x04030201U);
  EXPECT_EQ(backend_->config_reads, reads + 1);
  EXPECT_EQ(Read(kDeviceConfigOffset + 4, 4), 0U);  // never read before
}

TEST_F(PciTransportTest, Clause_2_1_2_FailingDeviceNeedsReset) {
  Drive();
  UseMsix(0, 0);
  Write(VIRTIO_PCI_COMMON_MSIX, 2, 0);
  backend_->events.failed(MakeError(ErrorKind::kDisconnected, "gone"));
  loop_.RunUntilIdle();
  EXPECT_EQ(Status(), 15U | 64U);
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 1U);
  SetStatus(0);
  EXPECT_EQ(Status(), 0U);
}

TEST_F(PciTransportTest, FailingActivationNeedsReset) {
  backend_->failure.reset();
  Negotiate(kVersion1);
  backend_->failure = ErrorKind::kIo;
  SetStatus(15);
  EXPECT_EQ(Status(), 15U | 64U);
}

TEST_F(PciTransportTest, Hostile_RingsOutsideMemory) {
  for (const uint64_t at : {kRam, kRam - 0x1000, uint64_t{0xd000'0000}, ~uint64_t{0} - 0x2fff}) {
    Negotiate(kVersion1);
    EnableQueue(0, at & ~uint64_t{0xf});
    SetStatus(15);
    EXPECT_EQ(Status(), 15U | 64U) << at;
    EXPECT_EQ(backend_->activations, 0);
    SetStatus(0);
  }
}

TEST_F(PciTransportTest, QueueEnabledLateIsStarted) {
  Drive();
  EnableQueue(1, 0xc000);
  ASSERT_EQ(backend_->running.size(), 3U);
  EXPECT_EQ(backend_->running[2].index, 1);
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase, 1)));
}

TEST_F(PciTransportTest, Clause_2_6_1_QueueResetStopsOneQueue) {
  Drive(kVersion1 | FeatureBit(kFeatureRingReset));
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
  Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_RESET, 2), 0U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0U);
  ASSERT_EQ(backend_->running.size(), 1U);
  EXPECT_FALSE(vm_.HasIoEvent(Doorbell(kBase, 2)));
  EnableQueue(2, 0xc000);
  EXPECT_EQ(backend_->running.size(), 2U);
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase, 2)));
}

TEST_F(PciTransportTest, DeviceConfigurationIsBounded) {
  EXPECT_EQ(Read(kDeviceConfigOffset, 4), 0x04030201U);
  EXPECT_EQ(Read(kDeviceConfigOffset + 8, 8), 0x0a09U);
  EXPECT_EQ(Read(kDeviceConfigOffset + 10, 4), 0U);
  Write(kDeviceConfigOffset + 1, 2, 0xaabb);
  EXPECT_EQ(backend_->config_bytes[1], 0xbb);
  Write(kDeviceConfigOffset + 8, 4, 0);
  EXPECT_EQ(backend_->config_bytes[8], 9);
}

TEST_F(PciTransportTest, Clause_4_1_5_4_ConfigurationChange) {
  Drive();
  UseMsix(0, 0);
  Write(VIRTIO_PCI_COMMON_MSIX, 2, 0);
  const uint64_t generation = Read(VIRTIO_PCI_COMMON_CFGGENERATION, 1);
  backend_->events.config_changed();
  EXPECT_NE(Read(VIRTIO_PCI_COMMON_CFGGENERATION, 1), generation);
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 1U);
}

TEST_F(PciTransportTest, Clause_3_1_NothingIsSentBeforeDriverOk) {
  Negotiate(kVersion1);
  backend_->events.config_changed();
  loop_.RunUntilIdle();
  EXPECT_EQ(Read(kIsrOffset, 1), 0U);
}

TEST_F(PciTransportTest, Clause_4_1_4_5_IsrIsClearedByReading) {
  Drive();
  backend_->events.config_changed();
  loop_.RunUntilIdle();
  EXPECT_TRUE(vm_.IrqLine(kIntx));
  EXPECT_EQ(ConfigRead(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
  EXPECT_EQ(Read(kIsrOffset + 1, 1), 0U);
  EXPECT_EQ(Read(kIsrOffset, 1), 2U);
  EXPECT_FALSE(vm_.IrqLine(kIntx));
  EXPECT_EQ(Read(kIsrOffset, 1), 0U);
}

TEST_F(PciTransportTest, Clause_4_1_5_1_2_1_ImpossibleVectorsReadBackAsNone) {
  for (const uint16_t vector : std::to_array<uint16_t>({4, 5, 0x7ff, 0xfffe, 0xffff})) {
    Write(VIRTIO_PCI_COMMON_MSIX, 2, vector);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_MSIX, 2), 0xffffU);
    Write(VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffffU);
  }
  Write(VIRTIO_PCI_COMMON_MSIX, 2, 3);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_MSIX, 2), 3U);
}

TEST_F(PciTransportTest, Clause_4_1_4_9_ConfigWindowReachesTheRegisters) {
  const uint32_t window = FindCapability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
  const auto point = [&](uint8_t bar, uint32_t offset, uint32_t length) {
    ConfigWrite(window + 4, 1, bar);
    ConfigWrite(window + 8, 4, offset);
    ConfigWrite(window + 12, 4, length);
  };
  point(0, VIRTIO_PCI_COMMON_STATUS, 1);
  ConfigWrite(window + 16, 1, 3);
  EXPECT_EQ(Status(), 3U);
  EXPECT_EQ(ConfigRead(window + 16, 1), 3U);
  point(0, VIRTIO_PCI_COMMON_NUMQ, 2);
  EXPECT_EQ(ConfigRead(window + 16, 2), 3U);
  point(0, kDeviceConfigOffset, 4);
  EXPECT_EQ(ConfigRead(window + 16, 4), 0x04030201U);
  // What is no valid window does nothing.
  for (const auto& [bar, offset, length] : {std::tuple<uint8_t, uint32_t, uint32_t>{1, 20, 1},
                                            {0, 20, 0},
                                            {0, 20, 3},
                                            {0, 20, 8},
                                            {0, 21, 2},
                                            {0, 0x8000, 4},
                                            {0, 0xffff'fffc, 4},
                                            {6, 20, 1}}) {
    point(bar, offset, length);
    ConfigWrite(window + 16, 4, 0x80);
    (void)ConfigRead(window + 16, 4);
    EXPECT_EQ(Status(), 3U);
  }
}

TEST_F(PciTransportTest, RemovalGivesEverythingBack) {
  Drive();
  UseMsix(0, 0);
  ASSERT_TRUE(root_.Remove(at_).has_value());
  EXPECT_EQ(vm_.io_event_count(), 0U);
  transport_.reset();
  loop_.RunUntilIdle();
  EXPECT_FALSE(vm_.HasIrqFd(kFirstMsi));
  backend_->events.config_changed();  // it lives on; nothing to tell
  backend_->events.failed(MakeError(ErrorKind::kDisconnected, "gone"));
}

TEST_F(PciTransportTest, TooLargeDevicesAreRefused) {
  PciTransport::Options options;
  options.backend = std::make_shared<FakeBackend>(DeviceInfo{
      .device_id = 1, .features = kVersion1, .queue_sizes = std::vector<uint16_t>(1025, 8)});
  EXPECT_FALSE(
      PciTransport::Create({.vm = vm_, .router = router_, .loop = loop_}, std::move(options))
          .has_value());
}

TEST_F(PciTransportTest, Hostile_BarOverOthersAndOverRam) {
  Drive();
  for (const uint64_t base :
       {uint64_t{0}, uint64_t{0x8000}, uint64_t{0xfee0'0000}, uint64_t{0xffff'8000}}) {
    ConfigWrite(PCI_BASE_ADDRESS_0, 4, base);
    EXPECT_EQ(vm_.io_event_count(), 0U);
  }
  ConfigWrite(PCI_BASE_ADDRESS_0, 4, kBase);
  EXPECT_EQ(vm_.io_event_count(), 2U);
}

TEST_F(PciTransportTest, Hostile_EveryWidthAtEveryOffset) {
  Drive();
  std::array<uint8_t, 8> data{};
  for (uint64_t offset = 0; offset < kTransportBarSize;
       offset += (offset % 0x1000 < 0x80 ? 1U : 61U)) {
    for (const size_t width : {1U, 2U, 3U, 4U, 5U, 8U}) {
      if (offset + width > kTransportBarSize) continue;
      for (const uint8_t value : std::to_array<uint8_t>({0x00, 0x01, 0xff})) {
        data.fill(value);
        EXPECT_TRUE(mmio_.Write(kBase + offset, std::span(data).first(width)));
        EXPECT_TRUE(mmio_.Read(kBase + offset, std::span(data).first(width)));
      }
    }
  }
  loop_.RunUntilIdle();
}

}  // namespace
}  // namespace crosvm::virtio
