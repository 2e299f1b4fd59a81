#include "devices/fs/open_files.h"

#include <fcntl.h>

#include "base/log.h"

namespace crosvm::devices::fs {

using shared_dir::OkOrErrno;
using shared_dir::OrErrno;
using shared_dir::Refuse;

OpenFiles::OpenFiles(shared_dir::Share& share, SessionState& session,
                     shared_dir::UnnamedStore& unnamed, uint32_t max_open)
    : share_(share),
      session_(session),
      unnamed_(unnamed),
      max_open_(max_open / kShards * kShards),
      slots_(max_open_) {
  Recover();
}

OpenFiles::~OpenFiles() = default;

void OpenFiles::Recover() {
  std::map<uint64_t, sys::UniqueFd> unnamed = unnamed_.Recover();
  const std::span<OpenRecord> records = session_.open_files();
  for (uint32_t index = 0; index < max_open_; ++index) {
    Shard& shard = shards_[index % kShards];
    MutexLock lock(shard.mutex);
    OpenRecord& record = records[index];
    if (record.in_use != 1) {
      if (record.generation != 0) shard.free.push_back(index);
      if (record.generation != 0) shard.fresh = index / kShards + 1;
      continue;
    }
    shard.fresh = index / kShards + 1;
    const uint64_t handle = HandleOf(record, index);
    const auto entry = unnamed.find(handle);
    if (entry != unnamed.end() && share_.IsFile(record.node, entry->second)) {
      Insert(slots_[index], record, std::move(entry->second));
      slots_[index].unnamed = true;
      unnamed.erase(entry);
    } else {
      // A rename that the predecessor did not live to note is put right once its request comes
      // again; then Get() will find the file.
      (void)OpenAgain(slots_[index], record);
    }
  }
  // Closed by the predecessor, which did not live to drop them.
  for (const auto& [handle, file] : unnamed) unnamed_.Remove(handle);
}

OkOrErrno OpenFiles::OpenAgain(Slot& slot, const OpenRecord& record) {
  const int flags = static_cast<int>(record.flags) & ~(O_TRUNC | O_EXCL | O_CREAT);
  Insert(slot, record,
         TRY(share_.Open(record.node, flags | (record.is_directory != 0 ? O_DIRECTORY : 0))));
  return {};
}

void OpenFiles::Insert(Slot& slot, const OpenRecord& record, sys::UniqueFd file) {
  auto open = std::make_shared<OpenFile>();
  open->file = std::make_shared<const sys::UniqueFd>(std::move(file));
  open->node = record.node;
  open->is_directory = record.is_directory != 0;
  share_.AddOpen(record.node, open->file);
  slot.file = std::move(open);
}

OrErrno<uint64_t> OpenFiles::Add(shared_dir::NodeId node, sys::UniqueFd file, int flags,
                                 bool is_directory) {
  // ORDERING: any spread will do.
  const uint32_t first = next_shard_.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t attempt = 0; attempt < kShards; ++attempt) {
    const uint32_t number = (first + attempt) % kShards;
    Shard& shard = shards_[number];
    MutexLock lock(shard.mutex);
    uint32_t index = 0;
    if (!shard.free.empty()) {
      index = shard.free.back();
      shard.free.pop_back();
    } else if (shard.fresh < max_open_ / kShards) {
      index = shard.fresh++ * kShards + number;
    } else {
      continue;
    }
    OpenRecord& record = session_.open_files()[index];
    ++record.generation;
    if (record.generation == 0) record.generation = 1;
    record.node = node;
    record.flags = static_cast<uint32_t>(flags);
    record.is_directory = is_directory ? 1 : 0;
    // ORDERING: against this process' death alone.
    std::atomic_signal_fence(std::memory_order_release);
    record.in_use = 1;
    Insert(slots_[index], record, std::move(file));
    return HandleOf(record, index);
  }
  return Refuse(ENFILE);
}

OpenFiles::Slot* OpenFiles::Validate(uint64_t handle) {
  const auto number = static_cast<uint32_t>(handle);
  if (number == 0 || number > max_open_) return nullptr;
  const OpenRecord& record = session_.open_files()[number - 1];
  return record.in_use == 1 && record.generation == handle >> 32 ? &slots_[number - 1] : nullptr;
}

OrErrno<std::shared_ptr<OpenFile>> OpenFiles::Get(uint64_t handle) {
  MutexLock lock(ShardOf(handle).mutex);
  Slot* const slot = Validate(handle);
  if (slot == nullptr) return Refuse(EBADF);
  if (!slot->file) {
    const OpenRecord& record = session_.open_files()[static_cast<uint32_t>(handle) - 1];
    const OkOrErrno opened = OpenAgain(*slot, record);
    if (!opened.has_value()) {
      LOG_WARN_EVERY(std::chrono::seconds(1), "an open file of the guest is lost: {}",
                     strerrordesc_np(opened.error().value));
      return Refuse(EBADF);
    }
  }
  return slot->file;
}

void OpenFiles::Remove(uint64_t handle) {
  std::shared_ptr<OpenFile> closed;  // outside the lock
  bool unnamed = false;
  {
    Shard& shard = ShardOf(handle);
    MutexLock lock(shard.mutex);
    Slot* const slot = Validate(handle);
    if (slot == nullptr) return;
    const uint32_t index = static_cast<uint32_t>(handle) - 1;
    session_.open_files()[index].in_use = 0;
    closed = std::move(slot->file);
    slot->file.reset();
    unnamed = std::exchange(slot->unnamed, false);
    shard.free.push_back(index);
  }
  if (closed) share_.RemoveOpen(closed->node, closed->file);
  if (unnamed) unnamed_.Remove(handle);
}

template <typename Do>
void OpenFiles::ForEachOpen(uint32_t number, Do work) {
  for (uint32_t row = 0; row < shards_[number].fresh; ++row) {
    const uint32_t index = row * kShards + number;
    const OpenRecord& record = session_.open_files()[index];
    if (record.in_use == 1) work(HandleOf(record, index), record, slots_[index]);
  }
}

void OpenFiles::RemoveAll() {
  for (uint32_t number = 0; number < kShards; ++number) {
    std::vector<uint64_t> handles;
    {
      MutexLock lock(shards_[number].mutex);
      ForEachOpen(number, [&](uint64_t handle, const OpenRecord&, const Slot&) {
        handles.push_back(handle);
      });
    }
    for (const uint64_t handle : handles) Remove(handle);
  }
}

void OpenFiles::LosesName(shared_dir::NodeId node) {
  // Rare: somebody deletes what is open. The table is small beside what the host then does.
  for (uint32_t number = 0; number < kShards; ++number) {
    MutexLock lock(shards_[number].mutex);
    ForEachOpen(number, [&](uint64_t handle, const OpenRecord& record, Slot& slot) {
      if (record.node != node || !slot.file || slot.unnamed) return;
      slot.unnamed = unnamed_.Put(handle, slot.file->fd());
    });
  }
}

}  // namespace crosvm::devices::fs
