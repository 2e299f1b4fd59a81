#include "devices/slirp/dns_message.h"

#include <algorithm>

namespace crosvm::devices::slirp {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kHeaderBytes = 12;
constexpr size_t kMaxNameBytes = 255;
constexpr uint16_t kTypeA = 1;
constexpr uint16_t kTypeAlias = 5;
constexpr uint16_t kTypeAaaa = 28;
constexpr uint16_t kTypeOpt = 41;
constexpr uint16_t kClassInternet = 1;
constexpr uint16_t kAnswerFlag = 0x8000;
constexpr uint16_t kOperationMask = 0x7800;
constexpr uint16_t kRecursionDesired = 0x0100;
constexpr uint16_t kRecursionAvailable = 0x0080;
// Of an answer; more have nothing to do with a name's addresses.
constexpr int kMaxRecords = 256;
constexpr int kMaxAliases = 16;

uint8_t Lower(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? static_cast<uint8_t>(c - 'A' + 'a') : c;
}

class Reader {
 public:
  explicit Reader(Bytes message) : message_(message) {}

  size_t at() const { return at_; }
  size_t left() const { return message_.size() - at_; }
  bool Skip(size_t bytes) {
    if (bytes > left()) return false;
    at_ += bytes;
    return true;
  }
  bool Read16(uint16_t& value) {
    if (left() < 2) return false;
    value = static_cast<uint16_t>((message_[at_] << 8) | message_[at_ + 1]);
    at_ += 2;
    return true;
  }
  bool Read32(uint32_t& value) {
    uint16_t high = 0;
    uint16_t low = 0;
    if (!Read16(high) || !Read16(low)) return false;
    value = (uint32_t{high} << 16) | low;
    return true;
  }
  // A name in lower case. Pointers (RFC 1035, 4.1.4) lead to earlier bytes only, so there is no
  // loop.
  bool ReadName(std::string& name, bool pointers) {
    name.clear();
    size_t at = at_;
    size_t limit = at_;  // where the current run of labels began
    bool jumped = false;
    while (true) {
      if (at >= message_.size()) return false;
      const uint8_t length = message_[at];
      if (length == 0) break;
      if ((length & 0xc0) == 0xc0) {
        if (!pointers || at + 1 >= message_.size()) return false;
        const size_t target = (size_t{static_cast<uint8_t>(length & 0x3f)} << 8) | message_[at + 1];
        if (target >= limit) return false;
        if (!jumped) at_ = at + 2;
        jumped = true;
        at = limit = target;
        continue;
      }
      if ((length & 0xc0) != 0 || at + 1 + length > message_.size()) return false;
      if (name.size() + length + 1 > kMaxNameBytes) return false;
      if (!name.empty()) name += '.';
      for (size_t i = 0; i < length; ++i) {
        const uint8_t c = message_[at + 1 + i];
        // A dot within a label would be taken for the end of one.
        if (c == '.' || c < 0x21 || c > 0x7e) return false;
        name += static_cast<char>(Lower(c));
      }
      at += 1U + length;
    }
    if (!jumped) at_ = at + 1;
    return true;
  }

 private:
  Bytes message_;
  size_t at_ = 0;
};

struct Header {
  uint16_t id = 0;
  uint16_t flags = 0;
  uint16_t questions = 0;
  uint16_t answers = 0;
  uint16_t authorities = 0;
  uint16_t additional = 0;
};

bool ReadHeader(Reader& reader, Header& header) {
  return reader.Read16(header.id) && reader.Read16(header.flags) &&
         reader.Read16(header.questions) && reader.Read16(header.answers) &&
         reader.Read16(header.authorities) && reader.Read16(header.additional);
}

struct Record {
  std::string owner;
  uint16_t type = 0;
  uint32_t ttl = 0;
  std::string alias;
  config::IpAddress address;
};

// False at the first that is malformed. A type that is of no interest leaves only its type.
bool ReadRecord(Bytes message, Reader& reader, Record& record) {
  uint16_t record_class = 0;
  uint16_t length = 0;
  if (!reader.ReadName(record.owner, true) || !reader.Read16(record.type) ||
      !reader.Read16(record_class) || !reader.Read32(record.ttl) || !reader.Read16(length) ||
      length > reader.left()) {
    return false;
  }
  const size_t data = reader.at();
  const size_t end = data + length;
  if (record.type == kTypeAlias) {
    if (!reader.ReadName(record.alias, true) || reader.at() != end) return false;
    return true;
  }
  const size_t expected = record.type == kTypeA ? 4 : record.type == kTypeAaaa ? 16 : length;
  if (length != expected) return false;
  if (record.type == kTypeA || record.type == kTypeAaaa) {
    record.address.v6 = record.type == kTypeAaaa;
    std::copy_n(message.begin() + static_cast<ptrdiff_t>(data), length,
                record.address.bytes.begin());
  }
  if (record_class != kClassInternet) record.type = 0;
  return reader.Skip(length);
}

void Append16(std::vector<uint8_t>& bytes, size_t value) {
  bytes.push_back(static_cast<uint8_t>((value >> 8) & 0xff));
  bytes.push_back(static_cast<uint8_t>(value & 0xff));
}

std::vector<uint8_t> MakeMessage(uint16_t id, uint16_t flags, Bytes question, bool extended) {
  std::vector<uint8_t> message;
  Append16(message, id);
  Append16(message, flags);
  Append16(message, 1);
  Append16(message, 0);
  Append16(message, 0);
  Append16(message, extended ? 1 : 0);
  message.insert(message.end(), question.begin(), question.end());
  if (!extended) return message;
  message.push_back(0);  // the root
  Append16(message, kTypeOpt);
  Append16(message, kMaxDnsBytes);
  for (int i = 0; i < 3; ++i) Append16(message, 0);  // extended code, version, flags; no options
  return message;
}

}  // namespace

bool DnsQuery::AsksForAddress() const {
  return type == kTypeA || type == kTypeAaaa;
}

std::optional<DnsQuery> ParseDnsQuery(std::span<const uint8_t> message) {
  Reader reader(message);
  Header header;
  DnsQuery query;
  uint16_t query_class = 0;
  if (!ReadHeader(reader, header) || (header.flags & (kAnswerFlag | kOperationMask)) != 0 ||
      header.questions != 1 || header.answers != 0 || header.authorities != 0 ||
      header.additional > 1 || !reader.ReadName(query.name, false) || !reader.Read16(query.type) ||
      !reader.Read16(query_class) || query_class != kClassInternet) {
    return std::nullopt;
  }
  query.id = header.id;
  query.recursion = (header.flags & kRecursionDesired) != 0;
  query.question.assign(message.begin() + kHeaderBytes,
                        message.begin() + static_cast<ptrdiff_t>(reader.at()));
  if (header.additional == 1) {
    Record record;
    if (!ReadRecord(message, reader, record) || !record.owner.empty()) return std::nullopt;
    query.extended = true;
  }
  return query;
}

std::optional<DnsAnswer> ParseDnsAnswer(std::span<const uint8_t> message, const DnsQuery& query) {
  Reader reader(message);
  Header header;
  if (!ReadHeader(reader, header) || (header.flags & kAnswerFlag) == 0 || header.questions != 1 ||
      message.size() < kHeaderBytes + query.question.size() ||
      !std::equal(query.question.begin(), query.question.end(), message.begin() + kHeaderBytes,
                  [](uint8_t a, uint8_t b) { return Lower(a) == Lower(b); }) ||
      !reader.Skip(query.question.size())) {
    return std::nullopt;
  }
  DnsAnswer answer{
      .id = header.id, .code = static_cast<uint8_t>(header.flags & 0xf), .addresses = {}};
  std::vector<Record> records;
  for (int i = 0; i < std::min<int>(header.answers, kMaxRecords); ++i) {
    Record record;
    if (!ReadRecord(message, reader, record)) break;
    if (record.type == kTypeA || record.type == kTypeAaaa || record.type == kTypeAlias)
      records.push_back(std::move(record));
  }
  std::string owner = query.name;
  for (int hop = 0; hop < kMaxAliases; ++hop) {
    const auto alias = std::find_if(records.begin(), records.end(), [&](const Record& record) {
      return record.type == kTypeAlias && record.owner == owner;
    });
    if (alias == records.end()) break;
    owner = alias->alias;
  }
  for (const Record& record : records) {
    if (record.type == kTypeAlias || record.owner != owner) continue;
    if (answer.addresses.size() >= kMaxDnsAddresses) break;
    answer.addresses.push_back({record.address, record.ttl});
  }
  return answer;
}

std::vector<uint8_t> MakeDnsQuery(const DnsQuery& query, uint16_t id) {
  return MakeMessage(id, query.recursion ? kRecursionDesired : 0, query.question, query.extended);
}

std::vector<uint8_t> MakeDnsError(const DnsQuery& query, uint8_t code) {
  const uint16_t flags = static_cast<uint16_t>(kAnswerFlag | kRecursionAvailable | code |
                                               (query.recursion ? kRecursionDesired : 0));
  return MakeMessage(query.id, flags, query.question, false);
}

}  // namespace crosvm::devices::slirp
