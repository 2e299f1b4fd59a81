// What a device brings to be found: one constexpr DeviceModule per folder, listed in modules.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "codec/fd_table.h"
#include "devices/module/control.h"
#include "event/event_loop.h"
#include "jail/filter.h"
#include "jail/layers.h"
#include "jail/spawn.h"
#include "sys/fd.h"
#include "virtio/device.h"

namespace crosvm::devices {

// What the jail of a device has to have beyond the strictest one. In the defaults: nothing.
struct JailNeeds {
  // The directory that becomes the root of its file system, by an absolute path, and (a slot of
  // PreparedDevice::fds) open. Empty: an empty read-only tmpfs.
  std::string root_path;
  codec::FdSlot root;
  bool root_writable = false;
  // The ids of its user namespace. Empty: one unprivileged id (jail::SpawnOptions).
  std::vector<jail::IdMap> uid_map;
  std::vector<jail::IdMap> gid_map;
  std::vector<int> keep_capabilities;  // CAP_*, in that user namespace
  uint64_t max_open_files = 1024;
  // It opens files again by their descriptors: CreateContext::self_fds.
  bool self_fds = false;
  // Layers that it cannot have, as its job is what they take away.
  jail::Layers without;
};

// What the privileged side prepared for a device: a message of the device's own type, as CBOR, and
// the descriptors that the message's FdSlots name. Produced by Prepare in the VMM, consumed by
// Create in the device process.
struct PreparedDevice {
  std::vector<uint8_t> start;
  codec::FdTable fds;
  JailNeeds jail;
  // The most shared memory (virtio 1.2, 2.10) that the VMM makes for it, in bytes.
  uint64_t shared_memory = 0;
  // The program that holds the device, opened with O_PATH; invalid: this one.
  sys::UniqueFd program;
  // What lives as long as the device's place in the VM, over restarts: locks, paths to remove.
  std::vector<std::shared_ptr<void>> keep;
};

struct CreateContext {
  event::EventLoop& loop;  // the loop that will run the device; outlives it
  // jail::OpenSelfFds(), when JailNeeds asked for it and the device is jailed.
  sys::BorrowedFd self_fds{};
};

struct DeviceModule {
  std::string_view name;         // "block": subcommand of `crosvm device`, label, policy name
  std::string_view summary;      // one line of help
  std::string_view option_help;  // the grammar of its option for `crosvm device NAME --help`

  // Parses the text of its command-line option (as `--disk` or `crosvm device block` take it) and
  // opens what it names: files, taps, sockets, locks. Runs in the VMM with the user's rights.
  Result<PreparedDevice> (*prepare)(std::string_view option);
  // Makes the device from what was prepared. Opens nothing. Runs in the device process before its
  // seccomp filter.
  Result<std::unique_ptr<virtio::Device>> (*create)(PreparedDevice prepared,
                                                    const CreateContext& context);
  // The part of a control request that takes the user's rights, done in the VMM before the device
  // hears of the request. Changes `prepared`, so that a restarted device begins with the result.
  // Null: there is no such part.
  Status (*before_control)(PreparedDevice& prepared, const ControlRequest& request) = nullptr;
  // The compiled system call policy (crosvm_policy() in CMake); its code is empty only for devices
  // that cannot be jailed.
  jail::Filter policy;
};

// All modules, in the order of `crosvm device` help. Defined in modules.cc.
std::span<const DeviceModule* const> AllModules();
// Null when there is none of that name.
const DeviceModule* FindModule(std::string_view name);

}  // namespace crosvm::devices
