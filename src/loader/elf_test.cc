#include "loader/elf.h"

#include <elf.h>
#include <gtest/gtest.h>

#include "loader/test_file.h"

namespace crosvm::loader {
namespace {

using memory::GuestAddr;

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr GuestAddr kLowest{0x200000};
constexpr size_t kData = 0x1000;

// A vmlinux of up to a few segments; tests spoil it before Bytes().
struct TestElf {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  std::vector<uint8_t> data = std::vector<uint8_t>(0x1000, 0xee);

  TestElf() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_entry = 0x1000000;
    Add(0x1000000, 0x800, 0x3000);
  }
  Elf64_Phdr& Add(uint64_t physical, uint64_t file_size, uint64_t memory_size) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = kData;
    segment.p_vaddr = 0xffffffff80000000 + physical;
    segment.p_paddr = physical;
    segment.p_filesz = file_size;
    segment.p_memsz = memory_size;
    return segments.emplace_back(segment);
  }
  // A note segment with one Xen note of `type`.
  void AddNote(uint32_t type, uint32_t value, uint32_t name_size = 4, uint32_t size = 4) {
    const uint32_t note[] = {name_size, size, type, 0x006e6558, value};
    std::memcpy(data.data() + 0x900, note, sizeof(note));
    Elf64_Phdr segment{};
    segment.p_type = PT_NOTE;
    segment.p_offset = kData + 0x900;
    segment.p_filesz = sizeof(note);
    segment.p_align = 4;
    segments.push_back(segment);
  }
  std::vector<uint8_t> Bytes() const {
    std::vector<uint8_t> bytes;
    Elf64_Ehdr copy = header;
    if (copy.e_phnum == 0) copy.e_phnum = static_cast<uint16_t>(segments.size());
    PutAt(bytes, 0, copy);
    for (size_t i = 0; i < segments.size(); ++i) {
      PutAt(bytes, sizeof(copy) + i * sizeof(Elf64_Phdr), segments[i]);
    }
    bytes.resize(kData);
    bytes.insert(bytes.end(), data.begin(), data.end());
    return bytes;
  }
  Result<LoadedKernel> Load(const memory::GuestMemory& memory) const {
    const sys::UniqueFd file = MakeFile(Bytes());
    return LoadKernel(file, memory, kLowest);
  }
  std::string Error() const {
    const Result<LoadedKernel> kernel = Load(MakeMemory(32 * kMib));
    return kernel ? "" : kernel.error().ToString();
  }
};

TEST(ElfTest, LoadsSegmentsAndZeroesTheRest) {
  TestElf elf;
  elf.Add(0x1008000, 0x100, 0x100);
  const memory::GuestMemory memory = MakeMemory(32 * kMib);
  ASSERT_TRUE(memory.Write<uint8_t>(GuestAddr(0x1000800), 0x55));
  const Result<LoadedKernel> kernel = elf.Load(memory);
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->entry, GuestAddr(0x1000000));
  EXPECT_EQ(kernel->range, (GuestRange{GuestAddr(0x1000000), 0x8100}));
  EXPECT_FALSE(kernel->pvh_entry.has_value());
  EXPECT_FALSE(kernel->header.has_value());
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x10007ff)), 0xee);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x1000800)), 0);
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x10080ff)), 0xee);
}

TEST(ElfTest, ImageLinkedLowIsMovedUp) {
  TestElf elf;
  elf.segments[0].p_paddr = 0x1000;
  elf.header.e_entry = 0x1200;
  const memory::GuestMemory memory = MakeMemory(32 * kMib);
  const Result<LoadedKernel> kernel = elf.Load(memory);
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->entry, GuestAddr(0x201200));
  EXPECT_EQ(*memory.Read<uint8_t>(GuestAddr(0x201000)), 0xee);
}

TEST(ElfTest, VirtualEntryIsTranslated) {
  TestElf elf;
  elf.header.e_entry = 0xffffffff81000040;
  const Result<LoadedKernel> kernel = elf.Load(MakeMemory(32 * kMib));
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->entry, GuestAddr(0x1000040));
}

TEST(ElfTest, FindsThePvhEntry) {
  TestElf elf;
  elf.AddNote(18, 0x1000123);
  const Result<LoadedKernel> kernel = elf.Load(MakeMemory(32 * kMib));
  ASSERT_TRUE(kernel.has_value()) << kernel.error().ToString();
  EXPECT_EQ(kernel->pvh_entry, GuestAddr(0x1000123));
}

TEST(ElfTest, OtherNotesAreSkipped) {
  TestElf elf;
  elf.AddNote(17, 0x1000123);
  EXPECT_FALSE(elf.Load(MakeMemory(32 * kMib))->pvh_entry.has_value());
}

TEST(ElfTest, OtherKindsAreNamed) {
  TestElf elf;
  elf.header.e_machine = EM_AARCH64;
  EXPECT_NE(elf.Error().find("x86-64"), std::string::npos);
  elf = {};
  elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
  EXPECT_NE(elf.Error().find("little-endian"), std::string::npos);
  elf = {};
  elf.header.e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_NE(elf.Error().find("64-bit"), std::string::npos);
  elf = {};
  elf.header.e_type = ET_REL;
  EXPECT_NE(elf.Error().find("executable"), std::string::npos);
}

TEST(ElfTest, Hostile_TruncatedAtEveryPlace) {
  TestElf elf;
  elf.data.resize(0x800);
  const std::vector<uint8_t> whole = elf.Bytes();
  const memory::GuestMemory memory = MakeMemory(32 * kMib);
  for (size_t size = 0; size < whole.size(); size += size < 0x100 ? 1 : 0x53) {
    const sys::UniqueFd file = MakeFile(std::span(whole).first(size));
    EXPECT_FALSE(LoadKernel(file, memory, kLowest).has_value()) << size;
  }
}

TEST(ElfTest, Hostile_ProgramHeaderTable) {
  TestElf elf;
  elf.header.e_phoff = 8;
  EXPECT_NE(elf.Error().find("overlap"), std::string::npos);
  elf.header.e_phoff = UINT64_MAX;
  EXPECT_NE(elf.Error().find("truncated"), std::string::npos);
  elf = {};
  elf.header.e_phentsize = 1;
  EXPECT_NE(elf.Error(), "");
  elf = {};
  elf.header.e_phnum = 0xffff;
  EXPECT_NE(elf.Error().find("program headers"), std::string::npos);
  elf = {};
  elf.segments.clear();
  EXPECT_NE(elf.Error(), "");
}

TEST(ElfTest, Hostile_AbsurdSegments) {
  TestElf elf;
  elf.segments[0].p_filesz = 0x4000;
  EXPECT_NE(elf.Error().find("more bytes"), std::string::npos);
  elf = {};
  elf.segments[0].p_offset = UINT64_MAX - 4;
  EXPECT_NE(elf.Error().find("truncated"), std::string::npos);
  elf = {};
  elf.segments[0].p_memsz = UINT64_MAX;
  EXPECT_NE(elf.Error().find("wraps"), std::string::npos);
  elf = {};
  elf.segments[0].p_memsz = uint64_t{1} << 60;
  EXPECT_NE(elf.Error().find("does not fit"), std::string::npos);
  elf = {};
  elf.segments[0].p_paddr = 0;
  elf.segments[0].p_memsz = UINT64_MAX - 0x1000;
  EXPECT_NE(elf.Error().find("wraps"), std::string::npos);
}

TEST(ElfTest, Hostile_OverlappingSegments) {
  TestElf elf;
  elf.Add(0x1002fff, 0x10, 0x10);
  EXPECT_NE(elf.Error().find("overlap"), std::string::npos);
}

TEST(ElfTest, Hostile_EntryOutside) {
  TestElf elf;
  elf.header.e_entry = 0x1003000;
  EXPECT_NE(elf.Error().find("entry"), std::string::npos);
  elf.header.e_entry = UINT64_MAX;
  EXPECT_NE(elf.Error().find("entry"), std::string::npos);
  elf = {};
  elf.AddNote(18, 0x10);
  EXPECT_NE(elf.Error().find("PVH"), std::string::npos);
}

TEST(ElfTest, Hostile_Notes) {
  TestElf elf;
  elf.AddNote(18, 0x1000000, 4, UINT32_MAX);
  EXPECT_FALSE(elf.Load(MakeMemory(32 * kMib))->pvh_entry.has_value());
  elf = {};
  elf.AddNote(18, 0x1000000, UINT32_MAX, 4);
  EXPECT_FALSE(elf.Load(MakeMemory(32 * kMib))->pvh_entry.has_value());
  elf = {};
  elf.AddNote(18, 0x1000000);
  elf.segments.back().p_filesz = uint64_t{1} << 40;
  EXPECT_NE(elf.Error().find("notes"), std::string::npos);
}

}  // namespace
}  // namespace crosvm::loader
