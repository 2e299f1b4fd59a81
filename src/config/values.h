// Values of the configuration that have a text form of their own. Plain data, checked when parsed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace crosvm::config {

// CPU numbers above this are typing errors: no host has them (CPU_SETSIZE).
inline constexpr uint32_t kMaxCpuIndex = 1023;

// `0,2-4`: in the order given, repetitions kept. An empty text is an empty set.
struct CpuSet {
  std::vector<uint32_t> cpus;

  static Result<CpuSet> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const CpuSet&) const = default;
};

// `SET` for all vCPUs, or `VCPU=SET:VCPU=SET…`. Of the two lists at most one has items.
struct CpuAffinity {
  CpuSet all;
  std::vector<std::pair<uint32_t, CpuSet>> per_vcpu;

  static Result<CpuAffinity> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const CpuAffinity&) const = default;
};

// Six bytes as `XX:XX:XX:XX:XX:XX`; not a group address.
struct MacAddress {
  std::array<uint8_t, 6> bytes{};

  static Result<MacAddress> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const MacAddress&) const = default;
};

// `a.b.c.d`, bytes in network order.
struct Ipv4Address {
  std::array<uint8_t, 4> bytes{};

  static Result<Ipv4Address> Parse(std::string_view text);
  std::string ToString() const;
  // As a number: the first byte is the highest.
  uint32_t value() const;
  bool operator==(const Ipv4Address&) const = default;
};

}  // namespace crosvm::config
