#include "vm/device_set.h"

#include <linux/virtio_ids.h>
#include <poll.h>

#include <algorithm>
#include <atomic>

#include "base/check.h"
#include "base/log.h"
#include "sys/file.h"
#include "vm/foreign_devices.h"

namespace crosvm::vm {
namespace {

constexpr std::chrono::seconds kHeartbeatInterval{2};
// A device that has not answered for this long hangs. Generous: hosts are loaded, and emulated ones
// slow.
constexpr std::chrono::seconds kHeartbeatTimeout{10};
// From the closing of a process' sockets to its end.
constexpr std::chrono::milliseconds kDyingTime{500};
// More failures than the policy allows within the window end the restarts.
constexpr std::chrono::seconds kFailureWindow{60};

enum class State : uint8_t { kRunning, kRestarting, kFailed };

constexpr std::string_view StateName(State state) {
  switch (state) {
    case State::kRunning:
      return "running";
    case State::kRestarting:
      return "restarting";
    case State::kFailed:
      return "failed";
  }
  return "?";
}

}  // namespace

struct DeviceSet::Managed {
  std::string label;
  std::string kind;
  const devices::DeviceModule* module = nullptr;      // null: foreign, or the kernel's
  devices::PreparedDevice prepared;                   // kept for restarts
  std::vector<sock_filter> policy_override;           // as LaunchOptions::policy_override
  std::optional<device_host::PendingDevice> pending;  // from Add() to PlugAll()
  device_host::HostedDevice hosted;
  vhost_user::FrontendOptions foreign;  // when `module` is null
  std::shared_ptr<vhost_user::Frontend> frontend;
  std::shared_ptr<virtio::Backend> kernel;              // instead of a frontend
  std::shared_ptr<virtio::SharedMemory> shared_memory;  // null: it has none
  std::shared_ptr<virtio::PciTransport> transport;
  State state = State::kRunning;
  uint32_t restarts = 0;
  std::deque<event::Clock::time_point> deaths;
  event::Watch process_watch;
  event::Watch control_watch;
  event::Timer late_report;
  event::Clock::time_point last_answer;
  bool ping_pending = false;
  uint32_t answers_due = 0;  // of its control channel, which answers in order
  // Changes at run time that a successor is told of.
  std::vector<devices::ChangeForward> forwards;
};

DeviceSet::DeviceSet(const DeviceContext& context, const DevicePolicy& policy,
                     std::function<void(const control::Event&)> publish,
                     std::function<void(std::string)> give_up)
    : context_(context),
      policy_(policy),
      publish_(std::move(publish)),
      give_up_(std::move(give_up)),
      symbols_(jail::Symbols::OfThisProgram()),
      self_(std::make_shared<DeviceSet*>(this)) {
  const Status added = slots_.AddBus(0, 1);
  CHECK(added.has_value());
  if (!symbols_.has_value()) LOG_DEBUG("no names in reports: {}", symbols_.error().ToString());
  OnHeartbeat();
}

DeviceSet::~DeviceSet() {
  self_.reset();
  for (const auto& [address, function] : context_.root.functions()) {
    for (const std::unique_ptr<Managed>& device : devices_) {
      if (function == device->transport) {
        const auto removed = context_.root.Remove(address);
        if (!removed.has_value()) LOG_DEBUG("{}", removed.error().ToString());
      }
    }
  }
}

Status DeviceSet::Add(const devices::DeviceModule& module, std::string_view option) {
  auto device = std::make_unique<Managed>();
  device->module = &module;
  device->kind = module.name;
  const auto same_kind = [&](const auto& other) { return other->kind == module.name; };
  device->label = fmt::format("{}[{}]", module.name,
                              std::count_if(devices_.begin(), devices_.end(), same_kind));
  device->prepared = TRY_CONTEXT(module.prepare(option), "{}", device->label);
  if (!policy_.seccomp_policy_dir.empty()) {
    device->policy_override = TRY(jail::LoadOverride(policy_.seccomp_policy_dir, module.name));
  }
  device->pending = TRY_CONTEXT(BeginLaunch(*device), "starting {}", device->label);
  devices_.push_back(std::move(device));
  return {};
}

Status DeviceSet::AddForeign(std::string_view kind, const std::string& socket_path,
                             std::string_view tag) {
  auto device = std::make_unique<Managed>();
  device->kind = fmt::format("vhost-user-{}", kind);
  device->label = fmt::format("{} at {}", device->kind, socket_path);
  device->hosted.vhost_user = TRY(sys::UnixSocket::Connect(socket_path, sys::SocketType::kStream));
  device->foreign = TRY(ForeignDevice(kind, tag));
  devices_.push_back(std::move(device));
  return {};
}

void DeviceSet::AddKernel(std::string_view kind, std::shared_ptr<virtio::Backend> backend) {
  auto device = std::make_unique<Managed>();
  device->kind = kind;
  device->label = backend->name();
  device->kernel = std::move(backend);
  devices_.push_back(std::move(device));
}

Status DeviceSet::PlugAll() {
  for (const std::unique_ptr<Managed>& device : devices_) {
    if (device->pending) {
      device->hosted =
          TRY_CONTEXT(std::move(*device->pending).Finish(), "starting {}", device->label);
      device->pending.reset();
    }
    TRY_CONTEXT(Plug(*device), "starting {}", device->label);
    if (device->module != nullptr) TRY(WatchProcess(*device));
  }
  return {};
}

Status DeviceSet::ConnectFrontend(Managed& device) {
  vhost_user::FrontendOptions options;
  if (device.module == nullptr) {
    options = std::move(device.foreign);
  } else {
    options.info = device.hosted.info;
    options.max_shared_memory = device.prepared.shared_memory;
  }
  options.name = device.label;
  device.frontend = TRY(vhost_user::Frontend::Connect(
      context_.loop, std::move(device.hosted.vhost_user), std::move(options)));
  const std::vector<virtio::SharedMemoryRegion>& regions = device.frontend->info().shared_memory;
  if (regions.empty()) return {};
  device.shared_memory = TRY(virtio::SharedMemory::Create(context_.vm, device.label, regions));
  device.frontend->SetSharedMemory(device.shared_memory);
  return {};
}

Status DeviceSet::Plug(Managed& device) {
  if (device.kernel == nullptr) TRY(ConnectFrontend(device));
  const resources::PciSlot slot = TRY(slots_.Allocate(0, device.label));
  const pci::InterruptContext interrupts{context_.vm, context_.interrupts.router(), context_.loop};
  device.transport = TRY(virtio::PciTransport::Create(
      interrupts,
      {.backend = device.kernel != nullptr ? device.kernel : device.frontend,
       .memory = context_.memory,
       .intx = context_.interrupts.Intx(slot.device, 0),
       .intx_irq = static_cast<uint8_t>(x86_64::IntxGsi(slot.device, 0)),
       .shared_memory = device.shared_memory,
       // Comes on any thread, maybe with the transport's lock held.
       .failed = [weak = std::weak_ptr(self_), raw = &device, &loop = context_.loop](Error error) {
         loop.Post([weak, raw, why = error.ToString()] {
           if (const auto self = weak.lock()) (*self)->OnBackendFailed(*raw, why);
         });
       }}));
  TRY(pci::AssignBars(*device.transport, &context_.low_mmio, &context_.high_mmio, nullptr,
                      slot.ToString()));
  return context_.root.Add(*pci::Address::Make(slot.bus, slot.device, slot.function),
                           device.transport);
}

Result<device_host::PendingDevice> DeviceSet::BeginLaunch(const Managed& device) const {
  return device_host::BeginLaunch(*device.module, device.prepared,
                                  {.label = device.label,
                                   .placement = policy_.placement,
                                   .best_effort_jail = policy_.best_effort_jail,
                                   .policy_override = device.policy_override,
                                   .seccomp_log_failures = policy_.seccomp_log_failures,
                                   .spawners = policy_.spawners});
}

std::string DeviceSet::DescribeEnd(Managed& device) const {
  device_host::HostedDevice& hosted = device.hosted;
  const pid_t pid = hosted.process.pid();
  const std::string memory =
      policy_.spawners != nullptr ? policy_.spawners->OutOfMemory(pid) : std::string();
  const Result<std::optional<sys::ExitStatus>> status = hosted.process.TryWait();
  std::string how = "unknown end";
  if (status.has_value() && status->has_value()) {
    how = (*status)->ToString();
    const bool killed = (*status)->signaled && (*status)->code == SIGKILL;
    if (killed && !memory.empty()) how = memory;
  }
  std::string said = hosted.last_words.Read();
  if (symbols_.has_value()) said = symbols_->Annotate(said);
  return fmt::format("the process (pid {}) ended: {}{}{}", pid, how, said.empty() ? "" : "; ",
                     said);
}

Status DeviceSet::WatchProcess(Managed& device) {
  device.last_answer = context_.loop.Now();
  device.ping_pending = false;
  TRY(sys::SetNonBlocking(device.hosted.control.fd(), true));
  device.control_watch =
      TRY(context_.loop.AddWatch(device.hosted.control.fd(), event::Interest::kRead,
                                 [this, &device](event::Ready) { OnControlReadable(device); }));
  if (!device.hosted.process.valid()) return {};
  device.process_watch = TRY(context_.loop.AddWatch(
      device.hosted.process.fd(), event::Interest::kRead,
      [this, &device](event::Ready) { OnFailed(device, DescribeEnd(device)); }));
  return {};
}

void DeviceSet::OnControlReadable(Managed& device) {
  const auto reply = device.hosted.control.Receive();
  if (!reply.has_value()) {
    if (reply.error().kind() == ErrorKind::kBusy) return;
    // The end of the process is reported by its pidfd, with the reason.
    device.control_watch.Reset();
    return;
  }
  device.last_answer = context_.loop.Now();
  device.ping_pending = false;
  if (device.answers_due > 0) --device.answers_due;
  if (!reply->message.error.empty()) {
    // A device that was taken over may send as many and as long ones as it likes.
    constexpr size_t kMaxLogged = 512;
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: {}", device.label,
                   std::string_view(reply->message.error).substr(0, kMaxLogged));
  }
}

void DeviceSet::OnHeartbeat() {
  const event::Clock::time_point now = context_.loop.Now();
  for (const std::unique_ptr<Managed>& device : devices_) {
    if (device->module == nullptr || device->state != State::kRunning) continue;
    if (device->ping_pending && now - device->last_answer > kHeartbeatTimeout) {
      OnFailed(*device, "it does not answer (hung or stopped)");
      continue;
    }
    if (device->ping_pending) continue;
    if (device->hosted.control.Send(devices::Ping{}).has_value()) {
      ++device->answers_due;
      device->ping_pending = true;
      device->last_answer = now;
    }
  }
  heartbeat_ = context_.loop.AddTimer(kHeartbeatInterval, [this] { OnHeartbeat(); });
}

void DeviceSet::OnBackendFailed(Managed& device, std::string why) {
  // About a predecessor: the end of one that hung fails the calls that waited for it.
  if (!device.transport->lost() || device.state != State::kRunning) return;
  if (!device.hosted.process.valid()) {
    OnFailed(device, std::move(why));
    return;
  }
  // A process that dies closes its sockets first; its end, which tells more, is seen in a moment.
  device.late_report =
      context_.loop.AddTimer(kDyingTime, [this, &device, why] { OnFailed(device, why); });
}

void DeviceSet::OnFailed(Managed& device, std::string why) {
  // One death is noticed in several ways; the first counts.
  if (device.state != State::kRunning) return;
  device.state = State::kRestarting;
  device.late_report = event::Timer();
  LOG_ERROR("device {} failed: {}", device.label, why);
  publish_({.kind = "device-died", .device = device.label, .text = why});

  const event::Clock::time_point now = context_.loop.Now();
  device.deaths.push_back(now);
  while (now - device.deaths.front() > kFailureWindow) device.deaths.pop_front();
  if (policy_.on_crash == config::OnDeviceCrash::kStop) {
    give_up_(fmt::format("device {} failed, and --on-device-crash=stop", device.label));
    return;
  }
  std::string obstacle;
  if (device.module == nullptr) {
    obstacle =
        device.kernel != nullptr ? "it is the kernel's" : "it is served by a foreign process";
  } else if (policy_.on_crash == config::OnDeviceCrash::kReset) {
    obstacle = "--on-device-crash=reset";
  } else if (device.deaths.size() > policy_.restarts_per_minute) {
    obstacle =
        fmt::format("{} failures within {} seconds", device.deaths.size(), kFailureWindow.count());
  } else {
    Status restarted = Restart(device);
    // A successor may die as well, before it has the queues. One that hangs has held this loop for
    // long enough.
    constexpr int kMoreAttempts = 3;
    for (int attempt = 0; attempt < kMoreAttempts && !restarted.has_value() &&
                          restarted.error().kind() == ErrorKind::kDisconnected &&
                          device.deaths.size() < policy_.restarts_per_minute;
         ++attempt) {
      LOG_WARN("device {}: its successor: {}", device.label, restarted.error().ToString());
      device.deaths.push_back(now);
      restarted = Restart(device);
    }
    if (restarted.has_value()) return;
    obstacle = restarted.error().ToString();
  }
  device.state = State::kFailed;
  // Its end would be reported for ever, and one that only hangs must not go on once the driver has
  // its memory back by a reset.
  EndProcess(device);
  device.transport->GiveUp();
  LOG_ERROR("device {} is not restarted: {}", device.label, obstacle);
  publish_({.kind = "device-failed", .device = device.label, .text = obstacle});
}

void DeviceSet::EndProcess(Managed& device) {
  device.process_watch.Reset();
  device.control_watch.Reset();
  device.answers_due = 0;
  device.hosted.End();
}

Status DeviceSet::Restart(Managed& device) {
  EndProcess(device);
  device_host::PendingDevice pending = TRY(BeginLaunch(device));
  device.hosted = TRY(std::move(pending).Finish());
  TRY(device.frontend->Reattach(std::move(device.hosted.vhost_user)));
  TRY(WatchProcess(device));
  TRY(device.transport->Reattached());
  for (const devices::ChangeForward& change : device.forwards) {
    const Status told = device.hosted.control.Send(change);
    if (told.has_value()) ++device.answers_due;
  }
  device.state = State::kRunning;
  ++device.restarts;
  LOG_WARN("device {} was restarted", device.label);
  publish_({.kind = "device-restarted", .device = device.label, .text = ""});
  return {};
}

Status DeviceSet::Pause() {
  Status first;
  for (const std::unique_ptr<Managed>& device : devices_) {
    Status paused = device->transport->Pause();
    if (paused.has_value() || !first.has_value()) continue;
    first = std::unexpected(std::move(paused).error().Context(device->label));
  }
  return first;
}

void DeviceSet::Unpause() {
  for (const std::unique_ptr<Managed>& device : devices_) device->transport->Unpause();
}

DeviceSet::Managed* DeviceSet::Find(std::string_view module, size_t index) {
  for (const std::unique_ptr<Managed>& device : devices_) {
    if (device->kind == module && index-- == 0) return device.get();
  }
  return nullptr;
}

Status DeviceSet::SendControl(std::string_view module, size_t index,
                              const devices::ControlRequest& request) {
  Managed* const device = Find(module, index);
  if (device == nullptr) return Fail(ErrorKind::kNotFound, "there is no {} {}", module, index);
  if (device->module == nullptr) {
    return Fail(ErrorKind::kUnsupported, "{} takes no such request", device->label);
  }
  if (device->state == State::kFailed) {
    return Fail(ErrorKind::kDisconnected, "{} has failed", device->label);
  }
  if (device->module->before_control != nullptr) {
    TRY_CONTEXT(device->module->before_control(device->prepared, request), "{}", device->label);
  }
  TRY(device->hosted.control.Send(request));
  ++device->answers_due;
  return {};
}

Result<devices::ControlReply> DeviceSet::Query(Managed& device,
                                               const devices::ControlRequest& request) {
  constexpr std::chrono::milliseconds kPatience{1000};
  TRY_CONTEXT(device.hosted.control.Send(request), "{}", device.label);
  ++device.answers_due;
  const event::Clock::time_point deadline = event::Clock::now() + kPatience;
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - event::Clock::now()).count();
    pollfd wait{.fd = device.hosted.control.fd().get(), .events = POLLIN, .revents = 0};
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) == 0)
      return Fail(ErrorKind::kTimedOut, "{} does not answer", device.label);
    auto reply = device.hosted.control.Receive();
    if (!reply.has_value()) {
      if (reply.error().kind() == ErrorKind::kBusy) continue;
      return std::unexpected(std::move(reply).error().Context(device.label));
    }
    device.last_answer = context_.loop.Now();
    device.ping_pending = false;
    if (device.answers_due > 0) --device.answers_due;
    // Those before it are of pings.
    if (device.answers_due == 0) return std::move(reply->message);
  }
}

std::vector<DeviceSet::Managed*> DeviceSet::Nets() {
  std::vector<Managed*> nets;
  for (const std::unique_ptr<Managed>& device : devices_) {
    if (device->hosted.info.device_id == VIRTIO_ID_NET || device->kind == "vhost-user-net")
      nets.push_back(device.get());
  }
  return nets;
}

control::NetList DeviceSet::DescribeNets() {
  control::NetList list;
  for (Managed* const device : Nets()) {
    control::NetInterface net{.name = device->label,
                              .kind = device->kind == "net"        ? "tap"
                                      : device->kind == "net-user" ? "user"
                                                                   : device->kind,
                              .link = std::string(StateName(device->state)),
                              .mac = {},
                              .mtu = 0,
                              .pairs_in_use = 0,
                              .pairs = {},
                              .forwards = {}};
    if (device->module != nullptr && device->state == State::kRunning) {
      const Result<devices::ControlReply> reply = Query(*device, devices::QueryNet{});
      if (!reply.has_value()) {
        net.link = "busy";
      } else if (reply->net) {
        net.link = reply->net->driver ? "up" : "down";
        net.mac = reply->net->mac;
        net.mtu = reply->net->mtu;
        net.pairs_in_use = reply->net->pairs_in_use;
        net.forwards = reply->net->forwards;
        for (const devices::NetPairReport& pair : reply->net->pairs) {
          net.pairs.push_back({.rx_frames = pair.rx_frames,
                               .rx_dropped = pair.rx_dropped,
                               .rx_filtered = pair.rx_filtered,
                               .tx_frames = pair.tx_frames,
                               .tx_dropped = pair.tx_dropped});
        }
      }
    }
    list.interfaces.push_back(std::move(net));
  }
  return list;
}

Status DeviceSet::ChangeForward(size_t index, const devices::ChangeForward& change) {
  const std::vector<Managed*> nets = Nets();
  if (index >= nets.size())
    return Fail(ErrorKind::kNotFound, "there is no network interface {}", index);
  Managed& device = *nets[index];
  if (device.module == nullptr || device.state != State::kRunning)
    return Fail(ErrorKind::kUnsupported, "{} takes no forwards", device.label);
  const devices::ControlReply reply = TRY(Query(device, change));
  if (!reply.error.empty()) return Fail(ErrorKind::kInvalidArgument, "{}", reply.error);
  // What undoes an earlier change leaves nothing to tell.
  const size_t undone = std::erase_if(device.forwards, [&](const devices::ChangeForward& other) {
    return other.forward == change.forward && other.add != change.add;
  });
  if (undone == 0) device.forwards.push_back(change);
  return {};
}

std::string DeviceSet::ExplainFault() const {
  std::string labels;
  for (const std::unique_ptr<Managed>& device : devices_) {
    if (device->shared_memory == nullptr || device->shared_memory->mapping_count() == 0) continue;
    labels += fmt::format("{}{}", labels.empty() ? "" : ", ", device->label);
  }
  if (labels.empty()) return {};
  return fmt::format(
      "; the guest has files of {} mapped (dax): was one of them made shorter on the host?",
      labels);
}

std::vector<control::ProcessInfo> DeviceSet::Describe() const {
  std::vector<control::ProcessInfo> processes;
  for (const std::unique_ptr<Managed>& device : devices_) {
    const bool process = device->hosted.process.valid();
    processes.push_back({.name = device->label,
                         .role = device->kernel != nullptr   ? "kernel"
                                 : device->module == nullptr ? "foreign"
                                                             : "device",
                         .pid = process ? device->hosted.process.pid() : 0,
                         .state = std::string(StateName(device->state)),
                         .restarts = device->restarts,
                         .layers = device->hosted.layers.Names(),
                         .allowed_calls = device->hosted.allowed_calls});
  }
  return processes;
}

}  // namespace crosvm::vm
