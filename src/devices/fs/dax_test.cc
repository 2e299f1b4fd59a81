// The DAX window as the guest's kernel asks for it, with a VMM that has one (virtio::SharedMemory).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>

#include "devices/fs/fuse_driver.h"
#include "hypervisor/fake/fake_vm.h"
#include "virtio/shared_memory.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kWindow = 8U << 20;
constexpr uint64_t kRange = 2U << 20;  // what Linux maps at a time
constexpr uint64_t kRead = FUSE_SETUPMAPPING_FLAG_READ;
constexpr uint64_t kWrite = FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE;

// A VMM on the other end of no socket.
class DirectMapper final : public virtio::SharedMemoryMapper {
 public:
  Status Map(const virtio::SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
             bool writable) override {
    ++maps;
    if (failure) return Fail(*failure, "told to");
    if (strict) TRY(Free(range));
    return memory->Map(range, file, file_offset, writable);
  }
  Status Unmap(const virtio::SharedMemoryRange& range) override {
    ++unmaps;
    if (failure) return Fail(*failure, "told to");
    return memory->Unmap(range);
  }

  hypervisor::FakeVm vm;
  std::shared_ptr<virtio::SharedMemory> memory =
      virtio::SharedMemory::Create(vm, "fs[0]", {{.id = 0, .size = kWindow}}).value();
  std::optional<ErrorKind> failure;
  bool strict = false;  // maps over nothing, as vhost-user has it
  int maps = 0;
  int unmaps = 0;

 private:
  Status Free(const virtio::SharedMemoryRange&) const {
    if (memory->mapping_count() == 0) return {};
    return Fail(ErrorKind::kInvalidArgument, "mapped");
  }
};

const FuseDriverOptions kOptions = {.server = {.dax_window = kWindow}, .init = false};

class DaxTest : public ::testing::Test {
 protected:
  DaxTest() { driver_.server().SetWindow(mapper_); }

  int MapRange(uint64_t node, uint64_t offset, uint64_t place, uint64_t length = kRange,
               uint64_t flags = kRead) {
    fuse_setupmapping_in in{};
    in.fh = std::numeric_limits<uint64_t>::max();  // as Linux
    in.foffset = offset;
    in.len = length;
    in.flags = flags;
    in.moffset = place;
    return driver_.Send(FUSE_SETUPMAPPING, node, Struct(in)).error;
  }
  int Remove(std::vector<fuse_removemapping_one> which, uint32_t count = 0) {
    Bytes arguments = Struct(
        fuse_removemapping_in{.count = count != 0 ? count : static_cast<uint32_t>(which.size())});
    for (const fuse_removemapping_one& one : which) arguments.Raw(Struct(one).view());
    return driver_.Send(FUSE_REMOVEMAPPING, 1, arguments).error;
  }
  std::string At(uint64_t place, size_t size) const {
    // SAFETY: bytes as characters.
    return {reinterpret_cast<const char*>(mapper_->memory->data()) + place, size};
  }

  TestDirectory directory_;
  std::shared_ptr<DirectMapper> mapper_ = std::make_shared<DirectMapper>();
  FuseDriver driver_{directory_.path(), kOptions};
};

TEST_F(DaxTest, IsOfferedWhereThereIsAWindow) {
  const fuse_init_out out = driver_.Init().As<fuse_init_out>();
  EXPECT_NE(out.flags & FUSE_MAP_ALIGNMENT, 0u);
  EXPECT_NE(out.flags2 & (FUSE_HAS_INODE_DAX >> 32), 0u);
  EXPECT_EQ(out.map_alignment, 12);
  directory_.Write("file", "x");
  const uint64_t node = driver_.Lookup(1, "file");
  EXPECT_EQ(driver_.GetAttr(node).As<fuse_attr_out>().attr.flags, FUSE_ATTR_DAX);
  EXPECT_EQ(driver_.GetAttr(1).As<fuse_attr_out>().attr.flags, 0u);

  driver_.server().SetWindow(nullptr);
  const fuse_init_out without = driver_.Init().As<fuse_init_out>();
  EXPECT_EQ(without.flags & FUSE_MAP_ALIGNMENT, 0u);
  const uint64_t again = driver_.Lookup(1, "file");
  EXPECT_EQ(driver_.GetAttr(again).As<fuse_attr_out>().attr.flags, 0u);
  EXPECT_EQ(MapRange(again, 0, 0), ENOSYS);
  EXPECT_EQ(Remove({{.moffset = 0, .len = kRange}}), ENOSYS);
}

TEST_F(DaxTest, AGuestThatDoesNotAskIsNotTold) {
  driver_.Init(~uint64_t{FUSE_HAS_INODE_DAX});
  directory_.Write("file", "x");
  EXPECT_EQ(driver_.GetAttr(driver_.Lookup(1, "file")).As<fuse_attr_out>().attr.flags, 0u);
}

TEST_F(DaxTest, FilesAreSeenInTheWindow) {
  driver_.Init();
  directory_.Write("file", std::string(kRange, 'a') + "second");
  const uint64_t node = driver_.Lookup(1, "file");
  ASSERT_EQ(MapRange(node, 0, kRange), 0);
  ASSERT_EQ(MapRange(node, kRange, 0), 0);
  EXPECT_EQ(At(kRange, 3), "aaa");
  EXPECT_EQ(At(0, 6), "second");
  EXPECT_EQ(Remove({{.moffset = 0, .len = kRange}, {.moffset = kRange, .len = kRange}}), 0);
  EXPECT_EQ(mapper_->memory->mapping_count(), 0u);
}

TEST_F(DaxTest, AMappingBecomesWritable) {
  for (const bool strict : {false, true}) {
    mapper_->strict = strict;
    directory_.Write("file", "text");
    driver_.Init();
    const uint64_t node = driver_.Lookup(1, "file");
    ASSERT_EQ(MapRange(node, 0, 0), 0);
    ASSERT_EQ(MapRange(node, 0, 0, kRange, kWrite), 0);
    const_cast<uint8_t*>(mapper_->memory->data())[0] = 'n';
    EXPECT_EQ(directory_.Read("file"), "next");
    EXPECT_EQ(mapper_->unmaps, strict ? 1 : 0);
    mapper_->memory->Clear();
  }
}

TEST_F(DaxTest, AFileWithoutANameStaysMapped) {
  driver_.Init();
  const FuseDriver::Opened file = driver_.Create(1, "file");
  driver_.Write(file.node, file.handle, 0, "kept");
  ASSERT_EQ(MapRange(file.node, 0, 0), 0);
  EXPECT_EQ(driver_.Send(FUSE_UNLINK, 1, Text("file")).error, 0);
  EXPECT_EQ(At(0, 4), "kept");
  // Another part of it, which is open still.
  ASSERT_EQ(MapRange(file.node, 0, kRange, kRange, kWrite), 0);
  EXPECT_EQ(At(kRange, 4), "kept");
}

TEST_F(DaxTest, ASuccessorGoesOn) {
  driver_.Init();
  directory_.Write("file", "text");
  const uint64_t node = driver_.Lookup(1, "file");
  ASSERT_EQ(MapRange(node, 0, 0), 0);
  driver_.Restart();
  driver_.server().SetWindow(mapper_);
  EXPECT_EQ(At(0, 4), "text");
  // The request that the predecessor died of.
  EXPECT_EQ(MapRange(node, 0, 0), 0);
  EXPECT_EQ(Remove({{.moffset = 0, .len = kRange}}), 0);
  EXPECT_EQ(mapper_->memory->mapping_count(), 0u);
}

TEST_F(DaxTest, DestroyUnmapsAll) {
  driver_.Init();
  directory_.Write("file", "text");
  ASSERT_EQ(MapRange(driver_.Lookup(1, "file"), 0, 0), 0);
  EXPECT_EQ(driver_.Send(FUSE_DESTROY, 1).error, 0);
  EXPECT_EQ(mapper_->memory->mapping_count(), 0u);
}

TEST_F(DaxTest, AVmmThatIsGoneIsAnIoError) {
  driver_.Init();
  directory_.Write("file", "text");
  const uint64_t node = driver_.Lookup(1, "file");
  mapper_->failure = ErrorKind::kTimedOut;
  EXPECT_EQ(MapRange(node, 0, 0), EIO);
  EXPECT_EQ(mapper_->maps, 1);
  EXPECT_EQ(Remove({{.moffset = 0, .len = kRange}}), EIO);
}

TEST_F(DaxTest, Hostile_Ranges) {
  driver_.Init();
  directory_.Write("file", "text");
  const uint64_t node = driver_.Lookup(1, "file");
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const struct {
    uint64_t offset;
    uint64_t place;
    uint64_t length;
    uint64_t flags;
  } kBad[] = {
      {0, 0, 0, kRead},
      {1, 0, 4096, kRead},
      {0, 1, 4096, kRead},
      {0, 0, 100, kRead},
      {0, kWindow, 4096, kRead},
      {0, kWindow - 4096, 8192, kRead},
      {0, kMax - 4095, 8192, kRead},
      {0, 4096, kMax - 4095, kRead},
      {kMax - 4095, 0, 4096, kRead},
      {uint64_t{INT64_MAX} - 4095, 0, 4096, kRead},
      {0, 0, 4096, 4},
      {0, 0, 4096, kMax},
  };
  for (const auto& bad : kBad) {
    EXPECT_EQ(MapRange(node, bad.offset, bad.place, bad.length, bad.flags), EINVAL)
        << bad.offset << " " << bad.place << " " << bad.length << " " << bad.flags;
  }
  EXPECT_EQ(mapper_->maps, 0);
  EXPECT_EQ(Remove({{.moffset = 1, .len = kRange}}), EINVAL);
  EXPECT_EQ(Remove({{.moffset = 0, .len = 0}}), EINVAL);
  EXPECT_EQ(Remove({{.moffset = kWindow, .len = 4096}}), EINVAL);
  EXPECT_EQ(Remove({{.moffset = kMax - 4095, .len = kRange}}), EINVAL);
  EXPECT_EQ(mapper_->unmaps, 0);
  // More than are there.
  EXPECT_EQ(Remove({{.moffset = 0, .len = kRange}}, std::numeric_limits<uint32_t>::max()), EINVAL);
  // More than Linux asks for at once, all there.
  const int before = mapper_->unmaps;
  const std::vector<fuse_removemapping_one> page(256, {.moffset = 0, .len = kRange});
  std::vector<fuse_removemapping_one> more = page;
  more.push_back(page[0]);
  EXPECT_EQ(Remove(more), EINVAL);
  EXPECT_EQ(mapper_->unmaps, before);
  EXPECT_EQ(Remove(page), 0);
  EXPECT_EQ(driver_.Send(FUSE_SETUPMAPPING, node, Text("short")).error, EINVAL);
  EXPECT_EQ(driver_.Send(FUSE_REMOVEMAPPING, node).error, EINVAL);
}

TEST_F(DaxTest, Hostile_Nodes) {
  driver_.Init();
  ASSERT_EQ(mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  ASSERT_EQ(symlink("/etc/passwd", (directory_ / "link").c_str()), 0);
  EXPECT_EQ(MapRange(1, 0, 0), EINVAL);
  EXPECT_EQ(MapRange(driver_.Lookup(1, "fifo"), 0, 0), EINVAL);
  EXPECT_EQ(MapRange(driver_.Lookup(1, "link"), 0, 0), EINVAL);
  EXPECT_NE(MapRange(99999, 0, 0), 0);
  EXPECT_NE(MapRange(0, 0, 0), 0);
  EXPECT_EQ(mapper_->maps, 0);
}

TEST(Dax, Hostile_WritingToAReadOnlyShare) {
  const TestDirectory directory;
  directory.Write("file", "text");
  const auto mapper = std::make_shared<DirectMapper>();
  FuseDriverOptions options = kOptions;
  options.share.read_only = true;
  FuseDriver driver(directory.path(), options);
  driver.server().SetWindow(mapper);
  driver.Init();
  fuse_setupmapping_in in{};
  in.len = kRange;
  in.flags = kWrite;
  const uint64_t node = driver.Lookup(1, "file");
  EXPECT_EQ(driver.Send(FUSE_SETUPMAPPING, node, Struct(in)).error, EROFS);
  in.flags = kRead;
  EXPECT_EQ(driver.Send(FUSE_SETUPMAPPING, node, Struct(in)).error, 0);
}

}  // namespace
}  // namespace crosvm::devices::fs
