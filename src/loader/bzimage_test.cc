#include "loader/bzimage.h"

#include <gtest/gtest.h>

#include <cstddef>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

using memory::GuestAddr;

constexpr size_t kHeader = offsetof(boot_params, hdr);
constexpr GuestAddr kLowest{0x200000};
constexpr uint64_t kMib = uint64_t{1} << 20;

setup_header GoodHeader() {
  setup_header header{};
  header.setup_sects = 1;
  header.syssize = 0x1000 / 16;
  header.boot_flag = 0xaa55;
  header.jump = 0x6aeb;  // to 0x26c, the end of the header
  header.header = 0x53726448;
  header.version = 0x020f;
  header.xloadflags = XLF_KERNEL_64;
  header.relocatable_kernel = 1;
  header.kernel_alignment = 0x200000;
  header.pref_address = 0x1000000;
  header.init_size = 0x100000;
  header.initrd_addr_max = 0x7fffffff;
  header.cmdline_size = 2047;
  header.payload_offset = 0x300;
  header.payload_length = 0x400;
  return header;
}

std::vector<uint8_t> Image(const setup_header& header, size_t size = 0x400 + 0x1000) {
  std::vector<uint8_t> bytes(size, 0xcc);
  PutAt(bytes, kHeader, header);
  bytes.resize(size);
  return bytes;
}

// What the parser says about `header` in a file of `size` bytes; "" when it takes it.
std::string ErrorOf(const setup_header& header, size_t size = 0x400 + 0x1000) {
  const sys::UniqueFd file = MakeFile(Image(header, size));
  const Result<BzImage> image = ParseBzImage(file);
  return image ? "" : image.error().ToString();
}

TEST(BzImageTest, LoadsAtThePreferredAddress) {
  std::vector<uint8_t> bytes = Image(GoodHeader());
  bytes[0x400] = 0x11;
  bytes.back() = 0x22;
  const sys::UniqueFd file = MakeFile(bytes);
  const memory::GuestMemory memory = MakeMemory(32 * kMib);
  const Result<LoadedKernel> kernel = LoadKernel(file, memory, kLowest);
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->entry, GuestAddr(0x1000200));
  EXPECT_EQ(kernel->range, (GuestRange{GuestAddr(0x1000000), 0x100000}));
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x1000000)), 0x11);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x1000fff)), 0x22);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x1001000)), 0);
  ASSERT_TRUE(kernel->header.has_value());
  EXPECT_EQ(kernel->header->initrd_addr_max, 0x7fffffffU);
  EXPECT_FALSE(kernel->pvh_entry.has_value());
}

TEST(BzImageTest, RelocatesWhenThePreferredAddressIsTooLow) {
  setup_header header = GoodHeader();
  header.pref_address = 0x100000;
  header.kernel_alignment = 0x1000000;
  const sys::UniqueFd file = MakeFile(Image(header));
  const Result<LoadedKernel> kernel = LoadBzImage(file, MakeMemory(32 * kMib), kLowest);
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->entry, GuestAddr(0x1000200));
}

TEST(BzImageTest, FixedKernelBelowTheFirstFreeAddressIsRefused) {
  setup_header header = GoodHeader();
  header.pref_address = 0x100000;
  header.relocatable_kernel = 0;
  const sys::UniqueFd file = MakeFile(Image(header));
  EXPECT_FALSE(LoadBzImage(file, MakeMemory(32 * kMib), kLowest).has_value());
}

TEST(BzImageTest, ZeroSetupSectorsMeanFour) {
  setup_header header = GoodHeader();
  header.setup_sects = 0;
  const sys::UniqueFd file = MakeFile(Image(header, 5 * 512 + 0x1000));
  const Result<BzImage> image = ParseBzImage(file);
  ASSERT_TRUE(image.has_value()) << image.error().ToString();
  EXPECT_EQ(image->code_offset, 5U * 512);
  EXPECT_EQ(image->code_size, 0x1000U);
}

TEST(BzImageTest, FieldsBehindTheHeadersEndAreZero) {
  setup_header header = GoodHeader();
  header.jump = 0x62eb;  // to 0x264: no handover_offset
  header.handover_offset = 0x1234;
  const sys::UniqueFd file = MakeFile(Image(header));
  const Result<BzImage> image = ParseBzImage(file);
  ASSERT_TRUE(image.has_value()) << image.error().ToString();
  EXPECT_EQ(image->header.handover_offset, 0U);
  EXPECT_EQ(image->header.init_size, 0x100000U);
}

TEST(BzImageTest, OldAnd32BitKernelsAreNamed) {
  setup_header header = GoodHeader();
  header.version = 0x020b;
  EXPECT_NE(ErrorOf(header).find("2.11"), std::string::npos);
  header = GoodHeader();
  header.xloadflags = 0;
  EXPECT_NE(ErrorOf(header).find("64-bit"), std::string::npos);
}

TEST(BzImageTest, TooLittleMemoryIsExplained) {
  const sys::UniqueFd file = MakeFile(Image(GoodHeader()));
  const Result<LoadedKernel> kernel = LoadBzImage(file, MakeMemory(16 * kMib), kLowest);
  ASSERT_FALSE(kernel.has_value());
  EXPECT_NE(kernel.error().ToString().find("more memory"), std::string::npos);
}

TEST(BzImageTest, Hostile_NoSignature) {
  setup_header header = GoodHeader();
  header.header = 0;
  EXPECT_NE(ErrorOf(header).find("HdrS"), std::string::npos);
  const sys::UniqueFd empty = MakeFile({});
  EXPECT_FALSE(LoadKernel(empty, MakeMemory(kMib), kLowest).has_value());
}

TEST(BzImageTest, Hostile_TruncatedAtEveryPlace) {
  const std::vector<uint8_t> whole = Image(GoodHeader());
  for (size_t size = 0; size < whole.size(); size += size < 0x280 ? 1 : 0x97) {
    const sys::UniqueFd file = MakeFile(std::span(whole).first(size));
    EXPECT_FALSE(ParseBzImage(file).has_value()) << size;
  }
}

TEST(BzImageTest, Hostile_AbsurdSizes) {
  setup_header header = GoodHeader();
  header.syssize = 0xffffffff;
  EXPECT_NE(ErrorOf(header).find("truncated"), std::string::npos);
  header.syssize = 0;
  EXPECT_NE(ErrorOf(header), "");
  header = GoodHeader();
  header.setup_sects = 255;
  EXPECT_NE(ErrorOf(header).find("truncated"), std::string::npos);
  header = GoodHeader();
  header.payload_offset = 0xfffffff0;
  header.payload_length = 0x20;
  EXPECT_NE(ErrorOf(header).find("payload"), std::string::npos);
  header = GoodHeader();
  header.kernel_alignment = 0x300000;
  EXPECT_NE(ErrorOf(header).find("power of two"), std::string::npos);
  header.kernel_alignment = 0;
  EXPECT_NE(ErrorOf(header).find("power of two"), std::string::npos);
  header = GoodHeader();
  header.init_size = 0;
  EXPECT_NE(ErrorOf(header), "");
  header = GoodHeader();
  header.jump = 0x10eb;
  EXPECT_NE(ErrorOf(header).find("setup header"), std::string::npos);
}

TEST(BzImageTest, Hostile_AddressesThatWrap) {
  const memory::GuestMemory memory = MakeMemory(32 * kMib);
  for (const uint64_t address :
       {UINT64_MAX, UINT64_MAX - 0xfff, uint64_t{1} << 63, uint64_t{1} << 32}) {
    setup_header header = GoodHeader();
    header.pref_address = address;
    const sys::UniqueFd file = MakeFile(Image(header));
    EXPECT_FALSE(LoadBzImage(file, memory, kLowest).has_value()) << address;
  }
  setup_header header = GoodHeader();
  header.init_size = 0xffffffff;
  const sys::UniqueFd file = MakeFile(Image(header));
  EXPECT_FALSE(LoadBzImage(file, memory, kLowest).has_value());
}

}  // namespace
}  // namespace crosvm::loader
