// 9P2000.L as Linux' client (fs/9p, net/9p) speaks it: message types, constants, and the two
// cursors that every message is read and written through. Integers are little-endian; a string is a
// 16-bit length and bytes without NUL. A message: size[4] type[1] tag[2] body, `size` counting all.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/endian.h"

namespace crosvm::devices::p9 {

// Requests; an answer has the number after its request's.
enum class Type : uint8_t {
  kLerror = 6,  // only as an answer, Rlerror
  kStatfs = 8,
  kLopen = 12,
  kLcreate = 14,
  kSymlink = 16,
  kMknod = 18,
  kRename = 20,
  kReadlink = 22,
  kGetattr = 24,
  kSetattr = 26,
  kXattrwalk = 30,
  kXattrcreate = 32,
  kReaddir = 40,
  kFsync = 50,
  kLock = 52,
  kGetlock = 54,
  kLink = 70,
  kMkdir = 72,
  kRenameat = 74,
  kUnlinkat = 76,
  kVersion = 100,
  kAuth = 102,
  kAttach = 104,
  kFlush = 108,
  kWalk = 110,
  kRead = 116,
  kWrite = 118,
  kClunk = 120,
  kRemove = 122,
};
constexpr uint8_t AnswerTo(Type type) {
  return static_cast<uint8_t>(static_cast<uint8_t>(type) + 1);
}

inline constexpr std::string_view kVersionText = "9P2000.L";
inline constexpr uint16_t kNoTag = 0xffff;
inline constexpr uint32_t kNoFid = 0xffffffff;
inline constexpr uint32_t kNoUser = 0xffffffff;
inline constexpr uint16_t kMaxWalkNames = 16;

inline constexpr uint32_t kHeaderBytes = 7;
inline constexpr uint32_t kErrorBytes = kHeaderBytes + 4;                // Rlerror
inline constexpr uint32_t kReadHeaderBytes = kHeaderBytes + 4;           // Rread, Rreaddir
inline constexpr uint32_t kWriteHeaderBytes = kHeaderBytes + 4 + 8 + 4;  // Twrite
inline constexpr uint32_t kQidBytes = 13;

// What this server takes at most, and what it needs at least.
inline constexpr uint32_t kMaxMessage = 512 * 1024;
inline constexpr uint32_t kMinMessage = 4096;
// Everything but the data of a write is smaller than this.
inline constexpr uint32_t kMaxPlainRequest = 64 * 1024;

inline constexpr uint8_t kQidDirectory = 0x80;
inline constexpr uint8_t kQidLink = 0x02;

struct Qid {
  uint8_t type = 0;
  uint32_t version = 0;
  uint64_t path = 0;
};

// Tgetattr, Tsetattr.
inline constexpr uint64_t kAttrBasic = 0x7ff;
inline constexpr uint64_t kAttrBirth = 0x800;
enum SetAttr : uint32_t {
  kSetMode = 1,
  kSetUser = 2,
  kSetGroup = 4,
  kSetSize = 8,
  kSetAccess = 0x10,
  kSetModification = 0x20,
  kSetChange = 0x40,
  kSetAccessTo = 0x80,
  kSetModificationTo = 0x100,
};

// Tlock, Tgetlock.
inline constexpr uint8_t kLockRead = 0;
inline constexpr uint8_t kLockWrite = 1;
inline constexpr uint8_t kLockNone = 2;
inline constexpr uint8_t kLockSuccess = 0;
inline constexpr uint8_t kLockBlocked = 1;

// Reads a request. What is not there is 0 and makes ok() false, so that a handler reads all its
// fields and asks once.
class MessageReader {
 public:
  explicit MessageReader(std::span<const uint8_t> bytes) : rest_(bytes) {}

  uint8_t U8() { return Number<uint8_t>(); }
  uint16_t U16() { return Number<uint16_t>(); }
  uint32_t U32() { return Number<uint32_t>(); }
  uint64_t U64() { return Number<uint64_t>(); }
  // Into the request's bytes.
  std::string_view String() {
    const uint16_t length = U16();
    if (!ok_ || length > rest_.size()) {
      ok_ = false;
      return {};
    }
    // SAFETY: bytes as characters.
    const std::string_view text(reinterpret_cast<const char*>(rest_.data()), length);
    rest_ = rest_.subspan(length);
    return text;
  }
  bool ok() const { return ok_; }

 private:
  template <typename T>
  T Number() {
    if (!ok_ || rest_.size() < sizeof(T)) {
      ok_ = false;
      return 0;
    }
    Ordered<T, std::endian::little> value;
    memcpy(&value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  std::span<const uint8_t> rest_;
  bool ok_ = true;
};

// Writes an answer's body; the header is put before it at the end.
class MessageWriter {
 public:
  MessageWriter() : bytes_(kHeaderBytes) { bytes_.reserve(192); }

  MessageWriter& U8(uint8_t value) { return Put(&value, 1); }
  MessageWriter& U16(uint16_t value) { return Number(value); }
  MessageWriter& U32(uint32_t value) { return Number(value); }
  MessageWriter& U64(uint64_t value) { return Number(value); }
  // At most 65535 bytes.
  MessageWriter& String(std::string_view text) {
    U16(static_cast<uint16_t>(text.size()));
    return Put(text.data(), text.size());
  }
  MessageWriter& Id(const Qid& qid) { return U8(qid.type).U32(qid.version).U64(qid.path); }

  size_t size() const { return bytes_.size(); }
  // `more`: bytes of data that follow the written ones.
  std::vector<uint8_t> Finish(uint8_t type, uint16_t tag, uint32_t more = 0) && {
    const Le32 size(static_cast<uint32_t>(bytes_.size()) + more);
    const Le16 tag_bytes(tag);
    memcpy(bytes_.data(), &size, 4);
    bytes_[4] = type;
    memcpy(bytes_.data() + 5, &tag_bytes, 2);
    return std::move(bytes_);
  }
  // Overwrites the number that was written at `offset`.
  void PatchU32(size_t offset, uint32_t value) {
    const Le32 bytes(value);
    memcpy(bytes_.data() + offset, &bytes, 4);
  }

 private:
  template <typename T>
  MessageWriter& Number(T value) {
    const Ordered<T, std::endian::little> bytes(value);
    return Put(&bytes, sizeof(T));
  }
  MessageWriter& Put(const void* data, size_t size) {
    const auto* const bytes = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
    return *this;
  }

  std::vector<uint8_t> bytes_;
};

}  // namespace crosvm::devices::p9
