// From the text of an option to a device.
#include "devices/block/block_module.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdint>

#include "event/test_loop.h"
#include "sys/file.h"

namespace crosvm::devices::block {
namespace {

class BlockModuleTest : public ::testing::Test {
 protected:
  BlockModuleTest() {
    fd_ = sys::UniqueFd(mkostemp(path_, O_CLOEXEC));
    EXPECT_EQ(ftruncate(fd_.get(), 1 << 20), 0);
  }
  ~BlockModuleTest() override { unlink(path_); }

  std::string Error(const std::string& option) {
    const auto prepared = kBlockModule.prepare(option);
    return prepared.has_value() ? "" : prepared.error().ToString();
  }
  std::string path() const { return path_; }

  char path_[32] = "/var/tmp/crosvm-module-XXXXXX";
  sys::UniqueFd fd_;
};

TEST_F(BlockModuleTest, MakesADevice) {
  for (const char* more : {"", ",ro", ",direct,queues=4,id=x", ",engine=pool,sparse=false"}) {
    event::TestLoop loop;
    auto prepared = kBlockModule.prepare(path() + more);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    EXPECT_EQ(prepared->fds.size(), 1u);
    auto device = kBlockModule.create(std::move(*prepared), {.loop = loop});
    ASSERT_TRUE(device.has_value()) << device.error().ToString();
    EXPECT_EQ((*device)->info().device_id, 2);
  }
}

TEST_F(BlockModuleTest, ErrorsNameWhatIsWrong) {
  EXPECT_NE(Error("/does/not/exist").find("/does/not/exist"), std::string::npos);
  EXPECT_NE(Error("/var/tmp").find("/var/tmp"), std::string::npos);
  EXPECT_NE(Error(path() + ",block_size=513").find("block_size=513"), std::string::npos);
  EXPECT_NE(Error(path() + ",queues=0").find("queues: 0 is out of range"), std::string::npos);
  EXPECT_NE(Error(path() + ",queues=17").find("queues: 17 is out of range"), std::string::npos);
  EXPECT_NE(Error(path() + ",id=123456789012345678901").find("id:"), std::string::npos);
  EXPECT_NE(Error(path() + ",colour=red").find("colour"), std::string::npos);
  EXPECT_NE(Error(path() + ",root").find("crosvm run"), std::string::npos);
  ASSERT_EQ(ftruncate(fd_.get(), 511), 0);
  EXPECT_NE(Error(path()).find("511"), std::string::npos);
}

TEST_F(BlockModuleTest, AnImageInUseIsRefused) {
  const auto writer = kBlockModule.prepare(path());
  ASSERT_TRUE(writer.has_value());
  EXPECT_NE(Error(path()).find("in use"), std::string::npos);
  EXPECT_NE(Error(path() + ",ro").find("in use"), std::string::npos);
}

TEST_F(BlockModuleTest, SeveralReadersAreFine) {
  const auto reader = kBlockModule.prepare(path() + ",ro");
  ASSERT_TRUE(reader.has_value());
  EXPECT_EQ(Error(path() + ",ro"), "");
  EXPECT_NE(Error(path()).find("in use"), std::string::npos);
}

TEST_F(BlockModuleTest, ResizingChangesTheImageAndTheNextStart) {
  auto prepared = kBlockModule.prepare(path() + ",block_size=4096");
  ASSERT_TRUE(prepared.has_value());
  ASSERT_TRUE(kBlockModule.before_control(*prepared, ResizeDisk{.bytes = 3 << 20}).has_value());
  EXPECT_EQ(*sys::FileSize(fd_), 3u << 20);
  EXPECT_TRUE(kBlockModule.before_control(*prepared, Ping{}).has_value());
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4095}, UINT64_MAX}) {
    EXPECT_FALSE(kBlockModule.before_control(*prepared, ResizeDisk{.bytes = bytes}).has_value());
  }
  event::TestLoop loop;
  const auto device = kBlockModule.create(std::move(*prepared), {.loop = loop});
  ASSERT_TRUE(device.has_value());
  uint64_t sectors = 0;
  (*device)->ReadConfig(0, {reinterpret_cast<uint8_t*>(&sectors), sizeof(sectors)});
  EXPECT_EQ(sectors, (3u << 20) / 512);
}

TEST_F(BlockModuleTest, AReadOnlyDiskKeepsItsSize) {
  auto prepared = kBlockModule.prepare(path() + ",ro");
  ASSERT_TRUE(prepared.has_value());
  EXPECT_FALSE(kBlockModule.before_control(*prepared, ResizeDisk{.bytes = 3 << 20}).has_value());
  EXPECT_EQ(*sys::FileSize(fd_), 1u << 20);
}

TEST_F(BlockModuleTest, Hostile_StartMessages) {
  event::TestLoop loop;
  for (const std::vector<uint8_t>& start :
       {std::vector<uint8_t>{}, std::vector<uint8_t>{0xff}, std::vector<uint8_t>{0xa0}}) {
    PreparedDevice prepared;
    prepared.start = start;
    EXPECT_FALSE(kBlockModule.create(std::move(prepared), {.loop = loop}).has_value());
  }
}

}  // namespace
}  // namespace crosvm::devices::block
