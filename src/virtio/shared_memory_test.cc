#include "virtio/shared_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <limits>

#include "hypervisor/fake/fake_vm.h"
#include "sys/file.h"
#include "sys/memfd.h"

namespace crosvm::virtio {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSize = 64 * kPage;

class SharedMemoryTest : public ::testing::Test {
 protected:
  // Each page begins with `first` plus its number.
  static sys::UniqueFd File(uint64_t pages, uint8_t first) {
    sys::UniqueFd file(memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(pages * kPage)), 0);
    for (uint64_t i = 0; i < pages; ++i) {
      const uint8_t byte = static_cast<uint8_t>(first + i);
      EXPECT_EQ(pwrite(file.get(), &byte, 1, static_cast<off_t>(i * kPage)), 1);
    }
    return file;
  }
  Status Map(uint64_t page, uint64_t pages, const sys::UniqueFd& file, uint64_t file_page = 0,
             bool writable = false) {
    return shared_->Map({.region = 0, .offset = page * kPage, .length = pages * kPage}, file,
                        file_page * kPage, writable);
  }
  Status Unmap(uint64_t page, uint64_t pages) {
    return shared_->Unmap({.region = 0, .offset = page * kPage, .length = pages * kPage});
  }
  uint8_t At(uint64_t page) const { return shared_->data()[page * kPage]; }

  hypervisor::FakeVm vm_;
  std::shared_ptr<SharedMemory> shared_ =
      SharedMemory::Create(vm_, "test[0]", {{.id = 0, .size = kSize}}).value();
};

TEST_F(SharedMemoryTest, IsASlotWhereverTheBarIs) {
  EXPECT_EQ(vm_.memory_count(), 0u);
  shared_->Place(0x1'0000'0000);
  ASSERT_EQ(vm_.memory_count(), 1u);
  EXPECT_EQ(vm_.Memory(hypervisor::MemorySlot(0))->size, kSize);
  shared_->Place(0x2'0000'0000);
  ASSERT_EQ(vm_.memory_count(), 1u);
  EXPECT_EQ(vm_.Memory(hypervisor::MemorySlot(0))->guest.value(), 0x2'0000'0000U);
  shared_->Place(std::nullopt);
  EXPECT_EQ(vm_.memory_count(), 0u);
  vm_.FailNext(ErrorKind::kAlreadyExists);
  shared_->Place(0x1000);
  EXPECT_EQ(vm_.memory_count(), 0u);
  shared_->Place(0x1'0000'0000);
  shared_.reset();
  EXPECT_EQ(vm_.memory_count(), 0u);
}

TEST_F(SharedMemoryTest, MapsAndUnmaps) {
  const sys::UniqueFd file = File(4, 10);
  ASSERT_TRUE(Map(8, 2, file, 1));
  EXPECT_EQ(At(8), 11);
  EXPECT_EQ(At(9), 12);
  EXPECT_EQ(At(7), 0);
  EXPECT_EQ(At(10), 0);
  const uint8_t byte = 77;
  ASSERT_EQ(pwrite(file.get(), &byte, 1, kPage), 1);
  EXPECT_EQ(At(8), 77);
  ASSERT_TRUE(Unmap(8, 2));
  EXPECT_EQ(At(8), 0);
  EXPECT_EQ(shared_->mapping_count(), 0u);
  // Of nothing, and of several at once.
  ASSERT_TRUE(Unmap(0, 64));
  ASSERT_TRUE(Map(0, 1, file));
  ASSERT_TRUE(Map(63, 1, file));
  ASSERT_TRUE(Unmap(0, 64));
  EXPECT_EQ(At(63), 0);
}

TEST_F(SharedMemoryTest, WritesReachTheFile) {
  const sys::UniqueFd file = File(1, 1);
  ASSERT_TRUE(Map(3, 1, file, 0, true));
  const_cast<uint8_t*>(shared_->data())[3 * kPage] = 99;
  uint8_t byte = 0;
  ASSERT_EQ(pread(file.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 99);
}

TEST_F(SharedMemoryTest, AMappingIsReplacedAsAWhole) {
  const sys::UniqueFd file = File(4, 10);
  const sys::UniqueFd other = File(4, 20);
  ASSERT_TRUE(Map(8, 2, file));
  ASSERT_TRUE(Map(8, 2, other, 0, true));
  EXPECT_EQ(At(9), 21);
  EXPECT_EQ(shared_->mapping_count(), 1u);
}

TEST_F(SharedMemoryTest, BeyondTheEndOfTheFileIsMapped) {
  const sys::UniqueFd file = File(1, 5);
  ASSERT_TRUE(Map(0, 16, file));
  EXPECT_EQ(At(0), 5);
  // What the file gets later is there.
  ASSERT_EQ(ftruncate(file.get(), 16 * kPage), 0);
  EXPECT_EQ(At(15), 0);
}

TEST_F(SharedMemoryTest, ClearUnmapsEverything) {
  const sys::UniqueFd file = File(4, 10);
  ASSERT_TRUE(Map(0, 4, file));
  ASSERT_TRUE(Map(60, 4, file));
  shared_->Clear();
  EXPECT_EQ(shared_->mapping_count(), 0u);
  EXPECT_EQ(At(0), 0);
  EXPECT_EQ(At(60), 0);
}

TEST_F(SharedMemoryTest, SeveralRegions) {
  EXPECT_FALSE(SharedMemory::Create(vm_, "t", {{.id = 0, .size = 0}}));
  EXPECT_FALSE(SharedMemory::Create(vm_, "t", {{.id = 0, .size = 100}}));
  EXPECT_FALSE(SharedMemory::Create(vm_, "t", {{.id = 0, .size = ~uint64_t{0xfff}}}));
  EXPECT_FALSE(SharedMemory::Create(
      vm_, "t", {{.id = 0, .size = 1ULL << 63}, {.id = 1, .size = 1ULL << 63}}));
  const auto two =
      SharedMemory::Create(vm_, "t", {{.id = 3, .size = kPage}, {.id = 9, .size = 2 * kPage}})
          .value();
  const sys::UniqueFd file = File(4, 10);
  EXPECT_TRUE(two->Map({.region = 9, .offset = kPage, .length = kPage}, file, 0, false));
  EXPECT_EQ(two->data()[2 * kPage], 10);
  // A region's end is the end, though the next one follows.
  EXPECT_FALSE(two->Map({.region = 3, .offset = 0, .length = 2 * kPage}, file, 0, false));
  EXPECT_FALSE(two->Unmap({.region = 4, .offset = 0, .length = kPage}));
}

TEST_F(SharedMemoryTest, Hostile_Ranges) {
  const sys::UniqueFd file = File(4, 10);
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const struct {
    uint8_t region;
    uint64_t offset;
    uint64_t length;
    uint64_t file_offset;
  } kBad[] = {
      {1, 0, kPage, 0},                     // no such region
      {0, 0, 0, 0},                         // empty
      {0, 1, kPage, 0},                     // not on a page
      {0, 0, kPage + 1, 0},                 //
      {0, 0, kPage, 1},                     //
      {0, kSize, kPage, 0},                 // behind the end
      {0, kSize - kPage, 2 * kPage, 0},     // over the end
      {0, kMax - kPage + 1, 2 * kPage, 0},  // wraps
      {0, kPage, kMax - kPage + 1, 0},      // wraps
      {0, 0, kMax, 0},                      //
      {0, 0, kPage, kMax - kPage + 1},      // wraps in the file
      {0, 0, kPage, 1ULL << 63},            // no off_t
      {0, 0, 2 * kPage, (1ULL << 63) - kPage},
  };
  for (const auto& bad : kBad) {
    const SharedMemoryRange range{.region = bad.region, .offset = bad.offset, .length = bad.length};
    EXPECT_FALSE(shared_->Map(range, file, bad.file_offset, true))
        << bad.offset << " " << bad.length << " " << bad.file_offset;
    if (bad.file_offset == 0) {
      EXPECT_FALSE(shared_->Unmap(range)) << bad.offset << " " << bad.length;
    }
  }
  EXPECT_EQ(shared_->mapping_count(), 0u);
}

TEST_F(SharedMemoryTest, Hostile_PartsOfMappings) {
  const sys::UniqueFd file = File(16, 10);
  ASSERT_TRUE(Map(8, 4, file));
  EXPECT_FALSE(Map(8, 2, file));
  EXPECT_FALSE(Map(8, 8, file));
  EXPECT_FALSE(Map(10, 1, file));
  EXPECT_FALSE(Map(10, 4, file));
  EXPECT_FALSE(Map(6, 4, file));
  EXPECT_FALSE(Map(4, 16, file));
  EXPECT_FALSE(Unmap(8, 2));
  EXPECT_FALSE(Unmap(10, 2));
  EXPECT_FALSE(Unmap(9, 1));
  EXPECT_FALSE(Unmap(0, 10));
  EXPECT_EQ(shared_->mapping_count(), 1u);
  EXPECT_EQ(At(11), 13);
  // Neighbours are none of it.
  EXPECT_TRUE(Map(7, 1, file));
  EXPECT_TRUE(Map(12, 1, file));
}

TEST_F(SharedMemoryTest, Hostile_Descriptors) {
  const sys::UniqueFd null = *sys::Open("/dev/null", O_RDWR);
  const sys::UniqueFd zero = *sys::Open("/dev/zero", O_RDWR);
  const sys::UniqueFd directory = *sys::Open("/", O_RDONLY | O_DIRECTORY);
  const sys::UniqueFd path = *sys::Open("/proc/self/exe", O_PATH);
  const sys::EventFd event = *sys::EventFd::Create();
  EXPECT_FALSE(Map(0, 1, null));
  EXPECT_FALSE(Map(0, 1, zero));
  EXPECT_FALSE(Map(0, 1, directory));
  EXPECT_FALSE(Map(0, 1, path));
  EXPECT_FALSE(Map(0, 1, event.fd()));
  EXPECT_FALSE(Map(0, 1, *sys::Open("/proc/self/maps", O_RDONLY)));
  EXPECT_FALSE(Map(0, 1, *sys::Open("/proc/self/exe", O_RDONLY), 0, true));
  EXPECT_EQ(shared_->mapping_count(), 0u);
  EXPECT_EQ(At(0), 0);
}

// What refuses to be mapped only when what was there is gone leaves no hole that another mapping of
// this process could come to lie in.
TEST_F(SharedMemoryTest, Hostile_AFileThatRefusesLate) {
  const sys::UniqueFd file = File(4, 10);
  ASSERT_TRUE(Map(0, 4, file));
  const sys::UniqueFd sealed = File(4, 20);
  ASSERT_EQ(fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  EXPECT_FALSE(Map(0, 4, sealed, 0, true));
  EXPECT_EQ(At(3), 13);
  EXPECT_TRUE(Map(0, 4, sealed, 0, false));
  EXPECT_EQ(At(3), 23);
}

TEST_F(SharedMemoryTest, Hostile_TooManyMappings) {
  const auto many = SharedMemory::Create(vm_, "t", {{.id = 0, .size = 1U << 20}}).value();
  const sys::UniqueFd file = File(1, 1);
  uint64_t made = 0;
  for (uint64_t page = 0; page < 256; ++page) {
    if (many->Map({.region = 0, .offset = page * kPage, .length = kPage}, file, 0, false)) ++made;
  }
  EXPECT_EQ(made, 64u);
  EXPECT_TRUE(many->Map({.region = 0, .offset = 0, .length = kPage}, file, 0, true));
  EXPECT_TRUE(many->Unmap({.region = 0, .offset = 0, .length = 1U << 20}));
}

}  // namespace
}  // namespace crosvm::virtio
