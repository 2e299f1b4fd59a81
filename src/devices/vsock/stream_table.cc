#include "devices/vsock/stream_table.h"

#include <limits.h>

#include <algorithm>

#include "base/log.h"

namespace crosvm::devices::vsock {
namespace {

using State = Stream::State;

// Host ports of streams that begin on the host: far from those that anybody listens on.
constexpr uint32_t kFirstHostPort = 1u << 30;
// The guest's buffers that one read from a socket fills, at most; Linux' have 4 KiB each.
constexpr size_t kMaxParts = 16;
constexpr std::chrono::milliseconds kConnectRetry{5};
constexpr std::chrono::seconds kSweep{1};
// Linux gives up connecting after 2 seconds, and waiting for a reset after 8.
constexpr std::chrono::seconds kConnectTimeout{2};
constexpr std::chrono::seconds kAnswerTimeout{10};
constexpr std::chrono::seconds kLingerTimeout{60};

// Has room for a header and more.
bool Usable(const virtio::Chain& chain) {
  return chain.writable_bytes() > sizeof(PacketHeader);
}

}  // namespace

StreamTable::StreamTable(event::EventLoop& loop, uint64_t guest_cid, Connector& connector,
                         std::function<void()> output)
    : loop_(loop),
      guest_cid_(guest_cid),
      connector_(connector),
      output_(std::move(output)),
      next_port_(kFirstHostPort) {
}

StreamTable::~StreamTable() = default;

void StreamTable::TakePacket(const PacketHeader& header,
                             std::span<const memory::GuestSlice> payload, bool complete) {
  const uint16_t op = header.op;
  if (header.src_cid.value() != guest_cid_) {
    ++counters_.malformed;
    return;
  }
  if (header.dst_cid.value() != kHostCid || header.type.value() != VIRTIO_VSOCK_TYPE_STREAM) {
    ++counters_.malformed;
    if (op != VIRTIO_VSOCK_OP_RST) AnswerReset(header);
    return;
  }
  const Stream::Ports ports{.host = header.dst_port, .guest = header.src_port};
  const auto found = streams_.find(ports.key());
  const Handle stream = found == streams_.end() ? nullptr : found->second;
  if (op == VIRTIO_VSOCK_OP_RST) {
    if (stream) Retire(stream);
    return;
  }
  if (!complete) ++counters_.malformed;
  if (op == VIRTIO_VSOCK_OP_REQUEST && complete && !stream) return Open(header);
  if (!stream) return AnswerReset(header);
  // A second request for the same ports: the guest has lost track of the first.
  if (!complete || op == VIRTIO_VSOCK_OP_REQUEST) return Abort(stream);
  stream->credit().Hear(header.buf_alloc, header.fwd_cnt);
  if (stream->state() == State::kRequested && op == VIRTIO_VSOCK_OP_RESPONSE) {
    stream->deadline = {};
    stream->SetState(State::kEstablished);
    if (!stream->Greet()) return Abort(stream);
    return Settle(stream);
  }
  if (stream->state() != State::kEstablished) return Abort(stream);
  Established(stream, header, payload);
}

void StreamTable::Established(const Handle& stream, const PacketHeader& header,
                              std::span<const memory::GuestSlice> payload) {
  switch (header.op) {
    case VIRTIO_VSOCK_OP_RW:
      if (stream->TakeIn(payload, header.len) == Stream::Verdict::kReset) {
        ++counters_.malformed;
        return Abort(stream);
      }
      break;
    case VIRTIO_VSOCK_OP_SHUTDOWN:
      stream->HearShutdown(header.flags);
      break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
      break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
      stream->Note(Stream::kCredit);
      break;
    default:
      ++counters_.malformed;
      return Abort(stream);
  }
  Settle(stream);
}

void StreamTable::Open(const PacketHeader& header) {
  if (size() >= kMaxStreams) {
    ++counters_.refused;
    LOG_WARN_EVERY(std::chrono::seconds(10), "{} streams are open; another one is refused", size());
    return AnswerReset(header);
  }
  const Stream::Ports ports{.host = header.dst_port, .guest = header.src_port};
  const auto stream = std::make_shared<Stream>(loop_, ports, State::kConnecting);
  stream->credit().Hear(header.buf_alloc, header.fwd_cnt);
  streams_.emplace(ports.key(), stream);
  SetDeadline(*stream, kConnectTimeout);
  TryConnect(stream);
}

void StreamTable::TryConnect(const Handle& stream) {
  Result<sys::UniqueFd> socket = connector_.Connect(stream->ports().host);
  if (!socket.has_value() && socket.error().kind() == ErrorKind::kBusy) {
    if (std::exchange(retrying_, true)) return;
    retry_ = loop_.AddTimer(kConnectRetry, [this] { OnRetry(); });
    return;
  }
  const Status attached = socket.has_value() ? Attach(stream, std::move(*socket))
                                             : Status(std::unexpected(socket.error().Clone()));
  if (!attached.has_value()) {
    ++counters_.refused;
    LOG_DEBUG("{}", attached.error().ToString());
    return Abort(stream);
  }
  ++counters_.opened;
  stream->deadline = {};
  stream->SetState(State::kEstablished);
  stream->Note(Stream::kResponse);
  Settle(stream);
}

void StreamTable::OnRetry() {
  retrying_ = false;
  std::vector<Handle> waiting;
  for (const auto& [key, stream] : streams_) {
    if (stream->state() == State::kConnecting) waiting.push_back(stream);
  }
  for (const Handle& stream : waiting) TryConnect(stream);
  if (HasOutput()) output_();
}

Status StreamTable::Attach(const Handle& stream, sys::UniqueFd socket) {
  return stream->Attach(std::move(socket),
                        [this, weak = std::weak_ptr(stream)](event::Ready ready) {
                          if (const Handle locked = weak.lock()) OnReady(locked, ready);
                        });
}

void StreamTable::ConnectToGuest(uint32_t port, sys::UniqueFd socket) {
  if (size() >= kMaxStreams) {
    ++counters_.refused;
    return;
  }
  const Stream::Ports ports{.host = NextHostPort(port), .guest = port};
  const auto stream = std::make_shared<Stream>(loop_, ports, State::kRequested);
  const Status attached = Attach(stream, std::move(socket));
  if (!attached.has_value()) {
    LOG_WARN_EVERY(std::chrono::seconds(10), "{}", attached.error().ToString());
    return;
  }
  ++counters_.opened;
  streams_.emplace(ports.key(), stream);
  SetDeadline(*stream, kAnswerTimeout);
  stream->Note(Stream::kRequest);
  Settle(stream);
  output_();
}

uint32_t StreamTable::NextHostPort(uint32_t guest_port) {
  // There are fewer streams than ports to try.
  while (true) {
    const uint32_t port = next_port_++;
    if (next_port_ == kAnyPort) next_port_ = kFirstHostPort;
    if (!streams_.contains(Stream::Ports{.host = port, .guest = guest_port}.key())) return port;
  }
}

void StreamTable::OnReady(const Handle& stream, event::Ready ready) {
  if (stream->has_waiting() && (ready.writable || ready.hangup)) stream->Flush();
  if ((ready.readable || ready.hangup) && stream->wants_to_read()) stream->set_readable(true);
  if (stream->state() == State::kLingering) {
    if (stream->has_waiting()) return stream->UpdateInterest(false);
    stream->Close();
    std::erase(lingering_, stream);
    return;
  }
  if (stream->finished()) return Settle(stream), output_();
  // Before the watch is touched: with luck everything is read at once, and it stays as it is.
  if (stream->HasOutput()) {
    Enqueue(*stream);
    output_();
  }
  if (stream->state() != State::kClosed) Settle(stream);
}

void StreamTable::Settle(const Handle& stream) {
  if (stream->finished()) return Abort(stream);
  if (stream->told_all() && stream->deadline == event::Clock::time_point{}) {
    SetDeadline(*stream, kAnswerTimeout);
  }
  if (stream->HasOutput()) {
    Enqueue(*stream);
  } else {
    // It may have been queued: the guest can shrink its window, or shut down.
    Dequeue(*stream);
  }
  stream->UpdateInterest(!stream->queued);
}

void StreamTable::Enqueue(Stream& stream) {
  if (std::exchange(stream.queued, true)) return;
  stream.place = ready_.insert(ready_.end(), &stream);
}

void StreamTable::Dequeue(Stream& stream) {
  if (std::exchange(stream.queued, false)) ready_.erase(stream.place);
}

void StreamTable::Abort(const Handle& stream) {
  PacketHeader to;
  to.dst_cid = kHostCid;
  to.src_port = stream->ports().guest;
  to.dst_port = stream->ports().host;
  to.type = VIRTIO_VSOCK_TYPE_STREAM;
  AnswerReset(to);
  Retire(stream);
}

void StreamTable::Retire(Handle stream) {
  Dequeue(*stream);
  streams_.erase(stream->ports().key());
  if (!stream->has_waiting()) return stream->Close();
  stream->SetState(State::kLingering);
  stream->UpdateInterest(false);
  SetDeadline(*stream, kLingerTimeout);
  lingering_.push_back(std::move(stream));
}

void StreamTable::AnswerReset(const PacketHeader& to) {
  PacketHeader answer;
  answer.src_cid = to.dst_cid;
  answer.dst_cid = guest_cid_;
  answer.src_port = to.dst_port;
  answer.dst_port = to.src_port;
  answer.type = to.type;
  answer.op = VIRTIO_VSOCK_OP_RST;
  resets_.push_back(answer);
}

void StreamTable::SetDeadline(Stream& stream, event::Clock::duration delay) {
  stream.deadline = loop_.Now() + delay;
  if (std::exchange(sweeping_, true)) return;
  sweep_ = loop_.AddTimer(kSweep, [this] { OnSweep(); });
}

void StreamTable::OnSweep() {
  sweeping_ = false;
  const event::Clock::time_point now = loop_.Now();
  const event::Clock::time_point none{};
  std::vector<Handle> late;
  bool more = false;
  for (const auto& [key, stream] : streams_) {
    if (stream->deadline == none) continue;
    if (stream->deadline <= now) {
      late.push_back(stream);
    } else {
      more = true;
    }
  }
  for (const Handle& stream : late) Abort(stream);
  std::erase_if(lingering_, [&](const Handle& stream) {
    if (stream->deadline > now) return false;
    stream->Close();
    return true;
  });
  more = more || !lingering_.empty();
  if (more && !std::exchange(sweeping_, true)) {
    sweep_ = loop_.AddTimer(kSweep, [this] { OnSweep(); });
  }
  if (HasOutput()) output_();
}

void StreamTable::Reset() {
  while (!streams_.empty()) Retire(streams_.begin()->second);
  resets_.clear();
}

// --- to the guest ---

std::optional<virtio::Chain> StreamTable::PopUsable(virtio::Queue& receive) {
  while (true) {
    std::optional<virtio::Chain> chain = receive.Pop();
    if (!chain || Usable(*chain)) return chain;
    ++counters_.malformed;
    receive.Complete(std::move(*chain), 0);
  }
}

PacketHeader StreamTable::MakeHeader(Stream& stream, uint16_t op) const {
  const Credit::Said said = stream.credit().Tell();
  PacketHeader header;
  header.src_cid = kHostCid;
  header.dst_cid = guest_cid_;
  header.src_port = stream.ports().host;
  header.dst_port = stream.ports().guest;
  header.type = VIRTIO_VSOCK_TYPE_STREAM;
  header.op = op;
  header.buf_alloc = said.buf_alloc;
  header.fwd_cnt = said.fwd_cnt;
  return header;
}

namespace {

void Put(virtio::Queue& receive, virtio::Chain chain, const PacketHeader& header) {
  virtio::SliceWriter writer(chain.writable());
  (void)writer.Write(header);
  receive.Complete(std::move(chain), sizeof(header));
}

uint16_t OpOf(uint8_t notice) {
  switch (notice) {
    case Stream::kRequest:
      return VIRTIO_VSOCK_OP_REQUEST;
    case Stream::kResponse:
      return VIRTIO_VSOCK_OP_RESPONSE;
    default:
      return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
  }
}

}  // namespace

bool StreamTable::Produce(virtio::Queue& receive) {
  if (!HasOutput()) return false;
  std::optional<virtio::Chain> chain = PopUsable(receive);
  if (!chain) return false;
  if (!resets_.empty()) {
    Put(receive, std::move(*chain), resets_.front());
    resets_.pop_front();
    return true;
  }
  Stream& stream = *ready_.front();
  ready_.splice(ready_.end(), ready_, ready_.begin());
  (void)ProduceFrom(stream, receive, std::move(*chain));
  const auto found = streams_.find(stream.ports().key());
  if (found != streams_.end()) Settle(Handle(found->second));
  return true;
}

bool StreamTable::ProduceFrom(Stream& stream, virtio::Queue& receive, virtio::Chain chain) {
  if (const uint8_t notice = stream.TakeNotice(); notice != 0) {
    Put(receive, std::move(chain), MakeHeader(stream, OpOf(notice)));
    return true;
  }
  if (const uint32_t flags = stream.TakeShutdown(); flags != 0) {
    PacketHeader header = MakeHeader(stream, VIRTIO_VSOCK_OP_SHUTDOWN);
    header.flags = flags;
    Put(receive, std::move(chain), header);
    return true;
  }
  return ProduceData(stream, receive, std::move(chain));
}

bool StreamTable::ProduceData(Stream& stream, virtio::Queue& receive, virtio::Chain first) {
  const size_t limit = std::min(stream.credit().peer_free(), kMaxPayload);
  parts_.clear();
  slices_.clear();
  iovecs_.clear();
  size_t room = 0;
  const auto add = [&](virtio::Chain chain) {
    virtio::SliceWriter writer(chain.writable());
    (void)writer.Skip(sizeof(PacketHeader));
    const size_t here = std::min<size_t>(writer.remaining(), limit - room);
    (void)writer.Take(here, slices_);
    room += here;
    parts_.push_back({.chain = std::move(chain), .room = here});
  };
  add(std::move(first));
  while (room < limit && parts_.size() < kMaxParts && slices_.size() < IOV_MAX) {
    std::optional<virtio::Chain> chain = receive.Pop();
    if (!chain) break;
    if (!Usable(*chain)) {
      // Completed when it is the first: those before it may have to be undone.
      receive.Undo(std::move(*chain));
      break;
    }
    add(std::move(*chain));
  }
  // Of more parts than the kernel takes in one call the last stay empty for now.
  for (size_t i = 0; i < std::min<size_t>(slices_.size(), IOV_MAX); ++i) {
    iovecs_.push_back(slices_[i].ToIovec());
  }
  size_t got = stream.ReadInto(iovecs_);
  if (got < room) stream.set_readable(false);
  stream.credit().Sent(static_cast<uint32_t>(got));
  const bool any = got != 0;
  size_t used = 0;
  for (; used < parts_.size() && got != 0; ++used) {
    Part& part = parts_[used];
    const size_t bytes = std::min(got, part.room);
    got -= bytes;
    PacketHeader header = MakeHeader(stream, VIRTIO_VSOCK_OP_RW);
    header.len = static_cast<uint32_t>(bytes);
    virtio::SliceWriter writer(part.chain.writable());
    (void)writer.Write(header);
    receive.Complete(std::move(part.chain), static_cast<uint32_t>(sizeof(header) + bytes));
  }
  while (parts_.size() > used) {
    receive.Undo(std::move(parts_.back().chain));
    parts_.pop_back();
  }
  parts_.clear();
  return any;
}

}  // namespace crosvm::devices::vsock
