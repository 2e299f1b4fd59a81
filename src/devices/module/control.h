// The control channel of a device: what vhost-user has no word for. One channel a device, and a
// device gets only the messages that are meant for its kind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

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

// What a network interface does; answered with ControlReply::net.
struct QueryNet {
  static constexpr std::string_view kName = "QueryNet";
  static constexpr auto Describe() { return Fields(); }
};

// Adds or removes a port forward (config::HostForward as text) of a user-mode network.
struct ChangeForward {
  static constexpr std::string_view kName = "ChangeForward";
  bool add = true;
  std::string forward;
  static constexpr auto Describe() {
    return Fields(Field("add", &ChangeForward::add), Field("forward", &ChangeForward::forward));
  }
};

using ControlRequest = std::variant<Ping, ResizeDisk, SetWindowSize, QueryNet, ChangeForward>;

// Frames of one pair of queues since the process started; what was not passed on is told by reason.
struct NetPairReport {
  uint64_t rx_frames = 0;
  uint64_t rx_dropped = 0;   // too long for the driver's buffers, or no room
  uint64_t rx_filtered = 0;  // not wanted by the driver
  uint64_t tx_frames = 0;
  uint64_t tx_dropped = 0;  // malformed, or not allowed
  static constexpr auto Describe() {
    return Fields(Field("rx_frames", &NetPairReport::rx_frames),
                  Field("rx_dropped", &NetPairReport::rx_dropped),
                  Field("rx_filtered", &NetPairReport::rx_filtered),
                  Field("tx_frames", &NetPairReport::tx_frames),
                  Field("tx_dropped", &NetPairReport::tx_dropped));
  }
};

struct NetReport {
  std::string mac;
  uint16_t mtu = 0;     // 0: the driver's own
  bool driver = false;  // has set the device up
  uint16_t pairs_in_use = 0;
  std::vector<NetPairReport> pairs;
  std::vector<std::string> forwards;
  static constexpr auto Describe() {
    return Fields(Field("mac", &NetReport::mac), Field("mtu", &NetReport::mtu),
                  Field("driver", &NetReport::driver),
                  Field("pairs_in_use", &NetReport::pairs_in_use),
                  Field("pairs", &NetReport::pairs), Field("forwards", &NetReport::forwards));
  }
};

struct ControlReply {
  std::string error;  // empty: done
  std::optional<NetReport> net;
  static constexpr auto Describe() {
    return Fields(Field("error", &ControlReply::error), Field("net", &ControlReply::net));
  }
};

// Implemented by devices that understand more than Ping. Called on the device's loop.
class Controllable {
 public:
  virtual ~Controllable() = default;
  // kUnsupported for a message that is not for this kind of device.
  virtual Status HandleControl(const ControlRequest& request) = 0;
  // As HandleControl(), for a device that also answers questions.
  virtual Status HandleQuery(const ControlRequest& request, ControlReply& /*reply*/) {
    return HandleControl(request);
  }
};

}  // namespace crosvm::devices
