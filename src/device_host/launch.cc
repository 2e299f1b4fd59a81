#include "device_host/launch.h"

#include <pthread.h>

#include "base/log.h"
#include "device_host/serve.h"
#include "device_host/start_message.h"
#include "jail/spawn.h"

namespace crosvm::device_host {
namespace {

// A device opens nothing and computes little before it is ready; more than this is a hang.
constexpr std::chrono::seconds kStartTimeout{20};

Result<codec::FdTable> Duplicate(const codec::FdTable& fds) {
  codec::FdTable copies;
  for (const sys::BorrowedFd fd : fds.Borrow()) copies.Put(TRY(fd.Dup()));
  return copies;
}

// The two socket pairs between the VMM and one device.
struct Sockets {
  sys::UnixSocket vhost_user;
  sys::UnixSocket vhost_user_device;
  sys::UnixSocket control;
  sys::UnixSocket control_device;
};

Result<Sockets> MakeSockets() {
  auto [vhost_user, vhost_user_device] = TRY(sys::UnixSocket::Pair(sys::SocketType::kStream));
  auto [control, control_device] = TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));
  Sockets sockets;
  sockets.vhost_user = std::move(vhost_user);
  sockets.vhost_user_device = std::move(vhost_user_device);
  sockets.control = std::move(control);
  sockets.control_device = std::move(control_device);
  return sockets;
}

Result<HostedDevice> LaunchProcess(const devices::DeviceModule& module,
                                   const devices::PreparedDevice& prepared,
                                   const LaunchOptions& options) {
  Sockets sockets = TRY(MakeSockets());
  auto [start_ours, start_theirs] = TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));

  std::vector<sock_filter> filter;
  if (!options.seccomp_policy_dir.empty()) {
    filter = TRY(jail::LoadOverride(options.seccomp_policy_dir, module.name));
  }
  jail::LastWords::Ends words = TRY(jail::LastWords::Create());

  jail::SpawnOptions spawn;
  spawn.argv = {"crosvm", options.entry, options.label};
  spawn.inherit = {start_theirs.fd()};
  spawn.best_effort = options.best_effort_jail;
  jail::Spawned spawned = TRY(jail::Spawn(spawn));
  start_theirs = sys::UnixSocket();

  HostedDevice hosted;
  hosted.last_words = std::move(words.reader);
  hosted.process = std::move(spawned.process);
  hosted.vhost_user = std::move(sockets.vhost_user);
  hosted.control = ControlChannel(std::move(sockets.control));

  codec::FdTable fds;
  DeviceStart start{.module = std::string(module.name),
                    .label = options.label,
                    .log_filter = LogFilterSpec(),
                    .namespaces = spawned.namespaces.bits(),
                    .best_effort_jail = options.best_effort_jail,
                    .start = prepared.start,
                    .filter = jail::FilterToBytes(filter),
                    .log_denied_calls = options.seccomp_log_failures,
                    .vhost_user = fds.Put(sockets.vhost_user_device.TakeFd()),
                    .control = fds.Put(sockets.control_device.TakeFd()),
                    .last_words = fds.Put(std::move(words.writer))};
  codec::FdTable resources = TRY(Duplicate(prepared.fds));
  for (sys::UniqueFd& fd : std::move(resources).Release()) {
    start.resources.push_back(fds.Put(std::move(fd)));
  }
  codec::Channel<DeviceStart, DeviceReady> channel(std::move(start_ours));
  TRY(channel.SetTimeout(kStartTimeout));
  TRY(channel.Send(start, fds));
  Result<codec::Incoming<DeviceReady>> ready = channel.Receive();
  if (!ready.has_value()) {
    const Result<std::optional<sys::ExitStatus>> status = hosted.process.TryWait();
    const std::string how = status.has_value() && status->has_value() ? (*status)->ToString()
                                                                      : ready.error().ToString();
    const std::string said = hosted.last_words.Read();
    return Fail(ErrorKind::kIo, "the device process ended before it was ready: {}{}{}", how,
                said.empty() ? "" : "; its last words: ", said);
  }
  if (!ready->message.error.empty()) {
    return Fail(ErrorKind::kIo, "{}", ready->message.error);
  }
  hosted.layers = jail::Layers(ready->message.layers);
  if (filter.empty() && hosted.layers.Has(jail::Layer::kSeccomp)) {
    hosted.allowed_calls = module.policy.calls;
  }
  hosted.info = {.device_id = ready->message.device_id,
                 .features = 0,
                 .queue_sizes = std::move(ready->message.queue_sizes),
                 .config_size = ready->message.config_size};
  return hosted;
}

}  // namespace

// A device on a thread of this process, with a loop of its own.
class DeviceThread {
 public:
  static Result<std::unique_ptr<DeviceThread>> Start(const devices::DeviceModule& module,
                                                     devices::PreparedDevice prepared,
                                                     const std::string& label, Sockets& sockets) {
    auto self = std::make_unique<DeviceThread>();
    self->loop_ = TRY(event::EventLoop::Create());
    std::unique_ptr<virtio::Device> device =
        TRY(module.create(std::move(prepared), {.loop = *self->loop_}));
    self->server_ = TRY(DeviceServer::Create(*self->loop_, std::move(device),
                                             std::move(sockets.vhost_user_device),
                                             std::move(sockets.control_device)));
    self->thread_ = std::thread([raw = self.get(), label] {
      pthread_setname_np(pthread_self(), label.substr(0, 15).c_str());
      const Status ran = raw->loop_->Run();
      if (!ran.has_value()) LOG_ERROR("{}: {}", label, ran.error().ToString());
    });
    return self;
  }

  const virtio::DeviceInfo& info() const { return server_->device().info(); }

  ~DeviceThread() {
    if (!thread_.joinable()) return;
    loop_->Stop();
    thread_.join();
  }

 private:
  std::unique_ptr<event::EventLoop> loop_;
  std::unique_ptr<DeviceServer> server_;
  std::thread thread_;
};

namespace {

Result<HostedDevice> LaunchThread(const devices::DeviceModule& module,
                                  const devices::PreparedDevice& prepared,
                                  const LaunchOptions& options) {
  Sockets sockets = TRY(MakeSockets());
  devices::PreparedDevice copy;
  copy.start = prepared.start;
  copy.fds = TRY(Duplicate(prepared.fds));
  HostedDevice hosted;
  hosted.thread = TRY(DeviceThread::Start(module, std::move(copy), options.label, sockets));
  hosted.info = hosted.thread->info();
  hosted.vhost_user = std::move(sockets.vhost_user);
  hosted.control = ControlChannel(std::move(sockets.control));
  return hosted;
}

}  // namespace

HostedDevice::HostedDevice() = default;
HostedDevice::HostedDevice(HostedDevice&&) noexcept = default;
HostedDevice& HostedDevice::operator=(HostedDevice&&) noexcept = default;

HostedDevice::~HostedDevice() {
  vhost_user = sys::UnixSocket();
  control = ControlChannel();
  if (!process.valid()) return;
  // Closing its sockets ends a healthy device; a hung one must not outlive the VM.
  if (process.Signal(SIGKILL).has_value()) {
    const Result<sys::ExitStatus> status = process.Wait();
    if (!status.has_value()) LOG_DEBUG("reaping: {}", status.error().ToString());
  }
}

Result<HostedDevice> Launch(const devices::DeviceModule& module,
                            const devices::PreparedDevice& prepared,
                            const LaunchOptions& options) {
  return options.placement == Placement::kThread ? LaunchThread(module, prepared, options)
                                                 : LaunchProcess(module, prepared, options);
}

}  // namespace crosvm::device_host
