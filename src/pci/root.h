// PCI bus 0: which function is where, configuration accesses, and the BARs' places on the MMIO and
// I/O buses. One per VM. Thread-safe: vCPUs access configuration space, the main thread adds and
// removes functions.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/bus.h"
#include "pci/address.h"
#include "pci/function.h"
#include "resources/address_allocator.h"

namespace crosvm::pci {

// What the host bridge passes on. A BAR that the guest puts elsewhere (over RAM, the interrupt
// controllers) is not decoded at all.
struct Windows {
  std::vector<resources::AddressRange> memory;
  std::vector<resources::AddressRange> io;
};

class Root {
 public:
  // The buses outlive the Root.
  Root(bus::Bus& mmio, bus::Bus& io, Windows windows);
  ~Root();

  // kAlreadyExists when something is there, kInvalidArgument for another bus than 0.
  Status Add(Address address, std::shared_ptr<Function> function);
  // Takes the function off its buses; the caller drops the last reference. kNotFound when nothing
  // is there.
  Result<std::shared_ptr<Function>> Remove(Address address);
  std::vector<std::pair<Address, std::shared_ptr<Function>>> functions() const;

  // TRUST: any address, offset and length. A missing function reads as all ones and ignores writes.
  void ReadConfig(Address address, uint32_t offset, std::span<uint8_t> data);
  void WriteConfig(Address address, uint32_t offset, std::span<const uint8_t> data);

 private:
  // Where one BAR wants to be and whether it got there: two BARs may want one place for a moment
  // while the guest rearranges them.
  struct Placement {
    std::optional<uint64_t> wanted;
    bool mapped = false;
    uint64_t base = 0;  // while mapped
  };
  struct Slot {
    std::shared_ptr<Function> function;
    Mutex mutex;  // configuration space; taken before map_mutex_
    bool removed CROSVM_GUARDED_BY(mutex) = false;
    std::array<Placement, kBarCount> placements;  // guarded by Root::map_mutex_
  };

  std::shared_ptr<Slot> Find(Address address) const;
  bool IsMultiFunction(Address address) const;
  void Apply(Slot& slot, const BarChanges& changes);
  void Unmap(Slot& slot, uint8_t bar) CROSVM_REQUIRES(map_mutex_);
  void TryMap(Slot& slot, uint8_t bar) CROSVM_REQUIRES(map_mutex_);
  void RetryUnmapped() CROSVM_REQUIRES(map_mutex_);
  bool InWindow(const BarSpec& spec, uint64_t base) const;
  bus::Bus& BusOf(const BarSpec& spec) const;

  bus::Bus& mmio_;
  bus::Bus& io_;
  const Windows windows_;

  // Order: a slot's mutex, map_mutex_, then locks of devices; slots_mutex_ is a leaf.
  mutable Mutex slots_mutex_;
  std::map<Address, std::shared_ptr<Slot>> slots_ CROSVM_GUARDED_BY(slots_mutex_);
  Mutex map_mutex_;
};

// Programs every BAR of `function` with a place of its own: 32-bit memory from `low`, 64-bit from
// `high`, I/O from `io` (null: such BARs are refused). `tag` names the owner in the allocators:
// "00:03.0". Before Root::Add().
Status AssignBars(Function& function, resources::AddressAllocator* low,
                  resources::AddressAllocator* high, resources::AddressAllocator* io,
                  const std::string& tag);
// Gives back what AssignBars() took; the guest may have moved the BARs since, so it goes by the
// tag.
void ReleaseBars(const std::string& tag, resources::AddressAllocator& allocator);

// The function at 00:00.0. Q35's identity: unlike the 440FX's it makes Linux apply no quirk, and it
// is one that has ECAM.
std::shared_ptr<Function> MakeHostBridge();

}  // namespace crosvm::pci
