// How the guest reaches configuration space: mechanism #1 (I/O ports 0xcf8 to 0xcff) and ECAM
// (memory-mapped, 4 KiB a function). Both are bus devices over one Root; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/mutex.h"
#include "bus/device.h"
#include "pci/root.h"

namespace crosvm::pci {

inline constexpr uint64_t kMechanism1Port = 0xcf8;
inline constexpr uint64_t kMechanism1Length = 8;
// One bus. The window is as long as the MCFG table says: bus 0 alone.
inline constexpr uint64_t kEcamBytesPerBus = uint64_t{1} << 20;

class Mechanism1 final : public bus::Device {
 public:
  explicit Mechanism1(std::shared_ptr<Root> root) : root_(std::move(root)) {}

  std::string_view name() const override { return "PCI configuration ports"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  struct Target {
    bool enabled;
    Address address;
    uint32_t offset;
  };
  Target Decode(uint64_t port_offset);

  const std::shared_ptr<Root> root_;
  Mutex mutex_;
  uint32_t config_address_ CROSVM_GUARDED_BY(mutex_) = 0;
};

class Ecam final : public bus::Device {
 public:
  explicit Ecam(std::shared_ptr<Root> root) : root_(std::move(root)) {}

  std::string_view name() const override { return "PCI ECAM"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

 private:
  const std::shared_ptr<Root> root_;
};

}  // namespace crosvm::pci
