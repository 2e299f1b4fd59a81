// Frames as a guest sends them, for tests.
#pragma once

#include <arpa/inet.h>

#include <array>
#include <string>
#include <vector>

#include "config/net_user.h"

namespace crosvm::devices::slirp::testing {

using Bytes = std::vector<uint8_t>;

inline Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline Bytes Be16(size_t value) {
  return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

inline uint16_t Checksum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

inline constexpr const char* kGuest = "10.0.2.15";
inline constexpr const char* kGuest6 = "fd00::15";

inline Bytes Ethernet(uint16_t type, const Bytes& body) {
  return Bytes{0x52, 0x55, 10, 0, 2, 2, 2, 0, 0, 0, 0, 1} + Be16(type) + body;
}

// An IP packet of either family in a frame.
inline Bytes Ip(uint8_t protocol, const std::string& from, const std::string& to,
                const Bytes& body) {
  const config::IpAddress source = config::IpAddress::Parse(from).value();
  const config::IpAddress destination = config::IpAddress::Parse(to).value();
  const size_t length = source.v6 ? 16 : 4;
  const Bytes addresses = Bytes(source.bytes.begin(), source.bytes.begin() + length) +
                          Bytes(destination.bytes.begin(), destination.bytes.begin() + length);
  if (source.v6) {
    return Ethernet(
        0x86dd, Bytes{0x60, 0, 0, 0} + Be16(body.size()) + Bytes{protocol, 64} + addresses + body);
  }
  Bytes header =
      Bytes{0x45, 0} + Be16(20 + body.size()) + Bytes{0, 1, 0, 0, 64, protocol, 0, 0} + addresses;
  const uint16_t sum = Checksum(header);
  header[10] = static_cast<uint8_t>(sum >> 8);
  header[11] = static_cast<uint8_t>(sum);
  return Ethernet(0x0800, header + body);
}

// With the checksum that belongs to it.
inline Bytes WithSum(uint8_t protocol, const std::string& from, const std::string& to, Bytes body,
                     size_t at) {
  const config::IpAddress source = config::IpAddress::Parse(from).value();
  const config::IpAddress destination = config::IpAddress::Parse(to).value();
  const size_t length = source.v6 ? 16 : 4;
  const uint16_t sum =
      Checksum(Bytes(source.bytes.begin(), source.bytes.begin() + length) +
               Bytes(destination.bytes.begin(), destination.bytes.begin() + length) +
               Be16(protocol) + Be16(body.size()) + body);
  body[at] = static_cast<uint8_t>(sum >> 8);
  body[at + 1] = static_cast<uint8_t>(sum);
  return Ip(protocol, from, to, body);
}

inline constexpr uint8_t kSyn = 2;
inline constexpr uint8_t kRst = 4;
inline constexpr uint8_t kAck = 16;

inline Bytes Tcp(const std::string& from, uint16_t from_port, const std::string& to,
                 uint16_t to_port, uint8_t flags, uint32_t sequence = 1) {
  return WithSum(6, from, to,
                 Be16(from_port) + Be16(to_port) + Be16(sequence >> 16) + Be16(sequence & 0xffff) +
                     Bytes{0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0},
                 16);
}

inline Bytes Udp(const std::string& from, uint16_t from_port, const std::string& to,
                 uint16_t to_port, const Bytes& payload = {'h', 'i'}) {
  return WithSum(17, from, to,
                 Be16(from_port) + Be16(to_port) + Be16(8 + payload.size()) + Bytes{0, 0} + payload,
                 6);
}

inline Bytes Echo(const std::string& from, const std::string& to) {
  if (from.find(':') != std::string::npos)
    return WithSum(58, from, to, {128, 0, 0, 0, 0, 1, 0, 1, 'p', 'i'}, 2);
  Bytes body = {8, 0, 0, 0, 0, 1, 0, 1, 'p', 'i'};
  const uint16_t sum = Checksum(body);
  body[2] = static_cast<uint8_t>(sum >> 8);
  body[3] = static_cast<uint8_t>(sum);
  return Ip(1, from, to, body);
}

inline Bytes ArpRequest(const std::string& from, const std::string& to) {
  const config::IpAddress source = config::IpAddress::Parse(from).value();
  const config::IpAddress destination = config::IpAddress::Parse(to).value();
  return Ethernet(0x0806, Bytes{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1} +
                              Bytes(source.bytes.begin(), source.bytes.begin() + 4) + Bytes(6, 0) +
                              Bytes(destination.bytes.begin(), destination.bytes.begin() + 4));
}

// The wire form of a name.
inline Bytes DnsName(const std::string& name) {
  Bytes bytes;
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find('.', at), name.size());
    bytes.push_back(static_cast<uint8_t>(end - at));
    bytes.insert(bytes.end(), name.begin() + at, name.begin() + end);
    at = end + 1;
  }
  bytes.push_back(0);
  return bytes;
}

inline Bytes DnsQuestion(const std::string& name, uint16_t type, uint16_t id = 0x1234) {
  return Be16(id) + Be16(0x0100) + Be16(1) + Be16(0) + Be16(0) + Be16(0) + DnsName(name) +
         Be16(type) + Be16(1);
}

}  // namespace crosvm::devices::slirp::testing
