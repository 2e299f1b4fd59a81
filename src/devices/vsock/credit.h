// Flow control of one stream (virtio 1.2, 5.10.6.3): how many bytes each side may have under way.
// All counters wrap at 2^32. Pure.
#pragma once

#include <cstdint>

namespace crosvm::devices::vsock {

class Credit {
 public:
  // `window`: bytes of the guest's that we hold at most.
  explicit Credit(uint32_t window) : window_(window) {}

  // From the guest to us. False when the guest sends more than it was allowed.
  [[nodiscard]] bool TakeIn(uint32_t bytes);
  // So many of the bytes taken in have left our buffers.
  void Forward(uint32_t bytes) { forwarded_ += bytes; }
  // Whether the guest should hear of it before it has to stop.
  bool news_due() const { return forwarded_ - told_ >= window_ / 4; }
  // What a packet to the guest says; it is told by that.
  struct Said {
    uint32_t buf_alloc = 0;
    uint32_t fwd_cnt = 0;
  };
  Said Tell();

  // From us to the guest. TRUST: both are the guest's word; a lie gives it fewer bytes or more than
  // it can hold, which is its own affair.
  void Hear(uint32_t buf_alloc, uint32_t fwd_cnt);
  // Bytes that the guest takes now.
  uint32_t peer_free() const;
  void Sent(uint32_t bytes) { sent_ += bytes; }

 private:
  const uint32_t window_;
  uint32_t taken_ = 0;
  uint32_t forwarded_ = 0;
  uint32_t told_ = 0;
  uint32_t sent_ = 0;
  uint32_t peer_window_ = 0;
  uint32_t peer_forwarded_ = 0;
};

}  // namespace crosvm::devices::vsock
