#include "devices/vsock/credit.h"

namespace crosvm::devices::vsock {

bool Credit::TakeIn(uint32_t bytes) {
  const uint32_t held = taken_ - forwarded_;
  if (bytes > window_ - held) return false;
  taken_ += bytes;
  return true;
}

Credit::Said Credit::Tell() {
  told_ = forwarded_;
  return {.buf_alloc = window_, .fwd_cnt = forwarded_};
}

void Credit::Hear(uint32_t buf_alloc, uint32_t fwd_cnt) {
  peer_window_ = buf_alloc;
  peer_forwarded_ = fwd_cnt;
}

uint32_t Credit::peer_free() const {
  // A count ahead of what we sent comes out as more under way than any window.
  const uint32_t under_way = sent_ - peer_forwarded_;
  return under_way >= peer_window_ ? 0 : peer_window_ - under_way;
}

}  // namespace crosvm::devices::vsock
