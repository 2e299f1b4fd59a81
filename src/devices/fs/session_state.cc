#include "devices/fs/session_state.h"

#include <cstring>

#include "base/check.h"
#include "sys/memfd.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kMagic = 0x31737366'6d767363ULL;
constexpr size_t kHeaderBytes = 8192;

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

SessionState::Intent& SessionState::Claim() {
  MutexLock lock(*mutex_);
  std::span<Intent> intents = header().intents;
  size_t best = kIntents;
  for (size_t i = 0; i < kIntents; ++i) {
    if (claimed_[i]) continue;
    if (intents[i].stage == Stage::kNone) {
      best = i;
      break;
    }
    // Only a guest that makes numbers up can have so many: then the oldest goes.
    if (best == kIntents || intents[i].unique < intents[best].unique) best = i;
  }
  CHECK(best < kIntents, "more workers than there can be");
  claimed_[best] = true;
  intents[best].stage = Stage::kNone;
  return intents[best];
}

SessionState::Intent* SessionState::Adopt(uint64_t unique, uint32_t opcode) {
  MutexLock lock(*mutex_);
  for (size_t i = 0; i < kIntents; ++i) {
    Intent& intent = header().intents[i];
    if (claimed_[i] || intent.stage == Stage::kNone) continue;
    if (intent.unique != unique || intent.opcode != opcode) continue;
    claimed_[i] = true;
    return &intent;
  }
  return nullptr;
}

void SessionState::Release(Intent& intent) {
  MutexLock lock(*mutex_);
  intent.stage = Stage::kNone;
  claimed_[static_cast<size_t>(&intent - header().intents)] = false;
}

void SessionState::ForgetIntents() {
  MutexLock lock(*mutex_);
  for (Intent& intent : header().intents) intent.stage = Stage::kNone;
}

}  // namespace crosvm::devices::fs
