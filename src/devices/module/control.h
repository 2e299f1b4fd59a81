// The control channel of a device: what vhost-user has no word for. One channel a device, and a
// device gets only the messages that are meant for its kind.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/describe.h"
#include "base/result.h"

namespace crosvm::devices {

// The heartbeat: answered from the device's loop, so a hung device does not answer.
struct Ping {
  static constexpr std::string_view kName = "Ping";
  static constexpr auto Describe() { return Fields(); }
};

// A disk's image has a new size (the VMM has changed it); the driver is told.
struct ResizeDisk {
  static constexpr std::string_view kName = "ResizeDisk";
  uint64_t bytes = 0;
  static constexpr auto Describe() { return Fields(Field("bytes", &ResizeDisk::bytes)); }
};

// The terminal behind a console port has a new size.
struct SetWindowSize {
  static constexpr std::string_view kName = "SetWindowSize";
  uint32_t port = 0;
  uint16_t columns = 0;
  uint16_t rows = 0;
  static constexpr auto Describe() {
    return Fields(Field("port", &SetWindowSize::port), Field("columns", &SetWindowSize::columns),
                  Field("rows", &SetWindowSize::rows));
  }
};

using ControlRequest = std::variant<Ping, ResizeDisk, SetWindowSize>;

struct ControlReply {
  std::string error;  // empty: done
  static constexpr auto Describe() { return Fields(Field("error", &ControlReply::error)); }
};

// Implemented by devices that understand more than Ping. Called on the device's loop.
class Controllable {
 public:
  virtual ~Controllable() = default;
  // kUnsupported for a message that is not for this kind of device.
  virtual Status HandleControl(const ControlRequest& request) = 0;
};

}  // namespace crosvm::devices
