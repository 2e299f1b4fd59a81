// Writes, and what a guest with a cache of its own for them expects.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "devices/fs/fuse_driver.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;

// Whether a write appends is said by the write: fcntl(2) changes it, and mapped pages come by any
// handle.
TEST(WriteTest, OnlyAppendingWritesAppend) {
  const TestDirectory dir;
  FuseDriver fuse(dir.path());
  dir.Write("file", "0123");
  const uint64_t node = fuse.Lookup(kRoot, "file");
  const auto file = fuse.Open(node, O_RDWR | O_APPEND);
  const auto write = [&](std::string_view text, uint32_t flags, uint32_t write_flags) {
    fuse_write_in in{};
    in.fh = file.handle;
    in.size = static_cast<uint32_t>(text.size());
    in.flags = flags;
    in.write_flags = write_flags;
    EXPECT_EQ(fuse.Send(FUSE_WRITE, node, Struct(in).Raw(text)).error, 0);
  };
  write("a", O_RDWR | O_APPEND, 0);
  EXPECT_EQ(dir.Read("file"), "0123a");
  write("b", O_RDWR, 0);
  EXPECT_EQ(dir.Read("file"), "b123a");
  write("cc", O_RDWR | O_APPEND, FUSE_WRITE_CACHE);
  EXPECT_EQ(dir.Read("file"), "cc23a");
}

// What Linux does before Lseek would be right: it does not write its cache back.
TEST(WriteTest, HolesAreNotTold) {
  const TestDirectory dir;
  dir.Write("file", "text");
  FuseDriver fuse(dir.path(), {.server = {.cache = Cache::kAlways, .writeback = true}});
  const uint64_t node = fuse.Lookup(kRoot, "file");
  fuse_lseek_in in{};
  in.fh = fuse.Open(node).handle;
  in.whence = SEEK_DATA;
  EXPECT_EQ(fuse.Send(FUSE_LSEEK, node, Struct(in)).error, ENOSYS);
}

TEST(WriteTest, TimesOfADeletedFileAreNobodysError) {
  const TestDirectory dir;
  dir.Write("file", "text");
  FuseDriver fuse(dir.path(), {.server = {.cache = Cache::kAlways, .writeback = true}});
  const uint64_t node = fuse.Lookup(kRoot, "file");
  ASSERT_EQ(fuse.Send(FUSE_UNLINK, kRoot, Text("file")).error, 0);
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME | FATTR_CTIME;
  EXPECT_EQ(fuse.Send(FUSE_SETATTR, node, Struct(times)).error, 0);
  times.valid |= FATTR_SIZE;
  EXPECT_EQ(fuse.Send(FUSE_SETATTR, node, Struct(times)).error, ENOENT);
}

}  // namespace
}  // namespace crosvm::devices::fs
