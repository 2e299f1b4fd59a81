// The C interface against a server, in this process and from a C program.
#include "control_c/crosvm_control.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <thread>

#include "base/mutex.h"
#include "codec/json.h"
#include "control/server.h"

namespace crosvm {
namespace {

class ControlLibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/crosvm-control-XXXXXX";
    folder_ = mkdtemp(pattern);
    path_ = folder_ + "/socket";
    loop_ = *event::EventLoop::Create();
    server_ = *control::Server::Create(*loop_,
                                       *sys::UnixListener::Bind(path_, sys::SocketType::kSeqPacket),
                                       [this](const control::Request& request) {
                                         MutexLock lock(mutex_);
                                         requests_ += codec::ToJson(request) + "\n";
                                         return answer_;
                                       });
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->Run().has_value()); });
  }
  void TearDown() override {
    loop_->Post([this] { loop_->Stop(); });
    thread_.join();
    server_.reset();
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  // As JSON, a line each.
  std::string Requests() {
    MutexLock lock(mutex_);
    return requests_;
  }

  std::string folder_;
  std::string path_;
  std::unique_ptr<event::EventLoop> loop_;
  std::unique_ptr<control::Server> server_;
  std::thread thread_;
  Mutex mutex_;
  std::string requests_ CROSVM_GUARDED_BY(mutex_);
  // Read by the server's thread during a call.
  control::Response answer_ = control::Ok{};
};

TEST_F(ControlLibraryTest, SendsEveryRequest) {
  const char* const path = path_.c_str();
  // Of a thread that has not failed yet.
  std::thread([] { EXPECT_STREQ(crosvm_client_last_error(), ""); }).join();
  EXPECT_TRUE(crosvm_client_suspend_vm(path));
  EXPECT_TRUE(crosvm_client_resume_vm(path));
  EXPECT_TRUE(crosvm_client_powerbtn_vm(path));
  EXPECT_TRUE(crosvm_client_resize_disk(path, 1, 4096));
  EXPECT_TRUE(crosvm_client_balloon_vms(path, 7));
  EXPECT_TRUE(crosvm_client_stop_vm(path));
  EXPECT_EQ(Requests(),
            "\"Suspend\"\n\"Resume\"\n\"Powerbtn\"\n"
            "{\"DiskCommand\":{\"disk_index\":1,\"command\":{\"Resize\":{\"new_size\":4096}}}}\n"
            "{\"BalloonCommand\":{\"Adjust\":{\"num_bytes\":7}}}\n\"Exit\"\n");
}

TEST_F(ControlLibraryTest, ReadsTheBalloon) {
  control::BalloonReport report;
  report.stats.free_memory = 12;
  report.balloon_actual = 4096;
  answer_ = report;
  crosvm_balloon_stats stats{};
  uint64_t actual = 0;
  EXPECT_TRUE(crosvm_client_balloon_stats(path_.c_str(), &stats, &actual));
  EXPECT_EQ(stats.free_memory, 12);
  EXPECT_EQ(stats.swap_in, -1);
  EXPECT_EQ(actual, 4096u);
  EXPECT_TRUE(crosvm_client_balloon_stats(path_.c_str(), nullptr, nullptr));
  answer_ = control::Ok{};
  EXPECT_FALSE(crosvm_client_balloon_stats(path_.c_str(), &stats, &actual));
}

TEST_F(ControlLibraryTest, SaysWhyItFails) {
  EXPECT_FALSE(crosvm_client_stop_vm("/does/not/exist"));
  EXPECT_NE(std::string(crosvm_client_last_error()).find("/does/not/exist"), std::string::npos);
  EXPECT_FALSE(crosvm_client_stop_vm(nullptr));
  answer_ = control::ErrorText{"the VM is tired"};
  EXPECT_FALSE(crosvm_client_suspend_vm(path_.c_str()));
  EXPECT_NE(std::string(crosvm_client_last_error()).find("tired"), std::string::npos);
}

TEST_F(ControlLibraryTest, ACProgramUsesIt) {
  char self[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
  const std::string folder(self, std::string_view(self).rfind('/'));
  EXPECT_EQ(system(fmt::format("{}/crosvm_control_example {}", folder, path_).c_str()), 0);
  EXPECT_EQ(Requests(), "\"Suspend\"\n\"Resume\"\n");
  EXPECT_NE(
      system(fmt::format("{}/crosvm_control_example /does/not/exist 2>/dev/null", folder).c_str()),
      0);
}

}  // namespace
}  // namespace crosvm
