// For tests of the transport: one on a fake VM's PCI bus, and the accesses of a driver to it.
#pragma once

#include <gtest/gtest.h>
#include <linux/virtio_pci.h>

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "pci/intx.h"
#include "pci/root.h"
#include "virtio/pci_fake_backend.h"
#include "virtio/pci_transport.h"

namespace crosvm::virtio {

using hypervisor::Gsi;

inline constexpr uint64_t kVersion1 = FeatureBit(VIRTIO_F_VERSION_1);
inline constexpr uint64_t kBase = 0xd000'0000;
inline constexpr Gsi kFirstMsi{24};
inline constexpr Gsi kIntx{11};
inline constexpr uint64_t kRam = 0x10'0000;

class PciTransportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const memory::RegionLayout layout[] = {{.start = memory::GuestAddr(0), .size = kRam}};
    memory_ = memory::GuestMemory::Create(layout).value();
    Make({});
  }

  void Make(std::vector<SharedMemoryRegion> shared) {
    if (transport_ != nullptr) {
      ASSERT_TRUE(root_.Remove(at_).has_value());
    }
    transport_.reset();
    backend_ = std::make_shared<FakeBackend>(DeviceInfo{.device_id = VIRTIO_ID_BLOCK,
                                                        .features = kQueueFeatures | FeatureBit(6),
                                                        .queue_sizes = {256, 64, 64},
                                                        .config_size = 10});
    PciTransport::Options options;
    options.backend = backend_;
    options.memory = memory_;
    options.intx = line_.Connect();
    options.intx_irq = 11;
    if (supervised_) options.failed = [this](Error) { ++failures_; };
    if (!shared.empty()) {
      shared_ = SharedMemory::Create(vm_, "fake[0]", std::move(shared)).value();
      options.shared_memory = shared_;
    }
    transport_ =
        PciTransport::Create({.vm = vm_, .router = router_, .loop = loop_}, std::move(options))
            .value();
    ASSERT_TRUE(transport_->config().SetBarAddress(0, kBase).has_value());
    ASSERT_TRUE(root_.Add(at_, transport_).has_value());
    ConfigWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    loop_.RunUntilIdle();
  }

  uint64_t Read(uint64_t offset, size_t width) {
    std::array<uint8_t, 8> data{};
    EXPECT_TRUE(mmio_.Read(kBase + offset, std::span(data).first(width)));
    return Join(data, width);
  }
  void Write(uint64_t offset, size_t width, uint64_t value) {
    const std::array<uint8_t, 8> data = Split(value);
    EXPECT_TRUE(mmio_.Write(kBase + offset, std::span(data).first(width)));
  }
  uint64_t ConfigRead(uint32_t offset, size_t width) {
    std::array<uint8_t, 8> data{};
    root_.ReadConfig(at_, offset, std::span(data).first(width));
    return Join(data, width);
  }
  void ConfigWrite(uint32_t offset, size_t width, uint64_t value) {
    const std::array<uint8_t, 8> data = Split(value);
    root_.WriteConfig(at_, offset, std::span(data).first(width));
  }
  static uint64_t Join(const std::array<uint8_t, 8>& data, size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width; ++i) value |= uint64_t{data[i]} << (8 * i);
    return value;
  }
  static std::array<uint8_t, 8> Split(uint64_t value) {
    std::array<uint8_t, 8> data;
    for (size_t i = 0; i < 8; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
    return data;
  }

  // Somebody else decides what becomes of a device that is lost.
  void Supervise() {
    supervised_ = true;
    Make({});
  }
  uint64_t Status() { return Read(VIRTIO_PCI_COMMON_STATUS, 1); }
  void SetStatus(uint8_t value) { Write(VIRTIO_PCI_COMMON_STATUS, 1, value); }
  void Negotiate(uint64_t features) {
    SetStatus(1);
    SetStatus(3);
    for (uint32_t page = 0; page < 2; ++page) {
      Write(VIRTIO_PCI_COMMON_GFSELECT, 4, page);
      Write(VIRTIO_PCI_COMMON_GF, 4, features >> (32 * page));
    }
    SetStatus(11);
  }
  void EnableQueue(uint16_t queue, uint64_t at) {
    Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
    Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
    Write(VIRTIO_PCI_COMMON_Q_DESCLO, 8, at);
    Write(VIRTIO_PCI_COMMON_Q_AVAILLO, 8, at + 0x1000);
    Write(VIRTIO_PCI_COMMON_Q_USEDLO, 8, at + 0x2000);
    Write(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
  }
  // Queues 0 and 2.
  void Drive(uint64_t features = kVersion1) {
    Negotiate(features);
    ASSERT_EQ(Status(), 11U);
    EnableQueue(0, 0x4000);
    EnableQueue(2, 0x8000);
    SetStatus(15);
  }
  // Gives queue `queue` an unmasked vector.
  void UseMsix(uint16_t queue, uint16_t vector) {
    ConfigWrite(MsixCapability() + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
    Write(VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
    Write(kMsixTableOffset + 16U * vector, 8, 0xfee0'1000);
    Write(kMsixTableOffset + 16U * vector + 8, 4, 0x40U + vector);
    Write(kMsixTableOffset + 16U * vector + 12, 4, 0);
    loop_.RunUntilIdle();
  }
  uint32_t FindCapability(uint8_t id, uint8_t type = 0) {
    for (auto cap = static_cast<uint32_t>(ConfigRead(PCI_CAPABILITY_LIST, 1)); cap != 0;
         cap = static_cast<uint32_t>(ConfigRead(cap + 1, 1))) {
      if (ConfigRead(cap, 1) == id && (type == 0 || ConfigRead(cap + 3, 1) == type)) return cap;
    }
    ADD_FAILURE() << "no capability " << int{id} << " of type " << int{type};
    return 0;
  }
  uint32_t MsixCapability() { return FindCapability(PCI_CAP_ID_MSIX); }
  static hypervisor::IoEventAddress Doorbell(uint64_t base, uint16_t queue) {
    return {.address = base + kNotifyOffset + kNotifyMultiplier * queue};
  }

  const pci::Address at_ = *pci::Address::Make(0, 1, 0);
  hypervisor::FakeVm vm_;
  event::TestLoop loop_;
  hypervisor::IrqRouter router_{vm_, {}, kFirstMsi};
  pci::SharedLine line_{std::make_shared<pci::VmInterruptLine>(vm_, kIntx)};
  bus::Bus mmio_{"MMIO"};
  bus::Bus io_{"I/O ports"};
  pci::Root root_{
      mmio_,
      io_,
      {.memory = {{kBase, 0x1000'0000}, {uint64_t{1} << 32, uint64_t{1} << 40}}, .io = {}}};
  memory::GuestMemory memory_;
  bool supervised_ = false;
  int failures_ = 0;
  std::shared_ptr<FakeBackend> backend_;
  std::shared_ptr<PciTransport> transport_;
  std::shared_ptr<SharedMemory> shared_;
};

}  // namespace crosvm::virtio
