// A query of the guest and an answer of a server, both of any shape. The first two bytes say where
// the one ends and the other begins.
#include <algorithm>

#include "devices/slirp/dns_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm::devices::slirp;
  if (size < 2) return 0;
  const std::span<const uint8_t> input(data + 2, size - 2);
  const size_t split = std::min<size_t>(data[0] * size_t{256} + data[1], input.size());
  const std::vector<uint8_t> question(input.begin(), input.begin() + static_cast<ptrdiff_t>(split));
  const std::vector<uint8_t> message(input.begin() + static_cast<ptrdiff_t>(split), input.end());
  const std::optional<DnsQuery> query = ParseDnsQuery(question);
  if (!query) return 0;
  // What we ask is what was asked.
  const std::optional<DnsQuery> again = ParseDnsQuery(MakeDnsQuery(*query, 1));
  if (!again || again->name != query->name || again->type != query->type) __builtin_trap();
  if (!ParseDnsAnswer(MakeDnsError(*query, kDnsRefused), *query)) __builtin_trap();
  const std::optional<DnsAnswer> answer = ParseDnsAnswer(message, *query);
  if (answer && answer->addresses.size() > kMaxDnsAddresses) __builtin_trap();
  return 0;
}
