#include "devices/net/tap_port.h"

#include <sys/uio.h>

#include <cerrno>

#include "base/log.h"
#include "devices/net/net_wire.h"
#include "sys/tap.h"

namespace crosvm::devices::net {
namespace {

using virtio::FeatureBit;

void AppendIovecs(std::span<const memory::GuestSlice> slices, std::vector<iovec>& iovecs) {
  for (const memory::GuestSlice& slice : slices) iovecs.push_back(slice.ToIovec());
}

}  // namespace

unsigned TunOffloads(uint64_t features) {
  unsigned offloads = 0;
  const auto add = [&](unsigned bit, unsigned flag) {
    if ((features & FeatureBit(bit)) != 0) offloads |= flag;
  };
  add(VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM);
  // Segments need checksums done in the guest (virtio 1.2, 5.1.3.1), and the kernel refuses the one
  // without the other.
  if (offloads == 0) return 0;
  add(VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4);
  add(VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6);
  if ((offloads & (TUN_F_TSO4 | TUN_F_TSO6)) != 0) add(VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN);
  add(VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO);
  // The kernel takes these two together or not at all. The driver that wants one of them gets no
  // segments of that kind, which it has to be able to do without.
  constexpr uint64_t kUso = FeatureBit(kFeatureGuestUso4) | FeatureBit(kFeatureGuestUso6);
  if ((features & kUso) == kUso) offloads |= kTunUso4 | kTunUso6;
  return offloads;
}

Status TapPort::Start(event::EventLoop& loop, std::function<void()> readable) {
  watch_ = TRY(loop.AddWatch(queue_, event::Interest::kNone,
                             [readable = std::move(readable)](event::Ready) { readable(); }));
  return {};
}

void TapPort::SetReceiving(bool on) {
  watch_.SetInterest(on ? event::Interest::kRead : event::Interest::kNone);
}

bool TapPort::Send(std::span<const memory::GuestSlice> frame) {
  iovecs_.clear();
  AppendIovecs(frame, iovecs_);
  // The kernel checks the header and the lengths, and refuses what makes no sense.
  const ssize_t sent = sys::RetryEintr(
      [&] { return writev(queue_.get(), iovecs_.data(), static_cast<int>(iovecs_.size())); });
  if (sent >= 0) return true;
  LOG_DEBUG("a frame was dropped: {}", strerrordesc_np(errno));
  return false;
}

int64_t TapPort::Receive(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill) {
  iovecs_.clear();
  AppendIovecs(buffers, iovecs_);
  iovecs_.push_back({.iov_base = spill.data(), .iov_len = spill.size()});
  const ssize_t got = sys::RetryEintr(
      [&] { return readv(queue_.get(), iovecs_.data(), static_cast<int>(iovecs_.size())); });
  if (got >= 0) return got;
  return errno == EAGAIN ? 0 : -errno;
}

Status TapPort::SetOffloads(uint64_t guest_offloads) {
  return sys::SetTapOffloads(queue_, TunOffloads(guest_offloads));
}

void TapPort::SetAttached(bool attached) {
  if (attached == attached_) return;
  const Status set = sys::SetTapQueueAttached(queue_, attached);
  // EINVAL: it is so already, or the interface has one queue only.
  if (!set.has_value() && (attached_ || set.error().sys_errno() != EINVAL)) {
    LOG_WARN("{}", set.error().ToString());
    return;
  }
  attached_ = attached;
}

uint64_t ProbeTapFeatures(sys::BorrowedFd queue) {
  const auto can = [&](unsigned offloads) {
    return sys::SetTapOffloads(queue, offloads).has_value();
  };
  const auto bits = [](std::initializer_list<unsigned> list) {
    uint64_t all = 0;
    for (const unsigned bit : list) all |= FeatureBit(bit);
    return all;
  };
  uint64_t features = 0;
  if (can(TUN_F_CSUM)) {
    features |= bits({VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM});
    if (can(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) {
      features |= bits({VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO4,
                        VIRTIO_NET_F_HOST_TSO6});
    }
    if (can(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) {
      features |= bits({VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_HOST_ECN});
    }
    if (can(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO)) {
      features |= bits({VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_HOST_UFO});
    }
    if (can(TUN_F_CSUM | kTunUso4 | kTunUso6)) {
      features |= bits({kFeatureGuestUso4, kFeatureGuestUso6, kFeatureHostUso});
    }
  }
  if (!can(0)) LOG_DEBUG("the tap's offloads cannot be switched off");
  return features;
}

}  // namespace crosvm::devices::net
