// An address space (port I/O or MMIO) with devices in it. Ranges may come and go while vCPUs run:
// BARs move.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/device.h"

namespace crosvm::bus {

class Bus {
 public:
  // `name` appears in errors: "I/O ports", "MMIO".
  explicit Bus(std::string name);

  // The device is kept alive while it is mapped. Overlaps are refused (kAlreadyExists, naming
  // both).
  Status Insert(std::shared_ptr<Device> device, uint64_t base, uint64_t length);
  // A call that is already inside the device may still finish afterwards; the device lives until
  // then. May be called from inside the device's own Read or Write.
  Status Remove(uint64_t base);

  // An access that no range holds wholly reads as all ones and writes nowhere; the result says
  // whether one did.
  bool Read(uint64_t address, std::span<uint8_t> data) const;
  bool Write(uint64_t address, std::span<const uint8_t> data) const;

 private:
  struct Mapping {
    uint64_t length;
    std::shared_ptr<Device> device;
  };
  std::shared_ptr<Device> Find(uint64_t address, uint64_t size, uint64_t& offset) const;

  const std::string name_;
  // Not a reader-writer lock: those of glibc let busy readers (a guest's vCPUs) starve a writer for
  // ever.
  mutable Mutex mutex_;
  std::map<uint64_t, Mapping> mappings_ CROSVM_GUARDED_BY(mutex_);
};

}  // namespace crosvm::bus
