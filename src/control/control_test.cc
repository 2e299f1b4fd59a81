#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "codec/json.h"
#include "control/client.h"
#include "control/server.h"
#include "control/usage.h"
#include "sys/file.h"

namespace crosvm::control {
namespace {

using std::chrono::milliseconds;

TEST(Messages, WireFormOfTheReference) {
  EXPECT_EQ(codec::ToJson<Request>(Exit{}), R"("Exit")");
  EXPECT_EQ(codec::ToJson<Request>(BalloonCommand{BalloonAdjust{1048576}}),
            R"({"BalloonCommand":{"Adjust":{"num_bytes":1048576}}})");
  EXPECT_EQ(codec::ToJson<Request>(BalloonCommand{BalloonQuery{}}),
            R"({"BalloonCommand":"Stats"})");
  EXPECT_EQ(codec::ToJson<Request>(DiskCommand{0, DiskResize{4096}}),
            R"({"DiskCommand":{"disk_index":0,"command":{"Resize":{"new_size":4096}}}})");
  EXPECT_EQ(codec::ToJson<Response>(Ok{}), R"("Ok")");
  EXPECT_EQ(codec::ToJson<Response>(Err{22}), R"({"Err":22})");
  EXPECT_EQ(codec::ToJson<Response>(ErrorText{"no"}), R"({"Error":{"message":"no"}})");
}

TEST(Messages, EveryRequestIsReadBack) {
  for (const Request& request :
       {Request(Exit{}), Request(Suspend{}), Request(Resume{}), Request(Powerbtn{}), Request(Ps{}),
        Request(Events{}), Request(BalloonCommand{BalloonQuery{}}),
        Request(BalloonCommand{BalloonAdjust{7}}), Request(DiskCommand{3, DiskResize{9}})}) {
    EXPECT_EQ(codec::FromJson<Request>(codec::ToJson(request)).value(), request);
  }
  BalloonReport report;
  report.stats.free_memory = 12;
  report.balloon_actual = 4096;
  EXPECT_EQ(codec::FromJson<Response>(codec::ToJson<Response>(report)).value(), Response(report));
}

TEST(Usage, TellsOfAProcess) {
  const std::optional<ProcessUsage> own = ReadUsage(getpid());
  ASSERT_TRUE(own);
  EXPECT_GT(own->pss_kib, 0u);
  EXPECT_GE(own->pss_kib, own->uss_kib);
  EXPECT_EQ(own->threads, 1u);
  EXPECT_GE(own->descriptors, 3u);
  EXPECT_TRUE(own->namespaces.empty());
  EXPECT_FALSE(ReadUsage(0x7ffffffe));
}

TEST(Usage, TableHasALineForEachProcess) {
  ProcessList list{.vm_state = "running", .vcpus = 2, .processes = {}};
  list.processes.push_back({.name = "vmm",
                            .role = "vmm",
                            .pid = 12,
                            .state = "running",
                            .layers = {"seccomp"},
                            .allowed_calls = 90,
                            .usage = ProcessUsage{.pss_kib = 262144,
                                                  .uss_kib = 900,
                                                  .threads = 3,
                                                  .descriptors = 40,
                                                  .namespaces = {"user", "net"}}});
  list.processes.push_back({.name = "rng[0]", .role = "device", .state = "failed", .restarts = 3});
  EXPECT_EQ(ProcessTable(list),
            "VM running, 2 vCPUs\n"
            "NAME             ROLE          PID STATE      RESTARTS     PSS     USS THREADS  FDS  "
            "NS  CALLS JAIL\n"
            "vmm              vmm            12 running           0    256M    900K       3   40  "
            " 2     90 seccomp\n"
            "rng[0]           device          - failed            3       -       -       -    -  "
            " -      - none\n");
}

// A server on its own loop and thread.
class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fmt::format("/tmp/crosvm_control_test_{}.sock", getpid());
    unlink(path_.c_str());
    loop_ = std::move(event::EventLoop::Create().value());
    auto listener = sys::UnixListener::Bind(path_, sys::SocketType::kSeqPacket).value();
    server_ =
        Server::Create(*loop_, std::move(listener), [this](const Request& request) -> Response {
          seen_.push_back(request);
          if (std::holds_alternative<Suspend>(request)) return Err{EBUSY};
          if (std::holds_alternative<Powerbtn>(request))
            server_->Publish({.kind = "pressed", .device = "", .text = ""});
          if (std::holds_alternative<Ps>(request)) return ErrorText{"no processes"};
          return Ok{};
        }).value();
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->Run()); });
  }
  void TearDown() override {
    loop_->Stop();
    thread_.join();
    server_.reset();
  }
  // Runs on the loop's thread and waits for it.
  void OnLoop(std::function<void()> work) {
    std::atomic<bool> done = false;
    loop_->Post([&] {
      work();
      done = true;
      done.notify_one();
    });
    done.wait(false);
  }
  sys::UnixSocket Raw() {
    auto socket = sys::UnixSocket::Connect(path_, sys::SocketType::kSeqPacket).value();
    EXPECT_TRUE(socket.SetTimeouts(milliseconds(30000)));
    return socket;
  }
  std::string Exchange(const sys::UnixSocket& socket, std::string_view text) {
    EXPECT_TRUE(socket.Send({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
    uint8_t buffer[4096];
    const auto got = socket.Receive(buffer);
    return got ? std::string(buffer, buffer + got->bytes) : got.error().ToString();
  }

  std::string path_;
  std::unique_ptr<event::EventLoop> loop_;
  std::unique_ptr<Server> server_;
  std::vector<Request> seen_;
  std::thread thread_;
};

TEST_F(ServerTest, AnswersRequests) {
  Client client = Client::Connect(path_).value();
  EXPECT_EQ(client.Call(Exit{}, milliseconds(30000)).value(), Response(Ok{}));
  EXPECT_EQ(client.Command(Suspend{}, milliseconds(30000)).error().sys_errno(), EBUSY);
  EXPECT_EQ(client.Command(Ps{}, milliseconds(30000)).error().ToString(), "no processes");
  OnLoop([&] { EXPECT_EQ(seen_, (std::vector<Request>{Exit{}, Suspend{}, Ps{}})); });
}

TEST_F(ServerTest, PublishesToSubscribersOnly) {
  Client other = Client::Connect(path_).value();
  ASSERT_TRUE(other.Command(Resume{}, milliseconds(30000)));
  Client client = Client::Connect(path_).value();
  ASSERT_TRUE(client.Command(Events{}, milliseconds(30000)));
  const Event event = {.kind = "device-died", .device = "block[0]", .text = "killed by SIGSYS"};
  OnLoop([&] { server_->Publish(event); });
  EXPECT_EQ(client.NextEvent().value(), event);
  // The next packet of the other one is its answer, not the event.
  EXPECT_EQ(other.Call(Resume{}, milliseconds(30000)).value(), Response(Ok{}));
}

TEST_F(ServerTest, Hostile_MalformedRequestsAreAnsweredAndTheConnectionGoesOn) {
  const sys::UnixSocket socket = Raw();
  for (const char* text : {"{", "\"Explode\"", "{\"DiskCommand\":{\"disk_index\":-1}}", "7",
                           "{\"UsbCommand\":{\"ListDevice\":{\"ports\":[]}}}"}) {
    EXPECT_EQ(Exchange(socket, text), "{\"Err\":22}") << text;
  }
  EXPECT_EQ(Exchange(socket, "\"Exit\""), "\"Ok\"");
}

TEST_F(ServerTest, Hostile_TooManyConnectionsPushOutTheIdle) {
  std::vector<sys::UnixSocket> idle;
  for (size_t i = 0; i < 3 * Server::kMaxConnections; ++i) idle.push_back(Raw());
  Client client = Client::Connect(path_).value();
  EXPECT_TRUE(client.Command(Exit{}, milliseconds(30000)));
  OnLoop([&] { EXPECT_EQ(server_->connections(), Server::kMaxConnections); });
}

TEST_F(ServerTest, Hostile_AClientThatDoesNotReadIsDropped) {
  const sys::UnixSocket socket = Raw();
  EXPECT_EQ(Exchange(socket, "\"Events\""), "\"Ok\"");
  bool dropped = false;
  for (int i = 0; !dropped && i < 100000; ++i) {
    OnLoop([&] {
      for (int j = 0; j < 64; ++j)
        server_->Publish({.kind = "exit", .text = std::string(1000, 'x')});
      dropped = server_->connections() == 0;
    });
  }
  EXPECT_TRUE(dropped);
}

// The event that drops the client comes while its own request is served, or the answer after it.
TEST_F(ServerTest, Hostile_AClientIsDroppedByWhatItAsksFor) {
  for (int answers_first : {0, 1}) {
    const sys::UnixSocket socket = Raw();
    EXPECT_EQ(Exchange(socket, "\"Events\""), "\"Ok\"");
    const auto send = [&](std::string_view text) {
      return socket.Send({reinterpret_cast<const uint8_t*>(text.data()), text.size()}).has_value();
    };
    for (int i = 0; i < answers_first; ++i) EXPECT_TRUE(send("\"Exit\""));
    int sent = 0;
    while (sent < 1000000 && send("\"Powerbtn\"")) ++sent;
    EXPECT_LT(sent, 1000000);
    OnLoop([&] { EXPECT_EQ(server_->connections(), 0u); });
  }
}

TEST_F(ServerTest, Hostile_OnlySubscribersPushOutTheOldest) {
  std::vector<sys::UnixSocket> idle;
  for (size_t i = 0; i < Server::kMaxConnections; ++i) {
    idle.push_back(Raw());
    EXPECT_EQ(Exchange(idle.back(), "\"Events\""), "\"Ok\"");
  }
  Client client = Client::Connect(path_).value();
  EXPECT_TRUE(client.Command(Exit{}, milliseconds(30000)));
}

TEST(Client, ErrorsSayWhatIsWrong) {
  EXPECT_NE(Client::Connect("/etc/passwd").error().ToString().find("is no socket"),
            std::string::npos);

  EXPECT_EQ(Client::Connect("/nonexistent/x.sock").error().kind(), ErrorKind::kNotFound);
  const std::string path = fmt::format("/tmp/crosvm_control_dead_{}.sock", getpid());
  {
    auto listener = sys::UnixListener::Bind(path, sys::SocketType::kSeqPacket).value();
    ASSERT_EQ(link(path.c_str(), (path + "2").c_str()), 0);
  }
  const Result<Client> dead = Client::Connect(path + "2");
  unlink((path + "2").c_str());
  ASSERT_FALSE(dead);
  EXPECT_NE(dead.error().ToString().find("nobody listens"), std::string::npos);
}

TEST(Client, ASilentVmTimesOut) {
  const std::string path = fmt::format("/tmp/crosvm_control_silent_{}.sock", getpid());
  auto listener = sys::UnixListener::Bind(path, sys::SocketType::kSeqPacket).value();
  Client client = Client::Connect(path).value();
  EXPECT_EQ(client.Call(Exit{}, milliseconds(1)).error().kind(), ErrorKind::kTimedOut);
}

}  // namespace
}  // namespace crosvm::control
