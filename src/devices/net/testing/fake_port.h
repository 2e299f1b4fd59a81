// The host's side of a pair in tests: a list of frames to receive and a list of those sent.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "devices/net/packet_port.h"

namespace crosvm::devices::net::testing {

using Frame = std::vector<uint8_t>;

// What a test sees of a port that the device owns. Outlives the port.
struct FakeWire {
  std::deque<Frame> to_guest;
  std::vector<Frame> from_guest;
  bool receiving = false;
  bool attached = false;
  uint64_t offloads = 0;
  bool refuse = false;  // to send
  bool refuse_offloads = false;
  int error = 0;        // for Receive: a positive errno
  size_t receives = 0;  // calls of Receive
  std::function<void()> readable;

  // Lets the device take what waits, as a watch would.
  void Poll() {
    if (receiving) readable();
  }
};

class FakePort final : public PacketPort {
 public:
  explicit FakePort(FakeWire& wire) : wire_(wire) {}

  Status Start(event::EventLoop&, std::function<void()> readable) override {
    wire_.readable = std::move(readable);
    return {};
  }
  void SetReceiving(bool on) override { wire_.receiving = on; }
  bool Send(std::span<const memory::GuestSlice> frame) override {
    Frame bytes;
    for (const memory::GuestSlice& slice : frame) {
      Frame part(slice.size());
      slice.CopyTo(part);
      bytes.insert(bytes.end(), part.begin(), part.end());
    }
    if (wire_.refuse) return false;
    wire_.from_guest.push_back(std::move(bytes));
    return true;
  }
  int64_t Receive(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill) override {
    ++wire_.receives;
    if (wire_.error != 0) return -wire_.error;
    if (wire_.to_guest.empty()) return 0;
    const Frame frame = std::move(wire_.to_guest.front());
    wire_.to_guest.pop_front();
    std::span<const uint8_t> left(frame);
    for (const memory::GuestSlice& slice : buffers) left = left.subspan(slice.CopyFrom(left));
    std::copy_n(left.begin(), std::min(left.size(), spill.size()), spill.begin());
    return static_cast<int64_t>(frame.size());
  }
  Status SetOffloads(uint64_t guest_offloads) override {
    if (wire_.refuse_offloads) return Fail(ErrorKind::kInvalidArgument, "no such offloads");
    wire_.offloads = guest_offloads;
    return {};
  }
  void SetAttached(bool attached) override { wire_.attached = attached; }

 private:
  FakeWire& wire_;
};

}  // namespace crosvm::devices::net::testing
