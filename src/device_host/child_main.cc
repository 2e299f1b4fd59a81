// main() of a device process, in its jail from the first line.
#include <sys/prctl.h>

#include <algorithm>
#include <string>

#include "base/log.h"
#include "codec/channel.h"
#include "device_host/device_host.h"
#include "device_host/serve.h"
#include "device_host/start_message.h"
#include "jail/confine.h"
#include "jail/filter.h"
#include "jail/report.h"
#include "jail/self_fds.h"
#include "jail/spawner.h"

namespace crosvm::device_host {
namespace {

constexpr int kStartFd = 3;

using StartChannel = codec::Channel<DeviceReady, DeviceStart>;

struct RunningDevice {
  std::unique_ptr<event::EventLoop> loop;
  std::unique_ptr<DeviceServer> server;
  jail::Layers layers;
};

// The last step: from here on the device only makes the calls of its policy.
Status Restrict(const devices::DeviceModule& module, const DeviceStart& start,
                jail::Layers& layers) {
  std::vector<sock_filter> code(module.policy.code.begin(), module.policy.code.end());
  if (!start.filter.empty()) code = TRY(jail::FilterFromBytes(start.filter));
  if (code.empty()) return {};
  if (start.log_denied_calls) code = jail::LogInsteadOfDeny(code);
  const Status installed = jail::InstallFilter(code, jail::FilterScope::kProcess);
  if (installed.has_value()) {
    layers.Add(jail::Layer::kSeccomp);
    return {};
  }
  if (!start.best_effort_jail) return std::unexpected(installed.error().Clone());
  LOG_WARN("jail layer 'seccomp' is off: {}", installed.error().ToString());
  return {};
}

// The order matters: nothing of the device's own runs before the namespaces' roots and rights are
// gone, and io_uring and threads are set up before the system call filter.
Result<RunningDevice> StartDevice(std::span<const devices::DeviceModule* const> modules,
                                  const DeviceStart& start, codec::FdTable& fds) {
  const auto found = std::find_if(
      modules.begin(), modules.end(),
      [&](const devices::DeviceModule* candidate) { return candidate->name == start.module; });
  if (found == modules.end())
    return Fail(ErrorKind::kNotFound, "no device is called {}", start.module);
  const devices::DeviceModule* const module = *found;
  sys::UniqueFd words = TRY(fds.Take(start.last_words));
  TRY(jail::InstallReports(
      {.label = start.label,
       .source = start.filter.empty() ? module->policy.source : "the --seccomp-policy-dir override",
       .words = std::move(words)}));
  devices::PreparedDevice prepared;
  prepared.start = start.start;
  for (const codec::FdSlot slot : start.resources) prepared.fds.Put(TRY(fds.Take(slot)));
  sys::UnixSocket vhost_user(TRY(fds.Take(start.vhost_user)));
  sys::UnixSocket control(TRY(fds.Take(start.control)));

  RunningDevice running;
  const jail::Layers namespaces(start.namespaces);
  jail::ConfineOptions confine{
      .namespaces = namespaces,
      .root_is_empty = namespaces.Has(jail::Layer::kPivotRoot),
      .root_path = start.root_path,
      .root_writable = start.root_writable,
      .max_open_files = start.max_open_files,
      .keep_capabilities = {start.keep_capabilities.begin(), start.keep_capabilities.end()},
      .best_effort = start.best_effort_jail};
  if (!start.root_path.empty()) {
    const std::vector<sys::BorrowedFd> resources = prepared.fds.Borrow();
    if (start.root_resource >= resources.size()) {
      return Fail(ErrorKind::kProtocol, "the root is descriptor {} of {}", start.root_resource,
                  resources.size());
    }
    confine.root = resources[start.root_resource];
  }
  sys::UniqueFd self_fds;
  if (start.self_fds) self_fds = TRY(jail::OpenSelfFds());
  running.layers = TRY_CONTEXT(jail::Confine(confine), "confining the device");
  running.loop = TRY(event::EventLoop::Create());
  std::unique_ptr<virtio::Device> device =
      TRY(module->create(std::move(prepared), {.loop = *running.loop, .self_fds = self_fds}));
  running.server = TRY(DeviceServer::Create(*running.loop, std::move(device), std::move(vhost_user),
                                            std::move(control)));
  TRY_CONTEXT(Restrict(*module, start, running.layers), "restricting the device's system calls");
  return running;
}

int Run(RunningDevice running) {
  Status ran = running.loop->Run();
  if (ran.has_value() && !running.server->status().has_value()) {
    ran = std::unexpected(running.server->status().error().Clone());
  }
  if (ran.has_value()) return 0;
  LOG_ERROR("{}", ran.error().ToString());
  return 1;
}

}  // namespace

int ChildMain(std::span<const devices::DeviceModule* const> modules) {
  StartChannel channel{sys::UnixSocket(sys::UniqueFd(kStartFd))};
  Result<codec::Incoming<DeviceStart>> start = channel.Receive();
  if (!start.has_value()) {
    LOG_ERROR("a device process takes its start message on descriptor {}: {}", kStartFd,
              start.error().ToString());
    return 1;
  }
  SetLogLabel(start->message.label);
  prctl(PR_SET_NAME, start->message.label.c_str());
  const Status filter = SetLogFilter(start->message.log_filter);
  if (!filter.has_value()) LOG_WARN("{}", filter.error().ToString());

  Result<RunningDevice> running = StartDevice(modules, start->message, start->fds);
  DeviceReady ready;
  if (running.has_value()) {
    const virtio::DeviceInfo& info = running->server->device().info();
    ready.layers = running->layers.bits();
    ready.device_id = info.device_id;
    ready.queue_sizes = info.queue_sizes;
    ready.config_size = info.config_size;
  } else {
    ready.error = running.error().ToString();
  }
  const Status sent = channel.Send(ready);
  if (!sent.has_value() || !running.has_value()) return 1;
  return Run(std::move(*running));
}

int SpawnerMain(int argc, char** argv) {
  return jail::SpawnerMain(argc, argv);
}

}  // namespace crosvm::device_host
