#include "devices/fs/session_state.h"

#include <cstring>

#include "sys/memfd.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kMagic = 0x31737366'6d767363ULL;
constexpr size_t kHeaderBytes = 4096;

}  // namespace

uint64_t SessionState::Bytes(uint32_t max_open) {
  return kHeaderBytes + uint64_t{max_open} * sizeof(OpenRecord);
}

Result<SessionState> SessionState::Create(sys::BorrowedFd state, uint32_t max_open) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  const uint64_t bytes = Bytes(max_open);
  if (!sys::IsShrinkSealed(state, bytes)) {
    return Fail(ErrorKind::kInvalidArgument, "the memory of open files is no sealed memfd");
  }
  SessionState session;
  session.region_ = TRY(sys::MappedRegion::Shared(state, 0, bytes, sys::MapAccess::kReadWrite));
  session.max_open_ = max_open;
  // SAFETY: in bounds by Bytes(), aligned to a page.
  session.records_ = reinterpret_cast<OpenRecord*>(session.region_.data() + kHeaderBytes);
  if (session.header().magic != kMagic) {
    memset(session.region_.data(), 0, bytes);
    session.header().magic = kMagic;
  }
  return session;
}

std::optional<SessionState::Intent> SessionState::Find(uint64_t unique, uint32_t opcode) const {
  for (const Intent& intent : header().intents) {
    if (intent.stage != Stage::kNone && intent.unique == unique && intent.opcode == opcode) {
      return intent;
    }
  }
  return std::nullopt;
}

void SessionState::ForgetIntents() {
  for (Intent& intent : header().intents) intent.stage = Stage::kNone;
}

}  // namespace crosvm::devices::fs
