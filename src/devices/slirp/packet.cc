#include "devices/slirp/packet.h"

#include <algorithm>

namespace crosvm::devices::slirp {
namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kTcpBytes = 20;
constexpr size_t kUdpBytes = 8;
constexpr size_t kIcmpBytes = 8;
constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeArp = 0x0806;
constexpr uint16_t kTypeIpv6 = 0x86dd;
constexpr uint8_t kIcmp = 1;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint8_t kIcmpv6 = 58;

using Bytes = std::span<const uint8_t>;

uint16_t Get16(Bytes bytes, size_t at) {
  return static_cast<uint16_t>((bytes[at] << 8) | bytes[at + 1]);
}

void Put16(std::vector<uint8_t>& bytes, size_t at, size_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value & 0xff);
}

bool ParseTcp(Bytes segment, Packet& packet) {
  if (segment.size() < kTcpBytes) return false;
  const size_t header = size_t{static_cast<uint8_t>(segment[12] >> 4)} * 4;
  if (header < kTcpBytes || header > segment.size()) return false;
  constexpr uint8_t kSyn = 0x02;
  constexpr uint8_t kAck = 0x10;
  packet.protocol = Protocol::kTcp;
  packet.source_port = Get16(segment, 0);
  packet.destination_port = Get16(segment, 2);
  packet.opens = (segment[13] & (kSyn | kAck)) == kSyn;
  return true;
}

bool ParseUdp(Bytes datagram, Packet& packet) {
  if (datagram.size() < kUdpBytes || Get16(datagram, 4) != datagram.size()) return false;
  packet.protocol = Protocol::kUdp;
  packet.source_port = Get16(datagram, 0);
  packet.destination_port = Get16(datagram, 2);
  packet.payload = datagram.subspan(kUdpBytes);
  return true;
}

bool ParseIcmp(Bytes message, Packet& packet) {
  constexpr uint8_t kEchoRequest = 8;
  if (message.size() < kIcmpBytes || message[0] != kEchoRequest || message[1] != 0) return false;
  packet.protocol = Protocol::kEcho;
  return true;
}

bool ParseIcmpv6(Bytes message, Packet& packet) {
  constexpr uint8_t kEchoRequest = 128;
  constexpr uint8_t kRouterSolicitation = 133;
  constexpr uint8_t kNeighbourSolicitation = 135;
  constexpr uint8_t kNeighbourAdvertisement = 136;
  if (message.size() < kIcmpBytes || message[1] != 0) return false;
  switch (message[0]) {
    case kEchoRequest:
      packet.protocol = Protocol::kEcho;
      return true;
    case kNeighbourSolicitation:
    case kNeighbourAdvertisement:
      // With the address that is asked for.
      if (message.size() < kIcmpBytes + 16) return false;
      packet.protocol = Protocol::kNeighbour;
      return true;
    case kRouterSolicitation:
      packet.protocol = Protocol::kNeighbour;
      return true;
    default:
      return false;
  }
}

bool ParseIpv4(Bytes bytes, Packet& packet) {
  if (bytes.size() < kIpv4Bytes || bytes[0] != 0x45) return false;
  const size_t length = Get16(bytes, 2);
  if (length < kIpv4Bytes || length > bytes.size()) return false;
  constexpr uint16_t kDoNotFragment = 0x4000;
  if ((Get16(bytes, 6) & ~kDoNotFragment) != 0) return false;
  packet.network = bytes.first(length);
  std::copy_n(bytes.begin() + 12, 4, packet.source.bytes.begin());
  std::copy_n(bytes.begin() + 16, 4, packet.destination.bytes.begin());
  const Bytes body = packet.network.subspan(kIpv4Bytes);
  switch (bytes[9]) {
    case kTcp:
      return ParseTcp(body, packet);
    case kUdp:
      return ParseUdp(body, packet);
    case kIcmp:
      return ParseIcmp(body, packet);
    default:
      return false;
  }
}

bool ParseIpv6(Bytes bytes, Packet& packet) {
  if (bytes.size() < kIpv6Bytes || (bytes[0] >> 4) != 6) return false;
  const size_t length = kIpv6Bytes + Get16(bytes, 4);
  if (length > bytes.size()) return false;
  packet.network = bytes.first(length);
  packet.source.v6 = packet.destination.v6 = true;
  std::copy_n(bytes.begin() + 8, 16, packet.source.bytes.begin());
  std::copy_n(bytes.begin() + 24, 16, packet.destination.bytes.begin());
  const Bytes body = packet.network.subspan(kIpv6Bytes);
  switch (bytes[6]) {
    case kTcp:
      return ParseTcp(body, packet);
    case kUdp:
      return ParseUdp(body, packet);
    case kIcmpv6:
      return ParseIcmpv6(body, packet);
    default:
      return false;
  }
}

bool ParseArp(Bytes bytes) {
  // Ethernet and IPv4, request or reply (RFC 826).
  constexpr std::array<uint8_t, 6> kStart = {0, 1, 0x08, 0x00, 6, 4};
  return bytes.size() >= 28 && std::equal(kStart.begin(), kStart.end(), bytes.begin()) &&
         (Get16(bytes, 6) == 1 || Get16(bytes, 6) == 2);
}

// The Internet checksum (RFC 1071), unfolded, so that parts can be added.
uint64_t Sum(Bytes bytes, uint64_t sum = 0) {
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += Get16(bytes, i);
  if (bytes.size() % 2 != 0) sum += static_cast<uint64_t>(bytes.back()) << 8;
  return sum;
}

uint16_t Fold(uint64_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Bytes AddressBytes(const IpAddress& address) {
  return Bytes(address.bytes).first(address.v6 ? 16 : 4);
}

// Ethernet and IP headers of an answer to `request` with room for `body` bytes behind; returns the
// offset of the body.
size_t StartReply(const Packet& request, uint8_t protocol, size_t body,
                  std::vector<uint8_t>& frame) {
  const bool v6 = request.source.v6;
  const size_t ip = v6 ? kIpv6Bytes : kIpv4Bytes;
  frame.assign(kEthernetBytes + ip + body, 0);
  std::copy(request.source_mac.begin(), request.source_mac.end(), frame.begin());
  std::copy(request.destination_mac.begin(), request.destination_mac.end(), frame.begin() + 6);
  Put16(frame, 12, v6 ? kTypeIpv6 : kTypeIpv4);
  constexpr uint8_t kHops = 64;
  const size_t at = kEthernetBytes;
  const Bytes source = AddressBytes(request.destination);
  const Bytes destination = AddressBytes(request.source);
  if (v6) {
    frame[at] = 0x60;
    Put16(frame, at + 4, body);
    frame[at + 6] = protocol;
    frame[at + 7] = kHops;
    std::copy(source.begin(), source.end(), frame.begin() + at + 8);
    std::copy(destination.begin(), destination.end(), frame.begin() + at + 24);
  } else {
    frame[at] = 0x45;
    Put16(frame, at + 2, ip + body);
    frame[at + 8] = kHops;
    frame[at + 9] = protocol;
    std::copy(source.begin(), source.end(), frame.begin() + at + 12);
    std::copy(destination.begin(), destination.end(), frame.begin() + at + 16);
    Put16(frame, at + 10, Fold(Sum(Bytes(frame).subspan(at, ip))));
  }
  return at + ip;
}

// Of UDP and ICMPv6: over the addresses, the length and the protocol too (RFC 8200, 8.1).
uint16_t SumWithAddresses(const Packet& request, uint8_t protocol, Bytes body) {
  uint64_t sum = Sum(AddressBytes(request.source), Sum(AddressBytes(request.destination)));
  sum += protocol + body.size();
  return Fold(Sum(body, sum));
}

}  // namespace

std::optional<Packet> ParseFrame(std::span<const uint8_t> frame) {
  if (frame.size() < kEthernetBytes) return std::nullopt;
  Packet packet;
  std::copy_n(frame.begin(), 6, packet.destination_mac.begin());
  std::copy_n(frame.begin() + 6, 6, packet.source_mac.begin());
  const Bytes rest = frame.subspan(kEthernetBytes);
  bool good = false;
  switch (Get16(frame, 12)) {
    case kTypeArp:
      good = ParseArp(rest);
      break;
    case kTypeIpv4:
      good = ParseIpv4(rest, packet);
      break;
    case kTypeIpv6:
      good = ParseIpv6(rest, packet);
      break;
    default:
      break;
  }
  if (!good) return std::nullopt;
  return packet;
}

std::vector<uint8_t> MakeUdpReply(const Packet& request, std::span<const uint8_t> payload) {
  std::vector<uint8_t> frame;
  const size_t length = kUdpBytes + payload.size();
  const size_t at = StartReply(request, kUdp, length, frame);
  Put16(frame, at, request.destination_port);
  Put16(frame, at + 2, request.source_port);
  Put16(frame, at + 4, length);
  std::copy(payload.begin(), payload.end(), frame.begin() + static_cast<ptrdiff_t>(at + kUdpBytes));
  const uint16_t sum = SumWithAddresses(request, kUdp, Bytes(frame).subspan(at));
  // A sum of nothing means that there is none (RFC 768).
  Put16(frame, at + 6, sum == 0 ? 0xffff : sum);
  return frame;
}

std::vector<uint8_t> MakeProhibited(const Packet& refused) {
  const bool v6 = refused.source.v6;
  // As much of the packet as names the connection.
  constexpr size_t kQuoted = kIpv6Bytes + kTcpBytes;
  const Bytes quoted = refused.network.first(std::min(refused.network.size(), kQuoted));
  std::vector<uint8_t> frame;
  const size_t at = StartReply(refused, v6 ? kIcmpv6 : kIcmp, kIcmpBytes + quoted.size(), frame);
  frame[at] = v6 ? 1 : 3;       // destination unreachable
  frame[at + 1] = v6 ? 1 : 13;  // prohibited
  std::copy(quoted.begin(), quoted.end(), frame.begin() + static_cast<ptrdiff_t>(at + kIcmpBytes));
  const Bytes body = Bytes(frame).subspan(at);
  Put16(frame, at + 2, v6 ? SumWithAddresses(refused, kIcmpv6, body) : Fold(Sum(body)));
  return frame;
}

}  // namespace crosvm::devices::slirp
