#include "shared_dir/unnamed_store.h"

#include <array>
#include <cstring>

#include "base/log.h"
#include "sys/file.h"

namespace crosvm::shared_dir {

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
  const Result<size_t> sent = in_.Send(message, {{file}});
  if (!sent.has_value()) return false;
  ++kept_;
  return true;
}

std::map<uint64_t, sys::UniqueFd> UnnamedStore::Drain() {
  std::map<uint64_t, sys::UniqueFd> files;
  while (true) {
    uint64_t handle = 0;
    std::array<uint8_t, sizeof(handle)> message;
    Result<sys::Received> received = out_.Receive(message);
    // Anything that is not as Send() wrote it ends the pass: nothing of use follows.
    if (!received.has_value() || received->bytes != message.size() || received->fds.size() != 1) {
      break;
    }
    memcpy(&handle, message.data(), sizeof(handle));
    files.insert_or_assign(handle, std::move(received->fds[0]));
  }
  kept_ = 0;
  return files;
}

bool UnnamedStore::Put(uint64_t handle, sys::BorrowedFd file) {
  MutexLock lock(mutex_);
  if (!in_.valid() || kept_ >= kMaxKept) return false;
  return Send(handle, file);
}

void UnnamedStore::Remove(uint64_t handle) {
  MutexLock lock(mutex_);
  if (kept_ == 0) return;
  for (const auto& [other, file] : Drain()) {
    if (other != handle && !Send(other, file)) LOG_DEBUG("handle {} is no longer kept", other);
  }
}

std::map<uint64_t, sys::UniqueFd> UnnamedStore::TakeAll() {
  MutexLock lock(mutex_);
  if (!out_.valid()) return {};
  return Drain();
}

}  // namespace crosvm::shared_dir
