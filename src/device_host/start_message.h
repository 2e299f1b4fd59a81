// The first and only message that the VMM sends a device process on its start channel, and the
// answer.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/describe.h"
#include "codec/fd_table.h"

namespace crosvm::device_host {

struct DeviceStart {
  std::string module;       // DeviceModule::name
  std::string label;        // "block[0]", for log lines and reports
  std::string log_filter;   // LogFilterSpec() of the VMM
  uint32_t namespaces = 0;  // jail::Layers that the process was spawned into
  bool best_effort_jail = false;
  std::vector<uint8_t> start;
  std::vector<uint8_t>
      filter;  // jail::FilterToBytes() of --seccomp-policy-dir; empty: the module's own
  bool log_denied_calls = false;  // --seccomp-log-failures
  codec::FdSlot vhost_user;
  codec::FdSlot control;
  codec::FdSlot last_words;              // jail::LastWords::Ends::writer
  std::vector<codec::FdSlot> resources;  // the FdTable that `start` refers to, in its order
  // devices::JailNeeds; `root_resource` counts in `resources`.
  std::string root_path;
  uint32_t root_resource = 0;
  bool root_writable = false;
  std::vector<uint32_t> keep_capabilities;

  uint64_t max_open_files = 1024;
  bool self_fds = false;

  static constexpr auto Describe() {
    return Fields(Field("module", &DeviceStart::module).Required(),
                  Field("max_open_files", &DeviceStart::max_open_files),
                  Field("self_fds", &DeviceStart::self_fds), Field("label", &DeviceStart::label),
                  Field("log_filter", &DeviceStart::log_filter),
                  Field("namespaces", &DeviceStart::namespaces),
                  Field("best_effort_jail", &DeviceStart::best_effort_jail),
                  Field("start", &DeviceStart::start), Field("filter", &DeviceStart::filter),
                  Field("log_denied_calls", &DeviceStart::log_denied_calls),
                  Field("vhost_user", &DeviceStart::vhost_user).Required(),
                  Field("control", &DeviceStart::control).Required(),
                  Field("last_words", &DeviceStart::last_words).Required(),
                  Field("resources", &DeviceStart::resources),
                  Field("root_path", &DeviceStart::root_path),
                  Field("root_resource", &DeviceStart::root_resource),
                  Field("root_writable", &DeviceStart::root_writable),
                  Field("keep_capabilities", &DeviceStart::keep_capabilities));
  }
};

// Sent when the device is made and confined, before it is given guest memory.
struct DeviceReady {
  std::string error;    // empty: ready
  uint32_t layers = 0;  // jail::Layers in force
  // What vhost-user does not tell: virtio::DeviceInfo without the features.
  uint16_t device_id = 0;
  std::vector<uint16_t> queue_sizes;
  uint32_t config_size = 0;

  static constexpr auto Describe() {
    return Fields(Field("error", &DeviceReady::error), Field("layers", &DeviceReady::layers),
                  Field("device_id", &DeviceReady::device_id),
                  Field("queue_sizes", &DeviceReady::queue_sizes),
                  Field("config_size", &DeviceReady::config_size));
  }
};

}  // namespace crosvm::device_host
