#include "config/net_user.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace crosvm::config {
namespace {

constexpr size_t kMaxNameBytes = 253;  // RFC 1035, 2.3.4, as text
constexpr size_t kMaxLabelBytes = 63;

std::optional<uint16_t> ReadPort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

// `[ADDRESS]:PORT`; an empty address keeps the one that is there.
bool ReadEnd(std::string_view text, Ipv4Address& address, uint16_t& port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::optional<uint16_t> number = ReadPort(text.substr(colon + 1));
  if (!number) return false;
  port = *number;
  if (colon == 0) return true;
  const Result<Ipv4Address> parsed = Ipv4Address::Parse(text.substr(0, colon));
  if (parsed) address = *parsed;
  return parsed.has_value();
}

bool IsName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  size_t label = 0;
  for (const char c : name) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!good || ++label > kMaxLabelBytes) return false;
  }
  // Four numbers and dots that are no address, such as 10.0.0.300, shall not be taken for a name.
  return label > 0 && name.find_first_not_of("0123456789.") != std::string_view::npos;
}

}  // namespace

Result<HostForward> HostForward::Parse(std::string_view text) {
  HostForward forward;
  const auto bad = [&] {
    return Fail(ErrorKind::kInvalidArgument,
                "\"{}\" is not a forward such as tcp:127.0.0.1:8080-:80 or udp::5353-10.0.2.15:53",
                text);
  };
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return bad();
  const std::string_view protocol = text.substr(0, colon);
  const std::string_view rest = text.substr(colon + 1);
  const size_t dash = rest.find('-');
  if ((protocol != "tcp" && protocol != "udp") || dash == std::string_view::npos) return bad();
  forward.udp = protocol == "udp";
  if (!ReadEnd(rest.substr(0, dash), forward.host, forward.host_port) ||
      !ReadEnd(rest.substr(dash + 1), forward.guest, forward.guest_port)) {
    return bad();
  }
  return forward;
}

std::string HostForward::ToString() const {
  return fmt::format("{}:{}:{}-{}:{}", udp ? "udp" : "tcp", host.ToString(), host_port,
                     guest.ToString(), guest_port);
}

Result<IpAddress> IpAddress::Parse(std::string_view text) {
  IpAddress address;
  const std::string terminated(text);
  if (inet_pton(AF_INET, terminated.c_str(), address.bytes.data()) == 1) return address;
  address.v6 = true;
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) return address;
  return Fail(ErrorKind::kInvalidArgument, "\"{}\" is neither an IPv4 nor an IPv6 address", text);
}

std::string IpAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), text, sizeof(text));
  return text;
}

IpAddress IpAddress::V4(std::array<uint8_t, 4> bytes) {
  IpAddress address;
  std::copy(bytes.begin(), bytes.end(), address.bytes.begin());
  return address;
}

Result<AllowedHost> AllowedHost::Parse(std::string_view text) {
  AllowedHost allowed;
  const auto bad = [&] {
    return Fail(ErrorKind::kInvalidArgument,
                "\"{}\" is not a destination such as example.com:443, 192.0.2.1:80, 192.0.2.1 or "
                "[2001:db8::1]:443",
                text);
  };
  std::string_view host = text;
  const bool brackets = text.starts_with('[');
  const size_t colon = text.rfind(':');
  const bool one_colon = std::count(text.begin(), text.end(), ':') == 1;
  const size_t close = text.rfind(']');
  if (brackets) {
    if (close == std::string_view::npos) return bad();
    host = text.substr(1, close - 1);
    const std::string_view after = text.substr(close + 1);
    if (!after.empty()) {
      const std::optional<uint16_t> port =
          after[0] == ':' ? ReadPort(after.substr(1)) : std::nullopt;
      if (!port) return bad();
      allowed.port = *port;
    }
  } else if (one_colon) {
    const std::optional<uint16_t> port = ReadPort(text.substr(colon + 1));
    if (!port) return bad();
    allowed.port = *port;
    host = text.substr(0, colon);
  }
  const Result<IpAddress> address = IpAddress::Parse(host);
  if (address) {
    if (brackets && !address->v6) return bad();
    allowed.address = *address;
    return allowed;
  }
  allowed.name = host;
  for (char& c : allowed.name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (allowed.name.ends_with('.')) allowed.name.pop_back();
  if (brackets || !IsName(allowed.name)) return bad();
  return allowed;
}

std::string AllowedHost::ToString() const {
  const bool brackets = address && address->v6 && port != 0;
  std::string text = address ? address->ToString() : name;
  if (brackets) text = fmt::format("[{}]", text);
  return port == 0 ? text : fmt::format("{}:{}", text, port);
}

}  // namespace crosvm::config
