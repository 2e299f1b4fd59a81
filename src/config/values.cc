#include "config/values.h"

#include <algorithm>
#include <charconv>

namespace crosvm::config {
namespace {

// One whole number of `base` without sign or blanks.
bool ReadNumber(std::string_view text, uint32_t most, int base, uint32_t& number) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && stop == text.end() && number <= most;
}

Result<uint32_t> CpuIndex(std::string_view text) {
  uint32_t index = 0;
  if (!ReadNumber(text, kMaxCpuIndex, 10, index)) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not a CPU number, 0 to {}", text,
                kMaxCpuIndex);
  }
  return index;
}

// The part before `separator`; `rest` becomes what follows.
std::string_view Cut(std::string_view& rest, char separator) {
  const size_t at = rest.find(separator);
  const std::string_view part = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view() : rest.substr(at + 1);
  return part;
}

}  // namespace

Result<CpuSet> CpuSet::Parse(std::string_view text) {
  CpuSet set;
  if (text.empty()) return set;
  bool more = true;
  while (more) {
    more = text.find(',') != std::string_view::npos;
    std::string_view range = Cut(text, ',');
    const bool is_range = range.find('-') != std::string_view::npos;
    const std::string_view first_text = Cut(range, '-');
    const uint32_t first = TRY(CpuIndex(first_text));
    const uint32_t last = TRY(CpuIndex(is_range ? range : first_text));
    if (last < first) {
      return Fail(ErrorKind::kInvalidArgument, "CPU range {}-{} runs backwards", first, last);
    }
    if (set.cpus.size() > kMaxCpuIndex) {
      return Fail(ErrorKind::kInvalidArgument, "more than {} CPUs are listed", kMaxCpuIndex);
    }
    for (uint32_t cpu = first; cpu <= last; ++cpu) set.cpus.push_back(cpu);
  }
  return set;
}

std::string CpuSet::ToString() const {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += end - i > 1 ? fmt::format("{}-{}", cpus[i], cpus[end - 1]) : fmt::format("{}", cpus[i]);
    i = end;
  }
  return text;
}

Result<CpuAffinity> CpuAffinity::Parse(std::string_view text) {
  CpuAffinity affinity;
  if (text.find('=') == std::string_view::npos) {
    affinity.all = TRY(CpuSet::Parse(text));
    return affinity;
  }
  bool more = true;
  while (more) {
    more = text.find(':') != std::string_view::npos;
    std::string_view item = Cut(text, ':');
    if (item.find('=') == std::string_view::npos) {
      return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not VCPU=CPUSET", item);
    }
    const uint32_t vcpu = TRY(CpuIndex(Cut(item, '=')));
    for (const auto& [other, set] : affinity.per_vcpu) {
      if (other == vcpu) {
        return Fail(ErrorKind::kInvalidArgument, "vCPU {} is assigned twice", vcpu);
      }
    }
    CpuSet set = TRY(CpuSet::Parse(item));
    if (set.cpus.empty()) {
      return Fail(ErrorKind::kInvalidArgument, "vCPU {} is assigned no CPU", vcpu);
    }
    affinity.per_vcpu.emplace_back(vcpu, std::move(set));
  }
  return affinity;
}

std::string CpuAffinity::ToString() const {
  if (per_vcpu.empty()) return all.ToString();
  std::string text;
  for (const auto& [vcpu, set] : per_vcpu) {
    if (!text.empty()) text += ':';
    text += fmt::format("{}={}", vcpu, set.ToString());
  }
  return text;
}

Result<MacAddress> MacAddress::Parse(std::string_view text) {
  MacAddress mac;
  std::string_view rest = text;
  bool good = std::count(text.begin(), text.end(), ':') == 5;
  for (size_t i = 0; good && i < mac.bytes.size(); ++i) {
    const std::string_view part = Cut(rest, ':');
    uint32_t byte = 0;
    good = part.size() == 2 && ReadNumber(part, 255, 16, byte);
    mac.bytes[i] = static_cast<uint8_t>(byte);
  }
  if (!good) {
    return Fail(ErrorKind::kInvalidArgument,
                "\"{}\" is not a MAC address such as 52:54:00:12:34:56", text);
  }
  if (mac.bytes[0] & 1) {
    return Fail(ErrorKind::kInvalidArgument,
                "\"{}\" is a group address; the first byte of an interface's address is even",
                text);
  }
  return mac;
}

std::string MacAddress::ToString() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2],
                     bytes[3], bytes[4], bytes[5]);
}

Result<Ipv4Address> Ipv4Address::Parse(std::string_view text) {
  Ipv4Address address;
  std::string_view rest = text;
  bool good = std::count(text.begin(), text.end(), '.') == 3;
  for (size_t i = 0; good && i < address.bytes.size(); ++i) {
    const std::string_view part = Cut(rest, '.');
    uint32_t byte = 0;
    good = part.size() <= 3 && ReadNumber(part, 255, 10, byte);
    address.bytes[i] = static_cast<uint8_t>(byte);
  }
  if (!good) {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" is not an IPv4 address such as 10.0.0.1",
                text);
  }
  return address;
}

std::string Ipv4Address::ToString() const {
  return fmt::format("{}.{}.{}.{}", bytes[0], bytes[1], bytes[2], bytes[3]);
}

uint32_t Ipv4Address::value() const {
  return (uint32_t{bytes[0]} << 24) | (uint32_t{bytes[1]} << 16) | (uint32_t{bytes[2]} << 8) |
         uint32_t{bytes[3]};
}

}  // namespace crosvm::config
