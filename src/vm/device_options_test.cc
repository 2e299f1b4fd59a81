// The order of devices is what guests name their disks and interfaces by.
#include "vm/device_options.h"

#include <gtest/gtest.h>

namespace crosvm::vm {
namespace {

std::vector<std::string> Names(const config::VmConfig& config) {
  std::vector<std::string> names;
  for (const DeviceRequest& request : DevicesOf(config)) names.push_back(request.module);
  return names;
}

TEST(DevicesOfTest, EntropyIsThereUnlessRefused) {
  config::VmConfig config;
  EXPECT_EQ(Names(config), std::vector<std::string>{"rng"});
  config.no_rng = true;
  EXPECT_TRUE(Names(config).empty());
}

TEST(DevicesOfTest, ConsolesThenDisksThenForeignOnesThenEntropy) {
  config::VmConfig config;
  config.disks = {{.path = "/a"}, {.path = "/b", .ro = true}};
  config.serial = {{.hardware = config::SerialHardware::kVirtioConsole}};
  config.vhost_user = {{.type = config::VhostUserType::kBlock, .socket = "/run/blk"}};
  EXPECT_EQ(Names(config), (std::vector<std::string>{"console", "block", "block", "blk", "rng"}));
  const std::vector<DeviceRequest> requests = DevicesOf(config);
  EXPECT_EQ(requests[1].option, "/a");
  EXPECT_EQ(requests[2].option.substr(0, 3), "/b,");
  EXPECT_NE(requests[2].option.find("ro"), std::string::npos);
  EXPECT_EQ(requests[3].socket, "/run/blk");
}

TEST(DevicesOfTest, AllVirtioConsolesAreOneDevice) {
  config::VmConfig config;
  config.no_rng = true;
  config.serial = {
      {.type = config::SerialType::kSink},
      {.type = config::SerialType::kFile,
       .hardware = config::SerialHardware::kVirtioConsole,
       .path = "/log"},
      {.type = config::SerialType::kStdout, .hardware = config::SerialHardware::kVirtioConsole}};
  const std::vector<DeviceRequest> requests = DevicesOf(config);
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].option, "type=file,path=/log;type=stdout");
}

TEST(DevicesOfTest, SocketsAndTapsOfTheKernelAndOfOurs) {
  config::VmConfig config;
  config.no_rng = true;
  config.nets = {{.tap_name = "a"}, {.tap_name = "b", .vhost_net = true}};
  config.vsock = {.cid = 5};
  EXPECT_EQ(Names(config), (std::vector<std::string>{"net", "vhost-net", "vhost-vsock"}));
  config.vsock->path = "/run/vm";
  const std::vector<DeviceRequest> requests = DevicesOf(config);
  EXPECT_EQ(requests[2].module, "vsock");
  EXPECT_EQ(requests[2].option, "5,path=/run/vm");
}

}  // namespace
}  // namespace crosvm::vm
