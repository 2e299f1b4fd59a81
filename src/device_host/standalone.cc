// `crosvm device NAME`: a device for a foreign vhost-user front-end.
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "device_host/device_host.h"
#include "device_host/serve.h"
#include "sys/process.h"

namespace crosvm::device_host {
namespace {

// Serves one front-end after another, with the same device, until SIGTERM or SIGINT.
class Standalone {
 public:
  static Result<int> Run(const devices::DeviceModule& module, devices::PreparedDevice prepared,
                         const std::string& socket_path) {
    constexpr int kSignals[] = {SIGTERM, SIGINT};
    const sys::SignalFd signals = TRY(sys::SignalFd::Create(kSignals));
    const std::unique_ptr<event::EventLoop> loop = TRY(event::EventLoop::Create());
    const auto kept_while_it_runs = prepared.keep;
    std::unique_ptr<virtio::Device> device =
        TRY(module.create(std::move(prepared), {.loop = *loop}));
    const sys::UnixListener listener =
        TRY(sys::UnixListener::Bind(socket_path, sys::SocketType::kStream));
    LOG_INFO("{} waits for a front-end at {}", module.name, socket_path);

    bool ended = false;
    std::unique_ptr<DeviceServer> server;
    const event::Watch on_signal =
        TRY(loop->AddWatch(signals.fd(), event::Interest::kRead, [&](event::Ready) {
          if (std::exchange(ended, true)) return;
          if (server) {
            server->Close(Error(ErrorKind::kDisconnected, "ended by a signal"));
          } else {
            loop->Stop();
          }
        }));
    while (!ended) {
      sys::UnixSocket connection;
      {
        const event::Watch on_connect =
            TRY(loop->AddWatch(listener.fd(), event::Interest::kRead, [&](event::Ready) {
              Result<sys::UnixSocket> accepted = listener.Accept();
              if (!accepted.has_value()) return;
              connection = std::move(*accepted);
              loop->Stop();
            }));
        TRY(loop->Run());
      }
      if (!connection.valid()) continue;
      server = TRY(
          DeviceServer::Create(*loop, std::move(device), std::move(connection), sys::UnixSocket()));
      TRY(loop->Run());
      if (!server->status().has_value()) {
        LOG_WARN("the front-end left: {}", server->status().error().ToString());
      }
      device = std::move(*server).TakeDevice();
      server.reset();
    }
    return 0;
  }
};

// Goes on as another program, which finds the same arguments.
Result<int> Become(sys::BorrowedFd program, const devices::DeviceModule& module,
                   const std::string& socket_path, std::string_view option) {
  std::string words[] = {"crosvm",        "device",    std::string(module.name),
                         "--socket-path", socket_path, std::string(option)};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  syscall(SYS_execveat, program.get(), "", argv.data(), environ, AT_EMPTY_PATH);
  return FailErrno("starting the program of {}", module.name);
}

}  // namespace

Result<int> RunStandalone(const devices::DeviceModule& module, const std::string& socket_path,
                          std::string_view option) {
  devices::PreparedDevice prepared = TRY(module.prepare(option));
  if (prepared.program.valid()) return Become(prepared.program, module, socket_path, option);
  return Standalone::Run(module, std::move(prepared), socket_path);
}

}  // namespace crosvm::device_host
