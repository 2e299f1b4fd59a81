// Places a device's backend: in a jailed process of its own, or in a thread of the VMM
// (--disable-sandbox).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "codec/channel.h"
#include "device_host/spawners.h"
#include "device_host/start_message.h"
#include "devices/module/control.h"
#include "devices/module/module.h"
#include "jail/layers.h"
#include "jail/report.h"
#include "sys/process.h"
#include "sys/socket.h"
#include "virtio/device.h"

namespace crosvm::device_host {

enum class Placement : uint8_t { kJailed, kThread };

struct LaunchOptions {
  std::string label;  // "block[0]"
  Placement placement = Placement::kJailed;
  bool best_effort_jail = false;
  // jail::LoadOverride(), read before the VMM gives up opening files; empty: the module's policy.
  std::vector<sock_filter> policy_override;
  bool seccomp_log_failures = false;
  Spawners* spawners = nullptr;  // null: the caller starts the process itself
  // A device opens nothing and computes little before it is ready; more than this is a hang.
  std::chrono::milliseconds start_timeout{20000};
  std::string entry =
      "--device-process";  // the option by which main() finds ChildMain(); tests have another
};

// The VMM's end of a device's control channel.
using ControlChannel = codec::Channel<devices::ControlRequest, devices::ControlReply>;

class DeviceThread;

// A running device. Destroying it, or assigning another, ends the device: a process is
// killed and reaped, then the sockets are closed; a thread is joined once the device has finished
// the requests that it has.
struct HostedDevice {
  HostedDevice();
  HostedDevice(HostedDevice&&) noexcept;
  HostedDevice& operator=(HostedDevice&&) noexcept;
  ~HostedDevice();
  // Kills and reaps what there may be of it: from then on it touches nothing.
  void End();

  sys::UnixSocket vhost_user;  // for the frontend
  virtio::DeviceInfo info;
  ControlChannel control;
  sys::PidFd process;  // invalid for a thread
  jail::Layers layers;
  jail::LastWords last_words;  // to read once the process is dead: why it died
  uint16_t allowed_calls = 0;  // system calls of its policy; 0: not known, or no filter
  std::unique_ptr<DeviceThread> thread;
};

// A device that is on its way, so that several get ready side by side.
class PendingDevice {
 public:
  // Waits until the device says that it is ready (or why it is not).
  Result<HostedDevice> Finish() &&;

 private:
  friend Result<PendingDevice> BeginLaunch(const devices::DeviceModule& module,
                                           const devices::PreparedDevice& prepared,
                                           const LaunchOptions& options);
  HostedDevice hosted_;
  codec::Channel<DeviceStart, DeviceReady> channel_;  // invalid for a thread
  std::chrono::milliseconds timeout_{};
  uint16_t policy_calls_ = 0;
};

// Starts the device and returns at once. `prepared` is kept by the caller for a restart; its
// descriptors are duplicated.
Result<PendingDevice> BeginLaunch(const devices::DeviceModule& module,
                                  const devices::PreparedDevice& prepared,
                                  const LaunchOptions& options);

// BeginLaunch() and Finish(). Returns once the device says that it is ready, or why it is not.
Result<HostedDevice> Launch(const devices::DeviceModule& module,
                            const devices::PreparedDevice& prepared, const LaunchOptions& options);

}  // namespace crosvm::device_host
