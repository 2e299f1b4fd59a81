// Frames of the guest, taken apart strictly: what is not wholly understood is nothing, so that the
// filter and libslirp cannot understand one frame in two ways. Pure; in the slirp process.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "config/net_user.h"
#include "devices/net/rx_filter.h"

namespace crosvm::devices::slirp {

using config::IpAddress;
using net::Mac;

enum class Protocol : uint8_t {
  kArp,
  kTcp,
  kUdp,
  kEcho,       // an echo request of ICMP or ICMPv6
  kNeighbour,  // ICMPv6: who is where on the link, and router solicitations (RFC 4861)
};

struct Packet {
  Mac source_mac{};
  Mac destination_mac{};
  Protocol protocol = Protocol::kArp;
  IpAddress source;
  IpAddress destination;
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  bool opens = false;                // TCP: a segment that opens a connection (SYN, no ACK)
  std::span<const uint8_t> network;  // from the IP header to the end of the IP packet
  std::span<const uint8_t> payload;  // of UDP
};

// Nothing for: other protocols than ARP, IPv4 and IPv6 and of these other than TCP, UDP and the
// messages above; IPv4 options; fragments (their ports may lie in another frame); IPv6 extension
// headers; lengths that disagree. Spans point into `frame`. Checksums are not looked at: libslirp
// drops what has wrong ones.
std::optional<Packet> ParseFrame(std::span<const uint8_t> frame);

// The frames that we make ourselves.
// A datagram in answer to `request`: addresses and ports the other way round.
std::vector<uint8_t> MakeUdpReply(const Packet& request, std::span<const uint8_t> payload);
// "Communication administratively prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1), which ends a
// connect() at once.
std::vector<uint8_t> MakeProhibited(const Packet& refused);

}  // namespace crosvm::devices::slirp
