#include "devices/slirp/slirp_port.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "devices/net/net_wire.h"

namespace crosvm::devices::slirp {
namespace {

using net::kHeaderBytes;
using net::kMaxFrameBytes;

// Buffers kept for further frames.
constexpr size_t kMaxSpare = 64;
// Offsets in virtio_net_hdr_v1.
constexpr size_t kFlags = 0;
constexpr size_t kGsoType = 1;

// Copies `bytes` on to where the last copy ended.
class Scatter {
 public:
  Scatter(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill)
      : buffers_(buffers), spill_(spill) {}

  void Write(std::span<const uint8_t> bytes) {
    while (!bytes.empty() && next_ < buffers_.size()) {
      const size_t copied = buffers_[next_].Sub(offset_).CopyFrom(bytes);
      bytes = bytes.subspan(copied);
      offset_ += copied;
      if (offset_ == buffers_[next_].size()) {
        ++next_;
        offset_ = 0;
      }
    }
    const size_t rest = std::min(bytes.size(), spill_.size());
    std::copy_n(bytes.begin(), rest, spill_.begin());
    spill_ = spill_.subspan(rest);
  }

 private:
  std::span<const memory::GuestSlice> buffers_;
  std::span<uint8_t> spill_;
  size_t next_ = 0;
  size_t offset_ = 0;
};

}  // namespace

SlirpPort::SlirpPort(event::EventLoop& loop, PortOptions options)
    : loop_(loop),
      filter_(std::move(options.filter)),
      relay_(loop, filter_, std::move(options.resolvers),
             [this](std::vector<uint8_t> frame) { Queue(std::move(frame)); }),
      frame_(kMaxFrameBytes),
      self_(std::make_shared<SlirpPort*>(this)) {
}

Result<std::unique_ptr<SlirpPort>> SlirpPort::Create(event::EventLoop& loop, PortOptions options) {
  const std::vector<config::HostForward> forwards = std::move(options.forwards);
  std::unique_ptr<SlirpPort> self(new SlirpPort(loop, std::move(options)));
  self->stack_ = TRY(Stack::Create(
      loop, [raw = self.get()](std::span<const uint8_t> frame) { raw->Deliver(frame); },
      [raw = self.get()] { raw->Flush(); }));
  for (const config::HostForward& forward : forwards) TRY(self->AddForward(forward));
  return self;
}

Status SlirpPort::AddForward(const config::HostForward& forward) {
  TRY(stack_->AddForward(forward));
  forwards_.push_back(forward);
  has_udp_forwards_ = has_udp_forwards_ || forward.udp;
  return {};
}

Status SlirpPort::RemoveForward(const config::HostForward& forward) {
  const auto same = [&](const config::HostForward& other) {
    return other.udp == forward.udp && other.host == forward.host &&
           other.host_port == forward.host_port;
  };
  const auto found = std::find_if(forwards_.begin(), forwards_.end(), same);
  if (found == forwards_.end()) {
    return Fail(ErrorKind::kNotFound, "there is no forward of {} {}:{}",
                forward.udp ? "udp" : "tcp", forward.host.ToString(), forward.host_port);
  }
  TRY(stack_->RemoveForward(*found));
  forwards_.erase(found);
  return {};
}

Status SlirpPort::ChangeForward(bool add, std::string_view text) {
  const config::HostForward forward = TRY(config::HostForward::Parse(text));
  constexpr size_t kMostForwards = 64;
  if (!add) return RemoveForward(forward);
  if (forwards_.size() >= kMostForwards)
    return Fail(ErrorKind::kInvalidArgument, "there are {} forwards already", forwards_.size());
  return AddForward(forward);
}

std::vector<std::string> SlirpPort::Forwards() const {
  std::vector<std::string> texts;
  texts.reserve(forwards_.size());
  for (const config::HostForward& forward : forwards_) texts.push_back(forward.ToString());
  return texts;
}

Status SlirpPort::Start(event::EventLoop&, std::function<void()> readable) {
  readable_ = std::move(readable);
  return {};
}

void SlirpPort::SetReceiving(bool on) {
  receiving_ = on;
  if (on && !queue_.empty()) ScheduleReadable();
}

Status SlirpPort::SetOffloads(uint64_t guest_offloads) {
  checksums_trusted_ = (guest_offloads & virtio::FeatureBit(VIRTIO_NET_F_GUEST_CSUM)) != 0;
  return {};
}

bool SlirpPort::Send(std::span<const memory::GuestSlice> slices) {
  size_t length = 0;
  for (const memory::GuestSlice& slice : slices)
    length += slice.CopyTo(std::span(frame_).subspan(length));
  // No offload for transmission was offered: the guest finishes its frames itself.
  if (length < kHeaderBytes || frame_[kGsoType] != VIRTIO_NET_HDR_GSO_NONE ||
      (frame_[kFlags] & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
    ++counters_.unparsed;
    return false;
  }
  const std::span<const uint8_t> frame =
      std::span(frame_).subspan(kHeaderBytes, length - kHeaderBytes);
  const std::optional<Packet> packet = ParseFrame(frame);
  if (!packet) {
    ++counters_.unparsed;
    return false;
  }
  switch (filter_.Judge(*packet, loop_.Now())) {
    case Verdict::kPass:
      stack_->Input(frame);
      return true;
    case Verdict::kDns:
      relay_.Ask(*packet);
      return true;
    case Verdict::kRefuse:
      ++counters_.refused;
      Queue(MakeProhibited(*packet));
      return false;
    case Verdict::kDrop:
      break;
  }
  ++counters_.refused;
  return false;
}

void SlirpPort::Deliver(std::span<const uint8_t> frame) {
  if (has_udp_forwards_) {
    const std::optional<Packet> packet = ParseFrame(frame);
    if (packet) filter_.NoteDatagram(*packet, loop_.Now());
  }
  std::vector<uint8_t> copy;
  if (!spare_.empty()) {
    copy = std::move(spare_.back());
    spare_.pop_back();
  }
  copy.assign(frame.begin(), frame.end());
  Queue(std::move(copy));
}

void SlirpPort::Queue(std::vector<uint8_t> frame) {
  if (frame.size() + kHeaderBytes > kMaxFrameBytes || queue_.size() >= kMaxQueuedFrames ||
      queued_bytes_ + frame.size() > kMaxQueuedBytes) {
    ++counters_.dropped;
    return;
  }
  queued_bytes_ += frame.size();
  queue_.push_back(std::move(frame));
  if (queued_bytes_ > kMaxQueuedBytes / 2 || queue_.size() > kMaxQueuedFrames / 2)
    stack_->SetReading(false);
  if (receiving_) ScheduleReadable();
}

void SlirpPort::Flush() {
  if (!readable_ || !receiving_ || queue_.empty()) return;
  readable_();
  if (receiving_ && !queue_.empty()) ScheduleReadable();
}

void SlirpPort::ScheduleReadable() {
  if (!readable_ || std::exchange(readable_scheduled_, true)) return;
  loop_.Post([weak = std::weak_ptr(self_)] {
    const std::shared_ptr<SlirpPort*> self = weak.lock();
    if (!self) return;
    (*self)->readable_scheduled_ = false;
    (*self)->Flush();
  });
}

int64_t SlirpPort::Receive(std::span<const memory::GuestSlice> buffers, std::span<uint8_t> spill) {
  if (queue_.empty()) return 0;
  std::vector<uint8_t> frame = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= frame.size();
  // num_buffers is the caller's.
  std::array<uint8_t, kHeaderBytes> header{};
  if (checksums_trusted_) header[kFlags] = VIRTIO_NET_HDR_F_DATA_VALID;
  Scatter scatter(buffers, spill);
  scatter.Write(header);
  scatter.Write(frame);
  const int64_t length = static_cast<int64_t>(header.size() + frame.size());
  if (spare_.size() < kMaxSpare) spare_.push_back(std::move(frame));
  if (queued_bytes_ < kMaxQueuedBytes / 4 && queue_.size() < kMaxQueuedFrames / 4)
    stack_->SetReading(true);
  return length;
}

}  // namespace crosvm::devices::slirp
