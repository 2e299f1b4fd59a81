#include "devices/vsock/vsock_module.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vsock/directory_connector.h"
#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::devices::vsock {
namespace {

using ::testing::HasSubstr;

class VsockModuleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = "/tmp/vsock_test_XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
  }
  void TearDown() override {
    unlink(Listener().c_str());
    unlink((directory_ + "/1024").c_str());
    rmdir(directory_.c_str());
  }
  std::string Listener() const { return directory_ + "/connect"; }
  std::string Option() const { return "cid=7,path=" + directory_; }
  static std::string Problem(const std::string& option) {
    const auto prepared = kVsockModule.prepare(option);
    return prepared.has_value() ? "" : prepared.error().ToString();
  }

  std::string directory_;
  event::TestLoop loop_;
};

TEST_F(VsockModuleTest, PreparesAndCreates) {
  auto prepared = kVsockModule.prepare(Option());
  ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
  EXPECT_EQ(prepared->jail.root_path, directory_);
  EXPECT_FALSE(prepared->jail.root_writable);
  const auto keep = prepared->keep;
  auto device = kVsockModule.create(std::move(*prepared), {.loop = loop_});
  ASSERT_TRUE(device.has_value()) << device.error().ToString();
  uint8_t cid[8] = {};
  (*device)->ReadConfig(0, cid);
  EXPECT_EQ(cid[0], 7);
}

TEST_F(VsockModuleTest, TheListenerGoesWithTheDevice) {
  {
    auto prepared = kVsockModule.prepare(Option());
    ASSERT_TRUE(prepared.has_value());
    EXPECT_EQ(access(Listener().c_str(), F_OK), 0);
  }
  EXPECT_NE(access(Listener().c_str(), F_OK), 0);
}

TEST_F(VsockModuleTest, OneVmAFolder) {
  auto prepared = kVsockModule.prepare(Option());
  ASSERT_TRUE(prepared.has_value());
  EXPECT_THAT(Problem(Option()), HasSubstr("another VM has this folder"));
}

TEST_F(VsockModuleTest, WhatAKilledVmLeftIsReplaced) {
  {
    Result<sys::UnixListener> old = sys::UnixListener::Bind(Listener(), sys::SocketType::kStream);
    ASSERT_TRUE(old.has_value());
    ASSERT_EQ(link(Listener().c_str(), (directory_ + "/1024").c_str()), 0);
  }
  ASSERT_EQ(rename((directory_ + "/1024").c_str(), Listener().c_str()), 0);
  EXPECT_EQ(Problem(Option()), "");
}

TEST_F(VsockModuleTest, ErrorsSayWhatToDo) {
  EXPECT_THAT(Problem("cid=7"), HasSubstr("path=FOLDER is missing"));
  EXPECT_THAT(Problem("cid=7,path=/nowhere/at/all"), HasSubstr("make it"));
  EXPECT_THAT(Problem("cid=2,path=" + directory_), HasSubstr("3"));
  EXPECT_THAT(Problem("cid=7,path=/dev/null"), HasSubstr("not a directory"));
}

TEST_F(VsockModuleTest, ConnectsToSocketsOfTheFolderOnly) {
  Result<sys::UnixListener> listener =
      sys::UnixListener::Bind(directory_ + "/1024", sys::SocketType::kStream);
  ASSERT_TRUE(listener.has_value());
  auto connector = DirectoryConnector::Create(*sys::Open(directory_, O_PATH | O_DIRECTORY));
  ASSERT_TRUE(connector.has_value());
  EXPECT_TRUE(connector->Connect(1024).has_value());
  EXPECT_FALSE(connector->Connect(1025).has_value());
}

TEST_F(VsockModuleTest, AFullQueueIsBusy) {
  const sys::UniqueFd raw(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Result<sys::UnixListener> listener =
      sys::UnixListener::Bind(directory_ + "/1024", sys::SocketType::kStream);
  ASSERT_TRUE(listener.has_value());
  ASSERT_EQ(listen(listener->fd().get(), 0), 0);
  auto connector = DirectoryConnector::Create(*sys::Open(directory_, O_PATH | O_DIRECTORY));
  ASSERT_TRUE(connector.has_value());
  std::vector<sys::UniqueFd> held;
  for (int i = 0; i < 16; ++i) {
    auto connected = connector->Connect(1024);
    if (!connected.has_value()) {
      EXPECT_EQ(connected.error().kind(), ErrorKind::kBusy);
      return;
    }
    held.push_back(std::move(*connected));
  }
  FAIL() << "a queue of none took 16";
}

}  // namespace
}  // namespace crosvm::devices::vsock
