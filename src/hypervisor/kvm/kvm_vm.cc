#include "hypervisor/kvm/kvm_vm.h"

#include <utility>

#include "base/checked_math.h"
#include "hypervisor/kvm/ioctl.h"

namespace crosvm::hypervisor {
namespace {

constexpr uint64_t kPageSize = 4096;

#if defined(__x86_64__)
constexpr bool kIsX86 = true;
#else
constexpr bool kIsX86 = false;
#endif

Result<uint32_t> ChipNumber(IrqChipId chip) {
  switch (chip) {
    case IrqChipId::kPicPrimary:
    case IrqChipId::kPicSecondary:
    case IrqChipId::kIoapic:
      // KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE and _IOAPIC have the enumerators' order.
      if (kIsX86) return static_cast<uint32_t>(chip);
      break;
    case IrqChipId::kGic:
      if (!kIsX86) return 0;
      break;
  }
  return Fail(ErrorKind::kInvalidArgument, "interrupt chip {} does not exist on this architecture",
              static_cast<int>(chip));
}

Result<kvm_irq_routing_entry> ToKernel(const IrqRoute& route) {
  kvm_irq_routing_entry entry{};
  entry.gsi = route.gsi.value();
  if (const auto* pin = std::get_if<IrqChipRoute>(&route.target)) {
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = TRY(ChipNumber(pin->chip));
    entry.u.irqchip.pin = pin->pin;
  } else {
    const auto& msi = std::get<MsiMessage>(route.target);
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(msi.address);
    entry.u.msi.address_hi = static_cast<uint32_t>(msi.address >> 32);
    entry.u.msi.data = msi.data;
  }
  return entry;
}

}  // namespace

Result<std::unique_ptr<KvmVm>> KvmVm::Create(sys::UniqueFd system, sys::UniqueFd vm,
                                             size_t run_size) {
  if (run_size < sizeof(kvm_run)) {
    return Fail(ErrorKind::kInternal, "the kernel's run page has only {} bytes", run_size);
  }
  const int slots = TRY(kvm::Ioctl(vm, KVM_REQUEST(KVM_CHECK_EXTENSION), KVM_CAP_NR_MEMSLOTS));
  std::unique_ptr<KvmVm> result(
      new KvmVm(std::move(system), std::move(vm), run_size, static_cast<uint32_t>(slots)));
#if defined(__x86_64__)
  // Otherwise an instruction that KVM cannot emulate in guest user space becomes a #UD there and
  // nobody ever hears of it.
  if (result->CheckCapability(KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0) {
    TRY(result->EnableCapability(KVM_REQUEST(KVM_CAP_EXIT_ON_EMULATION_FAILURE), 1));
  }
#endif
  return result;
}

Status KvmVm::EnableCapability(uint32_t capability, const char* name, uint64_t argument) {
  kvm_enable_cap request{};
  request.cap = capability;
  request.args[0] = argument;
  return kvm::IoctlSet(vm_, KVM_ENABLE_CAP, name, request);
}

Result<MemorySlot> KvmVm::AddMemory(const MemoryMapping& mapping) {
  if (mapping.size == 0 || !IsAligned(mapping.size, kPageSize) ||
      !IsAligned(mapping.guest.value(), kPageSize) || !IsAligned(mapping.host_address, kPageSize)) {
    return Fail(ErrorKind::kInvalidArgument,
                "memory at {:#x} of {:#x} bytes does not begin and end on a page",
                mapping.guest.value(), mapping.size);
  }
  const MutexLock lock(mutex_);
  // The map is sorted: the first number that it skips is the lowest free one.
  uint32_t slot = 0;
  for (const auto& [number, region] : slots_) {
    if (number != slot) break;
    ++slot;
  }
  if (slot >= slot_limit_) {
    return Fail(ErrorKind::kBusy, "all {} memory slots of the VM are taken", slot_limit_);
  }
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = (mapping.read_only ? KVM_MEM_READONLY : 0U) |
                 (mapping.log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0U);
  region.guest_phys_addr = mapping.guest.value();
  region.memory_size = mapping.size;
  region.userspace_addr = mapping.host_address;
  TRY_CONTEXT(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_USER_MEMORY_REGION), region),
              "adding memory at {:#x} of {:#x} bytes", mapping.guest.value(), mapping.size);
  slots_.emplace(slot, region);
  return MemorySlot(slot);
}

Status KvmVm::RemoveMemory(MemorySlot slot) {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(slot.value());
  if (it == slots_.end()) {
    return Fail(ErrorKind::kNotFound, "memory slot {} is not in use", slot.value());
  }
  kvm_userspace_memory_region region = it->second;
  region.memory_size = 0;
  TRY(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_USER_MEMORY_REGION), region));
  slots_.erase(it);
  return {};
}

Status KvmVm::SetDirtyLogging(MemorySlot slot, bool on) {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(slot.value());
  if (it == slots_.end()) {
    return Fail(ErrorKind::kNotFound, "memory slot {} is not in use", slot.value());
  }
  kvm_userspace_memory_region region = it->second;
  region.flags &= ~uint32_t{KVM_MEM_LOG_DIRTY_PAGES};
  if (on) region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
  TRY(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SET_USER_MEMORY_REGION), region));
  it->second = region;
  return {};
}

Result<std::vector<uint64_t>> KvmVm::TakeDirtyLog(MemorySlot slot) {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(slot.value());
  if (it == slots_.end()) {
    return Fail(ErrorKind::kNotFound, "memory slot {} is not in use", slot.value());
  }
  std::vector<uint64_t> bitmap((it->second.memory_size / kPageSize + 63) / 64);
  kvm_dirty_log log{};
  log.slot = slot.value();
  log.dirty_bitmap = bitmap.data();
  TRY(kvm::IoctlPtr(vm_, KVM_REQUEST(KVM_GET_DIRTY_LOG), &log));
  return bitmap;
}

Status KvmVm::IoEvent(const IoEventAddress& where, const sys::EventFd& event, uint32_t flags) {
  if (where.length == 0 && where.datamatch) {
    return Fail(ErrorKind::kInvalidArgument, "an I/O event for any length cannot match a value");
  }
  kvm_ioeventfd request{};
  request.addr = where.address;
  request.len = where.length;
  request.fd = event.fd().get();
  request.flags = flags;
  if (where.space == AddressSpace::kPortIo) request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  if (where.datamatch) {
    request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
    request.datamatch = *where.datamatch;
  }
  TRY_CONTEXT(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_IOEVENTFD), request), "I/O event at {:#x}",
              where.address);
  return {};
}

Status KvmVm::AddIoEvent(const IoEventAddress& where, const sys::EventFd& event) {
  return IoEvent(where, event, 0);
}

Status KvmVm::RemoveIoEvent(const IoEventAddress& where, const sys::EventFd& event) {
  return IoEvent(where, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Status KvmVm::AddIrqFd(Gsi gsi, const sys::EventFd& event, const sys::EventFd* resample) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event.fd().get());
  request.gsi = gsi.value();
  if (resample != nullptr) {
    request.flags = KVM_IRQFD_FLAG_RESAMPLE;
    request.resamplefd = static_cast<uint32_t>(resample->fd().get());
  }
  TRY_CONTEXT(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_IRQFD), request), "interrupt event of GSI {}",
              gsi.value());
  return {};
}

Status KvmVm::RemoveIrqFd(Gsi gsi, const sys::EventFd& event) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event.fd().get());
  request.gsi = gsi.value();
  request.flags = KVM_IRQFD_FLAG_DEASSIGN;
  TRY_CONTEXT(kvm::IoctlSet(vm_, KVM_REQUEST(KVM_IRQFD), request), "interrupt event of GSI {}",
              gsi.value());
  return {};
}

Status KvmVm::SetIrqRoutes(std::span<const IrqRoute> routes) {
  kvm::HeaderAndArray<kvm_irq_routing, kvm_irq_routing_entry> table(routes.size());
  table.header()->nr = static_cast<uint32_t>(routes.size());
  for (size_t i = 0; i < routes.size(); ++i) {
    table.entries()[i] = TRY(ToKernel(routes[i]));
  }
  TRY_CONTEXT(kvm::IoctlPtr(vm_, KVM_REQUEST(KVM_SET_GSI_ROUTING), table.header()),
              "setting {} interrupt routes", routes.size());
  return {};
}

Status KvmVm::SetIrqLine(Gsi gsi, bool level) {
  kvm_irq_level request{};
  request.irq = gsi.value();
  request.level = level ? 1 : 0;
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_IRQ_LINE), request);
}

Status KvmVm::SignalMsi(const MsiMessage& message) {
  kvm_msi request{};
  request.address_lo = static_cast<uint32_t>(message.address);
  request.address_hi = static_cast<uint32_t>(message.address >> 32);
  request.data = message.data;
  return kvm::IoctlSet(vm_, KVM_REQUEST(KVM_SIGNAL_MSI), request);
}

}  // namespace crosvm::hypervisor
