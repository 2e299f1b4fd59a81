// The shared memory of a device (virtio 1.2, 2.10) as the VMM holds it: BAR 4 of its PCI function,
// into which the device process has files mapped. Made by the owner of the transport, which places
// and clears it; the vhost-user front-end maps and unmaps on behalf of the device process.
//
// A reservation of address space, as long as the regions together, is a memory slot of the VM
// wherever the guest has placed the BAR. Parts of it are replaced by mappings of files and back;
// the guest's accesses never come to the VMM. It is not guest memory: no ring, buffer or table of
// the guest can lie in it, and no device process has it.
//
// Where no file is mapped the guest reads zeroes and must not write. A guest that writes there, or
// into a mapping that is for reading, or touches what a file no longer has (it was made shorter on
// the host) has an access that the host cannot carry out. KVM then takes the page for one that is
// still on its way: the vCPU, or in guest user space the task, tries again until there is something
// (async page faults, with no way to tell it otherwise). Where it cannot wait, as with interrupts
// off, KVM_RUN fails with EFAULT.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "hypervisor/vm.h"
#include "sys/mapped_region.h"
#include "virtio/device.h"

namespace crosvm::virtio {

// Thread-safe; calls never wait for the device or the guest.
class SharedMemory {
 public:
  // Page-aligned regions of distinct ids, of more than no bytes, one after the other in the BAR.
  // `vm` outlives it. `name` is the device's, for messages.
  static Result<std::shared_ptr<SharedMemory>> Create(hypervisor::Vm& vm, std::string name,
                                                      std::vector<SharedMemoryRegion> regions);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::span<const SharedMemoryRegion> regions() const { return regions_; }

  // The BAR is at this guest address now, or nowhere.
  void Place(std::optional<uint64_t> base);

  // TRUST: both take what a device process says. Maps [file_offset, file_offset + range.length) of
  // a regular file, which must not reach beyond what off_t can say but may reach beyond the file's
  // end. A range that is mapped already can be mapped anew as a whole (the file, its offset and
  // `writable` may differ; the guest meets the one or the other), but not a part of it.
  Status Map(const SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
             bool writable);
  // Whole mappings, none or many; ranges without a mapping are left as they are.
  Status Unmap(const SharedMemoryRange& range);
  // Device reset: unmaps everything.
  void Clear();

  size_t mapping_count() const;
  // Tests read through it what a guest would.
  const uint8_t* data() const { return reservation_.data(); }

 private:
  SharedMemory(hypervisor::Vm& vm, std::string name, std::vector<SharedMemoryRegion> regions,
               sys::MappedRegion reservation);
  // The range's offset in the reservation.
  Result<uint64_t> Check(const SharedMemoryRange& range) const;
  // Whether a mapping starts before this offset and ends behind it.
  bool Cuts(uint64_t at) const CROSVM_REQUIRES(mutex_);
  Status Release(uint64_t begin, uint64_t end) CROSVM_REQUIRES(mutex_);

  hypervisor::Vm& vm_;
  const std::string name_;
  const std::vector<SharedMemoryRegion> regions_;

  mutable Mutex mutex_;
  sys::MappedRegion reservation_;
  std::map<uint64_t, uint64_t> mappings_ CROSVM_GUARDED_BY(mutex_);  // offset to length
  std::optional<hypervisor::MemorySlot> slot_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::virtio
