#include "devices/p9/fid.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "base/check.h"

namespace crosvm::devices::p9 {
namespace {

// What counts of a predecessor's flags when a file is opened again.
constexpr int kReopenFlags = O_ACCMODE | O_SYNC | O_DSYNC | O_DIRECTORY;

// In a record, in the place of flags: not open, and an extended attribute is being written by it.
constexpr int32_t kWritesXattr = -2;

}  // namespace

OrErrno<Budget::Lease> Budget::Lend(uint64_t amount) {
  const uint64_t before = used_.fetch_add(amount, std::memory_order_relaxed);
  Lease lease(*this, amount);
  if (before + amount > limit_) return Refuse(error_);
  return lease;
}

Fid::~Fid() {
  if (file_ != nullptr) share_.RemoveOpen(node_, file_);
  share_.Forget(node_, 1);
}

bool Fid::open() const {
  const MutexLock lock(file_mutex_);
  return open_flags_ >= 0;
}

int Fid::open_flags() const {
  const MutexLock lock(file_mutex_);
  return open_flags_;
}

bool Fid::SetOpen(sys::UniqueFd file, Budget::Lease lease, int flags) {
  auto shared = std::make_shared<const sys::UniqueFd>(std::move(file));
  const MutexLock lock(file_mutex_);
  if (open_flags_ >= 0) return false;
  file_ = std::move(shared);
  lease_ = std::move(lease);
  open_flags_ = flags;
  share_.AddOpen(node_, file_);
  return true;
}

void Fid::SetOpenLater(std::optional<Budget::Lease> lease, int flags) {
  const MutexLock lock(file_mutex_);
  lease_ = std::move(lease);
  open_flags_ = flags;
}

OrErrno<shared_dir::Descriptor> Fid::File() {
  const MutexLock lock(file_mutex_);
  if (open_flags_ < 0) return Refuse(EBADF);
  if (file_ == nullptr) {
    if (!lease_) lease_ = TRY(budget_.Lend());
    sys::UniqueFd again = TRY(share_.Open(node_, open_flags_ & kReopenFlags));
    file_ = std::make_shared<const sys::UniqueFd>(std::move(again));
    share_.AddOpen(node_, file_);
  }
  return file_;
}

shared_dir::Descriptor Fid::FileIfOpen() {
  OrErrno<shared_dir::Descriptor> file = File();
  return file.has_value() ? std::move(*file) : nullptr;
}

// --- the table -----------------------------------------------------------------------------------

// The layout is private to one version of the program: device and successor are the same binary.
struct FidTable::Header {
  uint32_t message_size;
  uint32_t used_rows;  // rows from here on were never used
  uint32_t device_count;
  uint32_t reserved;
  uint64_t devices[kMaxDevices];
};

struct FidTable::Record {
  uint64_t node;
  uint64_t from;  // the node that it has been walked away from; 0: none
  uint32_t number;
  uint32_t user;
  int32_t open_flags;  // -1: not open; kWritesXattr
  uint32_t live;       // written last
};

uint64_t FidTable::StateBytes() {
  constexpr uint64_t kPage = 4096;
  return (sizeof(Header) + uint64_t{kMaxFids} * sizeof(Record) + kPage - 1) / kPage * kPage;
}

FidTable::FidTable(shared_dir::Share& share, Budget& budget, shared_dir::UnnamedStore& unnamed,
                   sys::MappedRegion region)
    : share_(share), budget_(budget), unnamed_(unnamed), region_(std::move(region)) {
}

Result<std::unique_ptr<FidTable>> FidTable::Create(shared_dir::Share& share, Budget& budget,
                                                   shared_dir::UnnamedStore& unnamed,
                                                   sys::BorrowedFd state) {
  sys::MappedRegion region =
      TRY_CONTEXT(sys::MappedRegion::Shared(state, 0, StateBytes(), sys::MapAccess::kReadWrite),
                  "mapping the table of fids");
  std::unique_ptr<FidTable> table(new FidTable(share, budget, unnamed, std::move(region)));
  table->Recover();
  return table;
}

FidTable::Header& FidTable::header() const {
  // SAFETY: the region is page-aligned and large enough.
  return *reinterpret_cast<Header*>(region_.data());
}

FidTable::Record& FidTable::At(uint32_t row) const {
  CHECK(row < kMaxFids);
  static_assert(sizeof(Header) % alignof(Record) == 0);
  // SAFETY: within the region, and aligned: the header's size is a multiple of a record's
  // alignment.
  return reinterpret_cast<Record*>(region_.data() + sizeof(Header))[row];
}

// TRUST: a predecessor that was taken over may have left anything here. Nodes are numbers that the
// share checks; a number that is taken twice loses the second.
void FidTable::Recover() {
  const MutexLock lock(mutex_);
  std::map<uint64_t, sys::UniqueFd> unnamed = unnamed_.Recover();
  const uint32_t used = std::min(header().used_rows, kMaxFids);
  header().used_rows = used;
  for (uint32_t row = 0; row < used; ++row) {
    Record& record = At(row);
    const bool wanted = record.live == 1 && record.number != UINT32_MAX &&
                        !fids_.contains(record.number) && share_.TypeOf(record.node).has_value();
    if (!wanted) {
      record.live = 0;
      free_.push_back(row);
      continue;
    }
    // The reference that the predecessor's fid held is this one's.
    auto fid = std::make_shared<Fid>(share_, budget_, record.node, record.user);
    Entry entry{.fid = fid, .row = row};
    if (record.open_flags >= 0) {
      // What the predecessor had open counts from the start.
      OrErrno<Budget::Lease> lent = budget_.Lend();
      std::optional<Budget::Lease> lease;
      if (lent.has_value()) lease = std::move(*lent);
      const auto kept = unnamed.find(record.number);
      if (kept != unnamed.end() && lease && share_.IsFile(record.node, kept->second)) {
        entry.unnamed = true;
        fid->SetOpen(std::move(kept->second), *std::move(lease), record.open_flags);
        unnamed.erase(kept);
      } else {
        fid->SetOpenLater(std::move(lease), record.open_flags);
      }
    } else if (record.open_flags == kWritesXattr) {
      const MutexLock fid_lock(fid->mutex);
      fid->xattr_lost = true;
    }
    fids_.emplace(record.number, std::move(entry));
  }
  // Of fids that the predecessor took away, and did not live to drop them here.
  for (const auto& [number, file] : unnamed) unnamed_.Remove(number);
}

std::optional<uint32_t> FidTable::Allocate() {
  if (!free_.empty()) {
    const uint32_t row = free_.back();
    free_.pop_back();
    return row;
  }
  if (header().used_rows >= kMaxFids) return std::nullopt;
  return header().used_rows++;
}

void FidTable::Write(uint32_t row, uint32_t number, const Fid& fid, NodeId from) {
  Record& record = At(row);
  record.live = 0;
  // ORDERING: against this process' death alone, so the compiler's order is all that matters.
  std::atomic_signal_fence(std::memory_order_release);
  record.node = fid.node();
  record.from = from;
  record.number = number;
  record.user = fid.user();
  record.open_flags = fid.open_flags();
  // ORDERING: as above.
  std::atomic_signal_fence(std::memory_order_release);
  record.live = 1;
}

std::shared_ptr<Fid> FidTable::Find(uint32_t number) {
  const MutexLock lock(mutex_);
  const auto found = fids_.find(number);
  return found == fids_.end() ? nullptr : found->second.fid;
}

OkOrErrno FidTable::Insert(uint32_t number, std::shared_ptr<Fid> fid) {
  const MutexLock lock(mutex_);
  if (number == UINT32_MAX || fids_.contains(number)) return Refuse(EBADF);
  const std::optional<uint32_t> row = Allocate();
  if (!row) return Refuse(ENFILE);
  Write(*row, number, *fid, 0);
  fids_.emplace(number, Entry{.fid = std::move(fid), .row = *row});
  return {};
}

OkOrErrno FidTable::Replace(uint32_t number, std::shared_ptr<Fid> fid, NodeId from) {
  {
    const MutexLock lock(mutex_);
    if (const auto found = fids_.find(number); found != fids_.end()) {
      // Until the new record is whole a successor finds the old one, and then either.
      const std::optional<uint32_t> row = Allocate();
      Write(row.value_or(found->second.row), number, *fid, from);
      if (row) {
        // ORDERING: as in Write().
        std::atomic_signal_fence(std::memory_order_release);
        At(found->second.row).live = 0;
        free_.push_back(std::exchange(found->second.row, *row));
      }
      if (std::exchange(found->second.unnamed, false)) unnamed_.Remove(number);
      std::swap(found->second.fid, fid);
      return {};  // what was there goes after the lock
    }
  }
  return Insert(number, std::move(fid));
}

NodeId FidTable::WalkedFrom(uint32_t number) {
  const MutexLock lock(mutex_);
  const auto found = fids_.find(number);
  return found == fids_.end() ? 0 : At(found->second.row).from;
}

void FidTable::ForgetWalk(uint32_t number) {
  const MutexLock lock(mutex_);
  const auto found = fids_.find(number);
  if (found != fids_.end()) At(found->second.row).from = 0;
}

void FidTable::RecordOpen(uint32_t number, int flags) {
  const MutexLock lock(mutex_);
  const auto found = fids_.find(number);
  if (found != fids_.end()) At(found->second.row).open_flags = flags;
}

void FidTable::RecordXattr(uint32_t number) {
  RecordOpen(number, kWritesXattr);
}

void FidTable::KeepUnnamed(NodeId node) {
  const MutexLock lock(mutex_);
  for (auto& [number, entry] : fids_) {
    if (entry.fid->node() != node || entry.unnamed || !entry.fid->open()) continue;
    const shared_dir::Descriptor file = entry.fid->FileIfOpen();
    entry.unnamed = file != nullptr && unnamed_.Put(number, *file);
  }
}

bool FidTable::Remove(uint32_t number, const Fid& fid) {
  std::shared_ptr<Fid> removed;  // goes after the lock
  const MutexLock lock(mutex_);
  const auto found = fids_.find(number);
  if (found == fids_.end() || found->second.fid.get() != &fid) return false;
  removed = std::move(found->second.fid);
  At(found->second.row).live = 0;
  free_.push_back(found->second.row);
  if (found->second.unnamed) unnamed_.Remove(number);
  fids_.erase(found);
  return true;
}

void FidTable::Clear() {
  std::unordered_map<uint32_t, Entry> all;  // outside the lock
  const MutexLock lock(mutex_);
  all.swap(fids_);
  for (const auto& [number, entry] : all) At(entry.row).live = 0;
  free_.clear();
  header().used_rows = 0;
  unnamed_.Clear();
}

size_t FidTable::size() {
  const MutexLock lock(mutex_);
  return fids_.size();
}

uint32_t FidTable::DeviceIndex(uint64_t device) {
  const MutexLock lock(devices_mutex_);
  Header& known = header();
  // TRUST: a predecessor's count.
  const uint32_t count = std::min(known.device_count, kMaxDevices);
  const auto index = static_cast<uint32_t>(std::find(known.devices, known.devices + count, device) -
                                           known.devices);
  if (index < count) return index;
  if (count == kMaxDevices) return kMaxDevices - 1;
  known.devices[count] = device;
  // ORDERING: against this process' death alone.
  std::atomic_signal_fence(std::memory_order_release);
  known.device_count = count + 1;
  return count;
}

uint32_t FidTable::message_size() const {
  return header().message_size;
}

void FidTable::SetMessageSize(uint32_t bytes) {
  header().message_size = bytes;
}

}  // namespace crosvm::devices::p9
