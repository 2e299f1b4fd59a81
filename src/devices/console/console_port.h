// One port of a virtio-console: a sink, a source and the two queues between them and the driver.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "chardev/char_sink.h"
#include "chardev/char_source.h"
#include "event/event_loop.h"
#include "virtio/queue.h"

namespace crosvm::devices::console {

// Used on the loop's thread of the sink and the source.
class Port {
 public:
  // `source` may be null: nothing is ever received. `name` is what the guest sees of a multiport
  // device's port.
  Port(event::EventLoop& loop, std::string name, std::unique_ptr<chardev::CharSink> sink,
       std::unique_ptr<chardev::CharSource> source);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  const std::string& name() const { return name_; }

  void StartReceive(virtio::Queue queue);
  virtio::Queue StopReceive();
  void StartTransmit(virtio::Queue queue);
  // Output that the sink does not take now is dropped: a reset does not wait for a stopped
  // terminal.
  virtio::Queue StopTransmit();

  // The driver has notified.
  void OnReceiveKick();
  void OnTransmitKick();

  // One character of a driver that has no queues yet.
  void WriteEmergency(uint8_t character) { sink_->Write({&character, 1}); }

  struct WindowSize {
    uint16_t columns = 0;
    uint16_t rows = 0;
  };
  WindowSize size;  // 0 × 0: not known

 private:
  size_t Consume(std::span<const uint8_t> data);
  void Transmit();
  enum class Progress : uint8_t { kDone, kSinkFull, kTurnOver };
  // Writes out the rest of the chain; takes what it wrote off `budget`.
  Progress WriteOut(const virtio::Chain& chain, uint64_t& budget);

  event::EventLoop& loop_;
  const std::string name_;
  std::unique_ptr<chardev::CharSink> sink_;
  std::unique_ptr<chardev::CharSource> source_;
  std::optional<virtio::Queue> receive_;
  std::optional<virtio::Queue> transmit_;
  std::optional<virtio::Chain> writing_;  // taken, and written out up to written_
  uint64_t written_ = 0;
  event::Timer transmit_again_;
  event::Timer receive_again_;
};

}  // namespace crosvm::devices::console
