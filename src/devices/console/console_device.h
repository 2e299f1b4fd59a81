// virtio-console (virtio 1.2, 5.3) with one or more ports. Lives in the console process, on the
// thread of its loop.
//
// With one port the device has just that port's two queues. With more it offers MULTIPORT and the
// control queues; a driver that does not take MULTIPORT has port 0 only.
#pragma once

#include <linux/virtio_console.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chardev/char_sink.h"
#include "chardev/char_source.h"
#include "devices/console/console_port.h"
#include "devices/module/control.h"
#include "event/event_loop.h"
#include "virtio/device.h"

namespace crosvm::devices::console {

inline constexpr size_t kMaxPorts = 16;

class ConsoleDevice : public virtio::Device, public Controllable {
 public:
  // 1 to kMaxPorts ports, made for the same loop.
  ConsoleDevice(event::EventLoop& loop, std::vector<std::unique_ptr<Port>> ports);
  ~ConsoleDevice() override;

  const virtio::DeviceInfo& info() const override { return info_; }
  void ReadConfig(uint32_t offset, std::span<uint8_t> data) override;
  void WriteConfig(uint32_t offset, std::span<const uint8_t> data) override;
  void Configure(uint64_t features) override;
  Status StartQueue(uint16_t index, virtio::Queue queue) override;
  void StopQueue(uint16_t index, std::function<void(virtio::Queue)> done) override;
  void Reset() override;
  Status HandleControl(const ControlRequest& request) override;

 private:
  // What a queue index stands for (virtio 1.2, 5.3.2).
  struct QueueRole {
    enum class Kind : uint8_t { kReceive, kTransmit, kControlReceive, kControlTransmit };
    Kind kind;
    size_t port;
  };
  static QueueRole RoleOf(uint16_t index);

  void OnKick(uint16_t index);
  void ReceiveControl();
  void HandleControlMessage(const virtio_console_control& message);
  void SendControl(uint32_t port, uint16_t event, uint16_t value, std::string_view text = {});
  void SendResize(uint32_t port);
  void FlushControl();
  void ContinueLater();
  bool multiport() const;

  event::EventLoop& loop_;
  virtio::DeviceInfo info_;
  virtio_console_config config_{};
  uint64_t features_ = 0;
  std::vector<std::unique_ptr<Port>> ports_;
  std::optional<virtio::Queue> control_receive_;   // to the driver
  std::optional<virtio::Queue> control_transmit_;  // from the driver
  std::vector<event::Watch> kicks_;                // by queue index
  std::deque<std::vector<uint8_t>> control_pending_;
  event::Timer control_again_;
};

}  // namespace crosvm::devices::console
