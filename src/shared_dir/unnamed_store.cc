#include "shared_dir/unnamed_store.h"

#include <array>
#include <cstring>
#include <vector>

#include "base/log.h"
#include "sys/file.h"

namespace crosvm::shared_dir {
namespace {

// More than a socket's buffer holds.
constexpr size_t kMostMessages = 1024;

}  // namespace

UnnamedStore::UnnamedStore(sys::UnixSocket in, sys::UnixSocket out)
    : in_(std::move(in)), out_(std::move(out)) {
}

Result<std::pair<sys::UnixSocket, sys::UnixSocket>> UnnamedStore::MakeSockets() {
  std::pair<sys::UnixSocket, sys::UnixSocket> ends =
      TRY(sys::UnixSocket::Pair(sys::SocketType::kSeqPacket));
  TRY(sys::SetNonBlocking(ends.first.fd(), true));
  TRY(sys::SetNonBlocking(ends.second.fd(), true));
  return ends;
}

bool UnnamedStore::Send(uint64_t handle, sys::BorrowedFd file) {
  std::array<uint8_t, sizeof(handle)> message;
  memcpy(message.data(), &handle, sizeof(handle));
  return in_.Send(message, {{file}}).has_value();
}

Result<UnnamedStore::Kept> UnnamedStore::Peek() {
  Kept kept;
  std::array<uint8_t, sizeof(kept.handle)> message;
  sys::Received received = TRY(out_.Peek(message));
  if (received.bytes == 0) return Fail(ErrorKind::kDisconnected, "the store is closed");
  // TRUST: a predecessor that was taken over may have sent anything.
  if (received.bytes != message.size() || received.fds.size() != 1) return kept;
  memcpy(&kept.handle, message.data(), sizeof(kept.handle));
  kept.file = std::move(received.fds[0]);
  return kept;
}

bool UnnamedStore::Rotate(const Kept& first) {
  return Send(first.handle, first.file) && out_.Discard().has_value();
}

std::map<uint64_t, sys::UniqueFd> UnnamedStore::Recover() {
  MutexLock lock(mutex_);
  if (!out_.valid()) return {};
  std::map<uint64_t, sys::UniqueFd> files;
  struct Message {
    uint64_t handle = 0;
    bool wanted = false;
  };
  std::vector<Message> messages;
  if (!out_.SetPeekOffset(0).has_value()) return {};
  while (messages.size() < kMostMessages) {
    Result<Kept> next = Peek();
    if (!next.has_value()) {
      if (next.error().kind() != ErrorKind::kBusy) LOG_WARN("{}", next.error().ToString());
      break;
    }
    const uint64_t handle = next->handle;
    const bool wanted =
        next->file.valid() && files.try_emplace(handle, std::move(next->file)).second;
    messages.push_back({.handle = handle, .wanted = wanted});
  }
  (void)out_.SetPeekOffset(-1);
  kept_ = messages.size();
  if (files.size() == messages.size()) return files;
  for (const Message& message : messages) {
    if (!message.wanted) {
      (void)out_.Discard();
      --kept_;
    } else if (!Send(message.handle, files.at(message.handle)) || !out_.Discard().has_value()) {
      break;
    }
  }
  return files;
}

bool UnnamedStore::Put(uint64_t handle, sys::BorrowedFd file) {
  MutexLock lock(mutex_);
  if (!in_.valid() || kept_ >= kMaxKept || !Send(handle, file)) return false;
  ++kept_;
  return true;
}

void UnnamedStore::Remove(uint64_t handle) {
  MutexLock lock(mutex_);
  for (size_t left = kept_; left > 0; --left) {
    const Result<Kept> first = Peek();
    if (!first.has_value()) break;
    const bool found = first->file.valid() && first->handle == handle;
    if (first->file.valid() && !found) {
      if (!Rotate(*first)) break;
      continue;
    }
    if (out_.Discard().has_value()) --kept_;
    if (found) return;
  }
  // It costs room until the next reset; a successor does not find it among its open files.
  LOG_DEBUG("handle {} could not be dropped", handle);
}

void UnnamedStore::Clear() {
  MutexLock lock(mutex_);
  if (!out_.valid()) return;
  for (size_t i = 0; i < kMostMessages && out_.Discard().has_value(); ++i) {
  }
  kept_ = 0;
}

}  // namespace crosvm::shared_dir
