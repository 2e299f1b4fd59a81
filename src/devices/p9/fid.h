// What the client holds by number ("fids"): a file of the share, maybe open, or an extended
// attribute that is being read or written. The numbers, the files and the way they are open lie in
// memory that outlives the device process, so that a successor serves the same fids; descriptors
// are opened again when they are needed first.
//
// Safe from every thread. A request holds its fid by a shared pointer, so a clunk beside it does
// no harm: what the fid has is given back with the last pointer.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "shared_dir/share.h"
#include "shared_dir/unnamed_store.h"
#include "sys/mapped_region.h"

namespace crosvm::devices::p9 {

using shared_dir::NodeId;
using shared_dir::OkOrErrno;
using shared_dir::OrErrno;
using shared_dir::Refuse;

// How much there may be of what the guest decides how much there is of. Outlives its leases.
class Budget {
 public:
  // `error` is for who comes when it is used up.
  Budget(uint64_t limit, int error) : limit_(limit), error_(error) {}

  // A part of it, for as long as it lives.
  class Lease {
   public:
    Lease(Budget& budget, uint64_t amount) : budget_(&budget), amount_(amount) {}
    ~Lease() {
      if (budget_ != nullptr) budget_->used_.fetch_sub(amount_, std::memory_order_relaxed);
    }
    Lease(Lease&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), amount_(other.amount_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(amount_, other.amount_);
      return *this;
    }

   private:
    Budget* budget_;
    uint64_t amount_;
  };
  OrErrno<Lease> Lend(uint64_t amount = 1);

 private:
  const uint64_t limit_;
  const int error_;
  std::atomic<uint64_t> used_{0};  // ORDERING: relaxed everywhere, a count on its own
};

// Of an extended attribute: its name, and the bytes of it that are there.
struct Xattr {
  // Of all that are being read or written together.
  static constexpr uint64_t kMaxBytes = 16 << 20;

  // What this is, holds and is to hold.
  uint64_t bytes() const {
    return sizeof(Xattr) + name.size() + std::max<uint64_t>(value.size(), announced);
  }

  std::optional<Budget::Lease> lease;
  std::string name;
  std::vector<char> value;
  uint64_t announced = 0;  // to be written: bytes that the client has promised
  int flags = 0;           // to be written: XATTR_CREATE, XATTR_REPLACE
  bool writing = false;
};

class Fid {
 public:
  // Takes over one reference on the node.
  Fid(shared_dir::Share& share, Budget& budget, NodeId node, uint32_t user)
      : share_(share), budget_(budget), node_(node), user_(user) {}
  ~Fid();
  Fid(const Fid&) = delete;
  Fid& operator=(const Fid&) = delete;

  NodeId node() const { return node_; }
  uint32_t user() const { return user_; }  // of the guest; kNoUser: nobody in particular

  bool open() const;
  int open_flags() const;
  // It is open from now on. False when it was before, by a request beside this one.
  bool SetOpen(sys::UniqueFd file, Budget::Lease lease, int flags);
  // As SetOpen(), by a predecessor: the file is opened when it is needed.
  void SetOpenLater(std::optional<Budget::Lease> lease, int flags);
  // EBADF when it is not open.
  OrErrno<shared_dir::Descriptor> File();
  // Null when it is not open (or could not be opened again).
  shared_dir::Descriptor FileIfOpen();

  Mutex mutex;
  std::unique_ptr<Xattr> xattr CROSVM_GUARDED_BY(mutex);
  // A predecessor was given an attribute to write, or a part of it, and died before it did.
  bool xattr_lost CROSVM_GUARDED_BY(mutex) = false;
  // Readers of a directory go one after the other: the position belongs to the open file.
  Mutex directory_mutex;

 private:
  shared_dir::Share& share_;
  Budget& budget_;
  const NodeId node_;
  const uint32_t user_;
  mutable Mutex file_mutex_;
  shared_dir::Descriptor file_ CROSVM_GUARDED_BY(file_mutex_);
  std::optional<Budget::Lease> lease_ CROSVM_GUARDED_BY(file_mutex_);
  int open_flags_ CROSVM_GUARDED_BY(file_mutex_) = -1;
};

class FidTable {
 public:
  // A client has one fid for each file that it remembers, so the bound is generous.
  static constexpr uint32_t kMaxFids = 1U << 20;
  static constexpr uint32_t kMaxDevices = 4096;
  static uint64_t StateBytes();

  // Takes over the fids in `state` (all zero: none), a sealed memfd of StateBytes(), and what
  // `unnamed` has of them. Entries that make no sense are dropped. All three outlive the table.
  static Result<std::unique_ptr<FidTable>> Create(shared_dir::Share& share, Budget& budget,
                                                  shared_dir::UnnamedStore& unnamed,
                                                  sys::BorrowedFd state);

  // Null when there is no such fid.
  std::shared_ptr<Fid> Find(uint32_t number);
  // EBADF when the number is taken, ENFILE when there are too many.
  OkOrErrno Insert(uint32_t number, std::shared_ptr<Fid> fid);
  // Insert(), or in the place of the fid that has the number. `from`: the node that it has been
  // walked away from, for a successor.
  OkOrErrno Replace(uint32_t number, std::shared_ptr<Fid> fid, NodeId from = 0);
  // As the last Replace() said; 0: it did not, or ForgetWalk() came after it.
  NodeId WalkedFrom(uint32_t number);
  void ForgetWalk(uint32_t number);
  // For a successor: the fid is open, so.
  void RecordOpen(uint32_t number, int flags);
  // For a successor: an extended attribute is being written by it.
  void RecordXattr(uint32_t number);
  // The node loses its name: what is open of it is kept for a successor.
  void KeepUnnamed(NodeId node);
  // False when the number is not, or no longer, this fid's.
  bool Remove(uint32_t number, const Fid& fid);
  void Clear();
  size_t size();

  // The number of a device of the host, the same for every successor; of more than kMaxDevices the
  // last is shared.
  uint32_t DeviceIndex(uint64_t device);

  // The session's message size, kept for a successor; 0: no session.
  uint32_t message_size() const;
  void SetMessageSize(uint32_t bytes);

 private:
  struct Header;
  struct Record;
  struct Entry {
    std::shared_ptr<Fid> fid;
    uint32_t row = 0;
    bool unnamed = false;  // in the store
  };

  FidTable(shared_dir::Share& share, Budget& budget, shared_dir::UnnamedStore& unnamed,
           sys::MappedRegion region);
  void Recover();
  Header& header() const;
  Record& At(uint32_t row) const;
  std::optional<uint32_t> Allocate() CROSVM_REQUIRES(mutex_);
  void Write(uint32_t row, uint32_t number, const Fid& fid, NodeId from) CROSVM_REQUIRES(mutex_);

  shared_dir::Share& share_;
  Budget& budget_;
  shared_dir::UnnamedStore& unnamed_;
  sys::MappedRegion region_;
  Mutex devices_mutex_;  // of the header's devices
  Mutex mutex_;
  std::unordered_map<uint32_t, Entry> fids_ CROSVM_GUARDED_BY(mutex_);
  std::vector<uint32_t> free_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::devices::p9
