// One stream between the guest and a socket of the host. Knows its state, its credit and what it
// still has to tell the guest; does not know queues. Lives on the device's loop, owned by the
// StreamTable.
//
// Memory: what the socket does not take at once waits in a ring of kWindow bytes, which the credit
// that the guest was given covers. Nothing is buffered on the way to the guest.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "devices/vsock/credit.h"
#include "devices/vsock/vsock_wire.h"
#include "event/event_loop.h"
#include "memory/guest_slice.h"
#include "sys/fd.h"

namespace crosvm::devices::vsock {

inline constexpr uint32_t kWindow = 256 << 10;

class Stream {
 public:
  enum class State : uint8_t {
    kConnecting,  // the guest asked; the host's listener has no room yet
    kRequested,   // the host asked; the guest has not answered
    kEstablished,
    kLingering,  // of no more interest to the guest; delivers what is in the ring
    kClosed,
  };

  // What a stream has to tell the guest.
  enum Notice : uint8_t {
    kRequest = 1,
    kResponse = 2,
    kCredit = 4,
  };

  struct Ports {
    uint32_t host = 0;
    uint32_t guest = 0;
    uint64_t key() const { return uint64_t{host} << 32 | guest; }
  };

  Stream(event::EventLoop& loop, Ports ports, State state);

  const Ports& ports() const { return ports_; }
  State state() const { return state_; }
  Credit& credit() { return credit_; }

  // Takes the connected socket; `ready` is called when it is readable, writable or hung up.
  Status Attach(sys::UniqueFd socket, std::function<void(event::Ready)> ready);
  void SetState(State state) { state_ = state; }
  // Sends the client of the host's listener its answer; false when that is gone.
  bool Greet();

  // --- from the guest ---

  enum class Verdict : uint8_t { kFine, kReset };
  Verdict TakeIn(std::span<const memory::GuestSlice> payload, uint32_t bytes);
  void HearShutdown(uint32_t flags);
  // Writes what waits; call when the socket is writable.
  void Flush();
  bool has_waiting() const { return waiting_ != 0; }
  // Both directions are shut down from the guest's side and everything is delivered: it awaits an
  // RST.
  bool finished() const { return heard_ == kShutdownBoth && waiting_ == 0; }

  // --- to the guest ---

  // Whether there may be bytes in the socket that the guest can have.
  bool wants_to_read() const;
  // Bytes read into `buffers`, 0 when there is nothing (now or ever again).
  size_t ReadInto(std::span<const iovec> buffers);

  void Note(Notice notice) { notices_ = static_cast<uint8_t>(notices_ | notice); }
  bool HasOutput() const {
    return notices_ != 0 || shutdown_due() != 0 ||
           (readable_ && wants_to_read() && credit_.peer_free() != 0);
  }
  // The notice to send next, which is thereby sent; 0 when there is none.
  uint8_t TakeNotice();
  // Shutdown flags that the guest has not been told; told thereby.
  uint32_t TakeShutdown();
  // Both directions are shut down as far as the guest knows; it owes us an RST.
  bool told_all() const { return told_ == kShutdownBoth; }

  // The socket said that it is readable, and was not found empty since.
  bool readable() const { return readable_; }
  void set_readable(bool readable) { readable_ = readable; }
  // Makes the watch fit the state. `listening`: whether the table wants to hear of readable bytes.
  void UpdateInterest(bool listening);
  // No more callbacks; closes the socket.
  void Close();

  // --- for the table ---
  bool queued = false;
  std::list<Stream*>::iterator place;
  event::Clock::time_point deadline{};  // zero: none

 private:
  uint32_t shutdown_due() const { return shutdown_ & ~told_; }
  void Store(std::span<const memory::GuestSlice> payload, size_t skip);
  void HostIsGone();
  void AfterForward(size_t bytes);

  event::EventLoop& loop_;
  const Ports ports_;
  State state_;
  Credit credit_{kWindow};
  sys::UniqueFd socket_;
  event::Watch watch_;
  event::Interest interest_ = event::Interest::kNone;

  // The ring.
  std::unique_ptr<uint8_t[]> ring_;
  uint32_t head_ = 0;
  uint32_t waiting_ = 0;

  uint8_t notices_ = 0;
  uint32_t heard_ = 0;     // shutdown flags of the guest
  uint32_t shutdown_ = 0;  // shutdown flags of the host
  uint32_t told_ = 0;      // those of them that the guest knows
  bool readable_ = false;
  bool read_ended_ = false;
  bool write_ended_ = false;  // the socket takes no more
  bool half_closed_ = false;  // SHUT_WR was done
};

}  // namespace crosvm::devices::vsock
