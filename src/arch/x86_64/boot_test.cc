#include "arch/x86_64/boot.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/pvh.h"

namespace crosvm::x86_64 {
namespace {

constexpr uint64_t kRam = 64 << 20;

sys::UniqueFd FileOf(std::string_view content) {
  sys::UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(write(fd.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
  return fd;
}

class Boot : public ::testing::Test {
 protected:
  Boot()
      : layout_(*PlanMemory(kRam, 0, 40)),
        memory_(*memory::GuestMemory::Create(layout_.Regions())) {
    kernel_.entry = GuestAddr(0x100'0200);
    kernel_.range = {.start = GuestAddr(0x100'0000), .size = 0x10'0001};
  }

  std::string Text(uint64_t at, size_t size) const {
    std::string out(size, '?');
    // SAFETY: chars may be written as bytes.
    EXPECT_TRUE(memory_.ReadBytes(GuestAddr(at), {reinterpret_cast<uint8_t*>(out.data()), size}));
    return out;
  }

  const MemoryLayout layout_;
  const memory::GuestMemory memory_;
  loader::LoadedKernel kernel_;
};

TEST_F(Boot, BzImageGetsAZeroPage) {
  setup_header header{};
  header.header = 0x5372'6448;
  header.cmdline_size = 2047;
  header.initrd_addr_max = 0x7fff'ffff;
  kernel_.header = header;
  kernel_.pvh_entry = GuestAddr(0x100'0000);
  const sys::UniqueFd initrd = FileOf("initrd content");
  const Result<InitialState> state =
      LoadGuest({.command_line = "console=ttyS0", .initrd = initrd}, layout_, memory_, kernel_);
  ASSERT_TRUE(state.has_value()) << state.error().ToString();
  EXPECT_EQ(state->protocol, BootProtocol::kLinux64);
  EXPECT_EQ(state->entry, kernel_.entry);
  EXPECT_EQ(state->boot_data, kZeroPage);
  EXPECT_EQ(Text(0x20000, 14), std::string("console=ttyS0\0", 14));
  const boot_params params = *memory_.Read<boot_params>(kZeroPage);
  EXPECT_EQ(uint32_t{params.hdr.cmd_line_ptr}, 0x20000U);
  EXPECT_EQ(uint64_t{params.acpi_rsdp_addr}, 0xe0000U);
  EXPECT_EQ(uint32_t{params.hdr.ramdisk_size}, 14U);
  EXPECT_EQ(Text(params.hdr.ramdisk_image, 14), "initrd content");
  EXPECT_EQ(size_t{params.e820_entries}, MemoryMap(layout_, false).size());
  EXPECT_EQ(uint64_t{params.e820_table[0].size}, 0x9fc00U);
}

TEST_F(Boot, ElfWithPvhNoteGetsAStartInfo) {
  kernel_.pvh_entry = GuestAddr(0x100'0400);
  const Result<InitialState> state =
      LoadGuest({.command_line = "quiet"}, layout_, memory_, kernel_);
  ASSERT_TRUE(state.has_value()) << state.error().ToString();
  EXPECT_EQ(state->protocol, BootProtocol::kPvh);
  EXPECT_EQ(state->entry, GuestAddr(0x100'0400));
  const loader::PvhStartInfo info = *memory_.Read<loader::PvhStartInfo>(state->boot_data);
  EXPECT_EQ(info.magic.value(), loader::PvhStartInfo::kMagic);
  EXPECT_EQ(info.cmdline.value(), 0x20000U);
  EXPECT_EQ(info.rsdp.value(), 0xe0000U);
  EXPECT_EQ(info.memory_map_entries.value(), MemoryMap(layout_, false).size());
  EXPECT_LT(state->boot_data.value() + 4096, kBootStack.value() + 1);
}

TEST_F(Boot, ProtocolCanBeChosen) {
  kernel_.pvh_entry = GuestAddr(0x100'0400);
  EXPECT_EQ(LoadGuest({.protocol = BootProtocol::kLinux64}, layout_, memory_, kernel_)->entry,
            kernel_.entry);
  kernel_.pvh_entry.reset();
  EXPECT_FALSE(LoadGuest({.protocol = BootProtocol::kPvh}, layout_, memory_, kernel_).has_value());
}

TEST_F(Boot, DeviceTreeFollowsTheKernelAsSetupData) {
  const std::vector<uint8_t> tree(100, 0xd7);
  ASSERT_TRUE(LoadGuest({.device_tree = tree}, layout_, memory_, kernel_).has_value());
  const boot_params params = *memory_.Read<boot_params>(kZeroPage);
  EXPECT_EQ(uint64_t{params.hdr.setup_data}, 0x110'0040U);
  EXPECT_EQ(memory_.Read<Le64>(GuestAddr(0x110'0040))->value(), 0U);
  EXPECT_EQ(memory_.Read<Le32>(GuestAddr(0x110'0048))->value(), 2U);
  EXPECT_EQ(memory_.Read<Le32>(GuestAddr(0x110'004c))->value(), 100U);
  EXPECT_EQ(*memory_.Read<uint8_t>(GuestAddr(0x110'0050)), 0xd7);
}

TEST_F(Boot, WhatDoesNotFitIsRefused) {
  const std::string long_line(kCommandLineMax, 'x');
  EXPECT_FALSE(LoadGuest({.command_line = long_line}, layout_, memory_, kernel_).has_value());
  EXPECT_FALSE(LoadGuest({.command_line = "a\nb"}, layout_, memory_, kernel_).has_value());
  const std::vector<uint8_t> tree(3 << 20, 0);
  EXPECT_FALSE(LoadGuest({.device_tree = tree}, layout_, memory_, kernel_).has_value());
  kernel_.range.size = kRam - 0x100'0000 - 64;
  const std::vector<uint8_t> small(100, 0);
  EXPECT_FALSE(LoadGuest({.device_tree = small}, layout_, memory_, kernel_).has_value());
  const sys::UniqueFd initrd = FileOf(std::string(8192, 'i'));
  EXPECT_FALSE(LoadGuest({.initrd = initrd}, layout_, memory_, kernel_).has_value());
}

TEST_F(Boot, FirmwareFillsItsRegion) {
  const MemoryLayout layout = *PlanMemory(kRam, 8192, 40);
  const memory::GuestMemory memory = *memory::GuestMemory::Create(layout.Regions());
  const sys::UniqueFd image = FileOf(std::string(8191, 'b') + "e");
  ASSERT_TRUE(LoadFirmware(image, layout, memory).has_value());
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(k4Gib - 8192)), 'b');
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(k4Gib - 1)), 'e');
  EXPECT_FALSE(LoadFirmware(FileOf("short"), layout, memory).has_value());
  EXPECT_FALSE(LoadFirmware(image, layout_, memory_).has_value());
}

}  // namespace
}  // namespace crosvm::x86_64
