// `crosvm doctor`: what this host lets a VM do. Each finding comes with the command that mends it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/describe.h"

namespace crosvm::cli {

enum class Health : uint8_t {
  kOk,
  kLimited,  // a feature is missing; VMs run without it
  kBroken,   // no VM runs
};
constexpr auto DescribeEnum(Health) {
  return EnumNames<Health>(
      {{Health::kOk, "ok"}, {Health::kLimited, "limited"}, {Health::kBroken, "broken"}});
}

struct Finding {
  std::string check;
  Health health = Health::kOk;
  std::string found;
  std::string fix;  // empty when nothing is to be done

  bool operator==(const Finding&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("check", &Finding::check), Field("health", &Finding::health),
                  Field("found", &Finding::found), Field("fix", &Finding::fix));
  }
};

struct Diagnosis {
  std::vector<Finding> findings;

  Health worst() const;
  static constexpr auto Describe() { return Fields(Field("findings", &Diagnosis::findings)); }
};

// Looks at the host; takes some milliseconds and changes nothing.
Diagnosis Examine();
std::string FormatTable(const Diagnosis& diagnosis);

// The virtualisation that /proc/cpuinfo promises: "vmx", "svm" or empty.
std::string_view HardwareFlag(std::string_view cpuinfo);

}  // namespace crosvm::cli
