// What the DNS relay has to know of DNS messages (RFC 1035): the question of a query, and the
// addresses in an answer. Pure; parses what the guest and what any server of the Internet says.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/net_user.h"

namespace crosvm::devices::slirp {

// A message over UDP, with the extension that announces a larger size (RFC 6891).
inline constexpr size_t kMaxDnsBytes = 4096;

struct DnsQuery {
  uint16_t id = 0;
  bool recursion = true;
  std::string name;  // in lower case, labels joined by dots; empty: the root
  uint16_t type = 0;
  std::vector<uint8_t> question;  // as it was: name, type, class
  bool extended = false;          // has an OPT record

  bool AsksForAddress() const;
};

// Nothing for: an answer, another operation than a standard query, more or less than one question,
// a name that is no sequence of plain labels, records other than one OPT record.
std::optional<DnsQuery> ParseDnsQuery(std::span<const uint8_t> message);

struct DnsAddress {
  config::IpAddress address;
  uint32_t ttl = 0;  // seconds
};

struct DnsAnswer {
  uint16_t id = 0;
  uint8_t code = 0;                   // RCODE
  std::vector<DnsAddress> addresses;  // of the question's name, by way of its aliases
};

inline constexpr size_t kMaxDnsAddresses = 64;

// Nothing when this is no answer to `query`, whatever its id. Records that do not concern the
// question are passed over; a malformed rest ends the list.
std::optional<DnsAnswer> ParseDnsAnswer(std::span<const uint8_t> message, const DnsQuery& query);

// The question alone, with our own id; an OPT record of ours when the query had one.
std::vector<uint8_t> MakeDnsQuery(const DnsQuery& query, uint16_t id);
// An answer without records.
std::vector<uint8_t> MakeDnsError(const DnsQuery& query, uint8_t code);

inline constexpr uint8_t kDnsServerFailure = 2;
inline constexpr uint8_t kDnsRefused = 5;

}  // namespace crosvm::devices::slirp
