// A PCI function: configuration space, BARs, and the hooks by which a device takes part. The virtio
// transport, xHCI, VFIO derive from it. Lives in the VMM.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "bus/device.h"
#include "pci/config_space.h"
#include "pci/interrupts.h"

namespace crosvm::pci {

// Set up by its creator, then added to a Root, which calls ReadConfig, WriteConfig and the hooks
// under a lock of its own for this function, on vCPU threads. Hooks may take locks of the device;
// the device must not hold those while it calls the Root.
class Function {
 public:
  // `name` appears in messages: "block[0]".
  Function(std::string name, const Identity& identity);
  virtual ~Function();
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;

  const std::string& name() const { return name_; }
  // For set-up, before the function is added to a Root.
  ConfigSpace& config() { return config_; }
  const ConfigSpace& config() const { return config_; }

  // The 4 KiB of configuration space; from 256 on they read as zero. TRUST: any offset and length.
  void ReadConfig(uint32_t offset, std::span<uint8_t> data);
  BarChanges WriteConfig(uint32_t offset, std::span<const uint8_t> data);

  // What answers in the range of a BAR. Null: nothing in user space (memory that is mapped into the
  // guest by OnBarMoved); the range then reads as all ones until it is.
  virtual std::shared_ptr<bus::Device> BarDevice(uint8_t bar);
  // The range of the BAR is now on its bus at `base`, or nowhere. ioeventfds and memory slots move
  // here.
  virtual void OnBarMoved(uint8_t bar, std::optional<uint64_t> base);

 protected:
  // Adds the MSI-X capability and routes its control bits and INTx-disable to `interrupts`.
  Status AddMsix(std::shared_ptr<Interrupts> interrupts, uint8_t bar, uint32_t table_offset,
                 uint32_t pending_offset);
  // After the plain read: a chance to replace bytes whose value is made when read.
  virtual void OnConfigRead(uint32_t offset, std::span<uint8_t> data);
  // After the registers have changed.
  virtual void OnConfigWritten(uint32_t offset, std::span<const uint8_t> data);

 private:
  const std::string name_;
  ConfigSpace config_;
  std::shared_ptr<Interrupts> interrupts_;
  uint8_t msix_capability_ = 0;
};

}  // namespace crosvm::pci
