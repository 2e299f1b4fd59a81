#include "device_host/launch.h"

#include <poll.h>
#include <pthread.h>

#include <bit>

#include "base/log.h"
#include "device_host/serve.h"
#include "device_host/start_message.h"
#include "jail/spawn.h"
#include "vhost_user/protocol.h"
#include "virtio/types.h"

namespace crosvm::device_host {
namespace {

// Larger than any device's (virtio 1.2, 5); the front-end reads no more than vhost-user carries.
constexpr uint32_t kMaxConfigBytes = 4096;

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

// Why a device process gave no answer; it is gone, or hangs.
Error WhyNotReady(const HostedDevice& hosted, const Error& receive,
                  std::chrono::milliseconds timeout) {
  if (receive.kind() == ErrorKind::kBusy) {
    return Error(ErrorKind::kTimedOut,
                 fmt::format("the device process did not get ready within {} ms", timeout.count()));
  }
  if (receive.kind() != ErrorKind::kDisconnected) {
    return receive.Clone().Context("the device process' answer");
  }
  // The socket closes a moment before the process is a zombie.
  constexpr int kDyingMs = 2000;
  pollfd wait{.fd = hosted.process.fd().get(), .events = POLLIN, .revents = 0};
  (void)poll(&wait, 1, kDyingMs);
  const Result<std::optional<sys::ExitStatus>> status = hosted.process.TryWait();
  const std::string how =
      status.has_value() && status->has_value() ? (*status)->ToString() : receive.ToString();
  const std::string said = hosted.last_words.Read();
  return Error(ErrorKind::kDisconnected,
               fmt::format("the device process ended before it was ready: {}{}{}", how,
                           said.empty() ? "" : "; its last words: ", said));
}

// TRUST: from here the VMM sizes rings and configuration space by it.
Result<virtio::DeviceInfo> CheckedInfo(DeviceReady ready) {
  if (ready.queue_sizes.empty() || ready.queue_sizes.size() > vhost_user::kMaxQueues) {
    return Fail(ErrorKind::kProtocol, "the device process speaks of {} queues",
                ready.queue_sizes.size());
  }
  for (const uint16_t size : ready.queue_sizes) {
    if (!std::has_single_bit(size) || size > virtio::kMaxQueueSize) {
      return Fail(ErrorKind::kProtocol, "the device process speaks of a queue of {}", size);
    }
  }
  if (ready.config_size > kMaxConfigBytes) {
    return Fail(ErrorKind::kProtocol, "the device process speaks of {} bytes of configuration",
                ready.config_size);
  }
  return virtio::DeviceInfo{.device_id = ready.device_id,
                            .features = 0,
                            .queue_sizes = std::move(ready.queue_sizes),
                            .config_size = ready.config_size};
}

// What begins a launch: the parts of PendingDevice.
struct Begun {
  HostedDevice hosted;
  codec::Channel<DeviceStart, DeviceReady> channel;
  uint16_t policy_calls = 0;
};

Result<Begun> BeginProcess(const devices::DeviceModule& module,
                           const devices::PreparedDevice& prepared, const LaunchOptions& options) {
  Sockets sockets = TRY(MakeSockets());
  auto [start_ours, start_theirs] = TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));

  jail::LastWords::Ends words = TRY(jail::LastWords::Create());

  jail::SpawnOptions spawn;
  spawn.argv = {"crosvm", options.entry, options.label};
  spawn.inherit = {start_theirs.fd()};
  // A device of another program is a process even without a sandbox.
  const bool jailed = options.placement == Placement::kJailed;
  spawn.best_effort = options.best_effort_jail || !jailed;
  spawn.uid_map = prepared.jail.uid_map;
  spawn.gid_map = prepared.jail.gid_map;
  if (!spawn.executable.valid()) spawn.executable = prepared.program;
  spawn.namespaces = jailed ? jail::Layers::All().Without(prepared.jail.without) : jail::Layers();
  // A shared directory is found by its path, a foreign program's libraries as well.
  spawn.host_root = !prepared.jail.root_path.empty() || prepared.program.valid();
  jail::Spawned spawned =
      TRY(options.spawners != nullptr ? options.spawners->Spawn(spawn) : jail::Spawn(spawn));
  start_theirs = sys::UnixSocket();

  Begun begun;
  HostedDevice& hosted = begun.hosted;
  hosted.last_words = std::move(words.reader);
  hosted.process = std::move(spawned.process);
  hosted.vhost_user = std::move(sockets.vhost_user);
  hosted.control = ControlChannel(std::move(sockets.control));

  codec::FdTable fds;
  DeviceStart start{.module = std::string(module.name),
                    .label = options.label,
                    .log_filter = LogFilterSpec(),
                    .namespaces = spawned.namespaces.bits(),
                    .best_effort_jail = spawn.best_effort,
                    .start = prepared.start,
                    .filter = jail::FilterToBytes(options.policy_override),
                    .log_denied_calls = options.seccomp_log_failures,
                    .vhost_user = fds.Put(sockets.vhost_user_device.TakeFd()),
                    .control = fds.Put(sockets.control_device.TakeFd()),
                    .last_words = fds.Put(std::move(words.writer)),
                    .root_path = prepared.jail.root_path,
                    .root_resource = prepared.jail.root.index,
                    .root_writable = prepared.jail.root_writable,
                    .keep_capabilities = {prepared.jail.keep_capabilities.begin(),
                                          prepared.jail.keep_capabilities.end()},
                    .max_open_files = prepared.jail.max_open_files,
                    .self_fds = prepared.jail.self_fds};
  codec::FdTable resources = TRY(Duplicate(prepared.fds));
  for (sys::UniqueFd& fd : std::move(resources).Release()) {
    start.resources.push_back(fds.Put(std::move(fd)));
  }
  begun.channel = codec::Channel<DeviceStart, DeviceReady>(std::move(start_ours));
  TRY(begun.channel.SetTimeout(options.start_timeout));
  // A child that is gone already is found by Finish(), which knows why.
  const Status sent = begun.channel.Send(start, fds);
  if (!sent.has_value() && sent.error().kind() != ErrorKind::kDisconnected) {
    return std::unexpected(sent.error().Clone());
  }
  // `fds` goes: the child's ends are the child's alone, and its death closes them.
  begun.policy_calls = options.policy_override.empty() ? module.policy.calls : 0;
  return begun;
}

}  // namespace

Result<HostedDevice> PendingDevice::Finish() && {
  if (!hosted_.process.valid()) return std::move(hosted_);
  Result<codec::Incoming<DeviceReady>> ready = channel_.Receive();
  if (!ready.has_value()) return std::unexpected(WhyNotReady(hosted_, ready.error(), timeout_));
  if (!ready->message.error.empty()) {
    return Fail(ErrorKind::kIo, "{}", ready->message.error);
  }
  hosted_.layers = jail::Layers(ready->message.layers);
  if (hosted_.layers.Has(jail::Layer::kSeccomp)) hosted_.allowed_calls = policy_calls_;
  hosted_.info = TRY(CheckedInfo(std::move(ready->message)));
  return std::move(hosted_);
}

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

  // Waits for the requests that the device has: a chain that is taken has to be completed. The
  // server stops the loop then; it may have done so before.
  ~DeviceThread() {
    if (!thread_.joinable()) return;
    loop_->Post(
        [this] { server_->Close(Error(ErrorKind::kDisconnected, "the device is removed")); });
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

HostedDevice& HostedDevice::operator=(HostedDevice&& other) noexcept {
  if (this == &other) return *this;
  End();
  vhost_user = std::move(other.vhost_user);
  info = std::move(other.info);
  control = std::move(other.control);
  process = std::move(other.process);
  layers = other.layers;
  last_words = std::move(other.last_words);
  allowed_calls = other.allowed_calls;
  thread = std::move(other.thread);
  return *this;
}

HostedDevice::~HostedDevice() {
  End();
}

void HostedDevice::End() {
  // A process dies before it can see that its sockets close: it would take that for an orderly end
  // and forget what its successor is to go on with. A hung one must not outlive the VM, nor write
  // to a disk that its successor has.
  if (process.valid() && process.Signal(SIGKILL).has_value()) {
    const Result<sys::ExitStatus> status = process.Wait();
    if (!status.has_value()) LOG_DEBUG("reaping: {}", status.error().ToString());
  }
  process = sys::PidFd();
  vhost_user = sys::UnixSocket();
  control = ControlChannel();
  thread.reset();
}

Result<PendingDevice> BeginLaunch(const devices::DeviceModule& module,
                                  const devices::PreparedDevice& prepared,
                                  const LaunchOptions& options) {
  PendingDevice pending;
  pending.timeout_ = options.start_timeout;
  if (options.placement == Placement::kThread && !prepared.program.valid()) {
    pending.hosted_ = TRY(LaunchThread(module, prepared, options));
    return pending;
  }
  Begun begun = TRY(BeginProcess(module, prepared, options));
  pending.hosted_ = std::move(begun.hosted);
  pending.channel_ = std::move(begun.channel);
  pending.policy_calls_ = begun.policy_calls;
  return pending;
}

Result<HostedDevice> Launch(const devices::DeviceModule& module,
                            const devices::PreparedDevice& prepared, const LaunchOptions& options) {
  PendingDevice pending = TRY(BeginLaunch(module, prepared, options));
  return std::move(pending).Finish();
}

}  // namespace crosvm::device_host
