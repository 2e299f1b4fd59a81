#include "hypervisor/fake/fake_vm.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "hypervisor/fake/fake_vcpu.h"

namespace crosvm::hypervisor {
namespace {

constexpr uint64_t kPageSize = 4096;

// KVM knows an eventfd by its open file, whatever number it is held under.
bool SameFile(const sys::EventFd& a, const sys::EventFd& b) {
  const pid_t self = getpid();
  const long result = syscall(SYS_kcmp, self, self, KCMP_FILE, a.fd().get(), b.fd().get());
  if (result >= 0) return result == 0;
  // Without kcmp(2): a signal to the one shows on the other. The counters are put back.
  const uint64_t before = b.Drain();
  a.Signal();
  const bool same = b.Drain() != 0;
  if (!same) a.Drain();
  for (uint64_t i = 0; i < before; ++i) b.Signal();
  return same;
}

}  // namespace

size_t FakeVm::WriteIo(uint64_t address, uint64_t value, uint32_t length, AddressSpace space) {
  const MutexLock lock(mutex_);
  size_t rung = 0;
  for (const IoEvent& entry : io_events_) {
    const IoEventAddress& where = entry.where;
    if (where.space != space || where.address != address) continue;
    if (length != 0 && where.length != 0 && where.length != length) continue;
    if (where.datamatch && *where.datamatch != value) continue;
    entry.event.Signal();
    ++rung;
  }
  return rung;
}

uint64_t FakeVm::TakeIrq(Gsi gsi) {
  const MutexLock lock(mutex_);
  uint64_t count = 0;
  for (const IrqEvent& entry : irq_events_) {
    if (entry.gsi == gsi) count += entry.event.Drain();
  }
  return count;
}

size_t FakeVm::EndOfInterrupt(Gsi gsi) {
  const MutexLock lock(mutex_);
  size_t count = 0;
  for (const IrqEvent& entry : irq_events_) {
    if (entry.gsi != gsi || !entry.resample) continue;
    entry.resample->Signal();
    ++count;
  }
  return count;
}

std::optional<IrqRoute> FakeVm::Route(Gsi gsi) const {
  const MutexLock lock(mutex_);
  for (const IrqRoute& route : routes_) {
    if (route.gsi == gsi) return route;
  }
  return std::nullopt;
}

std::vector<IrqRoute> FakeVm::Routes() const {
  const MutexLock lock(mutex_);
  return routes_;
}

size_t FakeVm::route_updates() const {
  const MutexLock lock(mutex_);
  return route_updates_;
}

bool FakeVm::HasIrqFd(Gsi gsi) const {
  const MutexLock lock(mutex_);
  return std::any_of(irq_events_.begin(), irq_events_.end(),
                     [&](const IrqEvent& entry) { return entry.gsi == gsi; });
}

bool FakeVm::HasIoEvent(const IoEventAddress& where) const {
  const MutexLock lock(mutex_);
  return std::any_of(io_events_.begin(), io_events_.end(),
                     [&](const IoEvent& entry) { return entry.where == where; });
}

size_t FakeVm::io_event_count() const {
  const MutexLock lock(mutex_);
  return io_events_.size();
}

bool FakeVm::IrqLine(Gsi gsi) const {
  const MutexLock lock(mutex_);
  const auto it = lines_.find(gsi);
  return it != lines_.end() && it->second;
}

std::vector<MsiMessage> FakeVm::TakeMsis() {
  const MutexLock lock(mutex_);
  return std::exchange(msis_, {});
}

std::optional<MemoryMapping> FakeVm::Memory(MemorySlot slot) const {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(slot);
  if (it == slots_.end()) return std::nullopt;
  return it->second.mapping;
}

size_t FakeVm::memory_count() const {
  const MutexLock lock(mutex_);
  return slots_.size();
}

void FakeVm::MarkDirty(MemorySlot slot, uint64_t page) {
  const MutexLock lock(mutex_);
  const auto it = slots_.find(slot);
  if (it == slots_.end() || page / 64 >= it->second.dirty.size()) return;
  it->second.dirty[page / 64] |= uint64_t{1} << (page % 64);
}

void FakeVm::FailNext(ErrorKind kind) {
  const MutexLock lock(mutex_);
  fail_next_ = kind;
}

Status FakeVm::TakeFailure() {
  const std::optional<ErrorKind> kind = std::exchange(fail_next_, std::nullopt);
  if (kind) return Fail(*kind, "the fake VM was told to fail");
  return {};
}

Result<MemorySlot> FakeVm::AddMemory(const MemoryMapping& mapping) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  uint32_t number = 0;
  for (const auto& [slot, entry] : slots_) {
    const MemoryMapping& other = entry.mapping;
    if (mapping.guest.value() < other.guest.value() + other.size &&
        other.guest.value() < mapping.guest.value() + mapping.size) {
      return Fail(ErrorKind::kAlreadyExists, "memory at {:#x} overlaps slot {}",
                  mapping.guest.value(), slot.value());
    }
    if (slot.value() == number) ++number;
  }
  const uint64_t pages = mapping.size / kPageSize;
  slots_.emplace(MemorySlot(number), Slot{mapping, std::vector<uint64_t>((pages + 63) / 64)});
  return MemorySlot(number);
}

Status FakeVm::RemoveMemory(MemorySlot slot) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  if (slots_.erase(slot) == 0) {
    return Fail(ErrorKind::kNotFound, "memory slot {} is not in use", slot.value());
  }
  return {};
}

Status FakeVm::SetDirtyLogging(MemorySlot slot, bool on) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  const auto it = slots_.find(slot);
  if (it == slots_.end()) {
    return Fail(ErrorKind::kNotFound, "memory slot {} is not in use", slot.value());
  }
  it->second.mapping.log_dirty = on;
  return {};
}

Result<std::vector<uint64_t>> FakeVm::TakeDirtyLog(MemorySlot slot) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  const auto it = slots_.find(slot);
  if (it == slots_.end() || !it->second.mapping.log_dirty) {
    return Fail(ErrorKind::kNotFound, "memory slot {} has no dirty log", slot.value());
  }
  const size_t words = it->second.dirty.size();
  return std::exchange(it->second.dirty, std::vector<uint64_t>(words));
}

Status FakeVm::AddIoEvent(const IoEventAddress& where, const sys::EventFd& event) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  if (where.length == 0 && where.datamatch) {
    return Fail(ErrorKind::kInvalidArgument, "an I/O event for any length cannot match a value");
  }
  for (const IoEvent& entry : io_events_) {
    if (entry.where == where) {
      return Fail(ErrorKind::kAlreadyExists, "I/O event at {:#x} exists", where.address);
    }
  }
  sys::EventFd copy = TRY(event.Dup());
  io_events_.push_back({where, std::move(copy)});
  return {};
}

Status FakeVm::RemoveIoEvent(const IoEventAddress& where, const sys::EventFd& event) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  const size_t removed = std::erase_if(io_events_, [&](const IoEvent& entry) {
    return entry.where == where && SameFile(entry.event, event);
  });
  if (removed == 0) {
    return Fail(ErrorKind::kNotFound, "no such I/O event at {:#x}", where.address);
  }
  return {};
}

Status FakeVm::AddIrqFd(Gsi gsi, const sys::EventFd& event, const sys::EventFd* resample) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  for (const IrqEvent& entry : irq_events_) {
    if (SameFile(entry.event, event)) {
      return Fail(ErrorKind::kBusy, "the event is already bound to GSI {}", entry.gsi.value());
    }
  }
  IrqEvent entry{.gsi = gsi, .event = {}, .resample = std::nullopt};
  entry.event = TRY(event.Dup());
  if (resample != nullptr) entry.resample = TRY(resample->Dup());
  irq_events_.push_back(std::move(entry));
  return {};
}

Status FakeVm::RemoveIrqFd(Gsi gsi, const sys::EventFd& event) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  const size_t removed = std::erase_if(irq_events_, [&](const IrqEvent& entry) {
    return entry.gsi == gsi && SameFile(entry.event, event);
  });
  if (removed == 0) return Fail(ErrorKind::kNotFound, "no such event at GSI {}", gsi.value());
  return {};
}

Status FakeVm::SetIrqRoutes(std::span<const IrqRoute> routes) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  routes_.assign(routes.begin(), routes.end());
  ++route_updates_;
  return {};
}

Status FakeVm::SetIrqLine(Gsi gsi, bool level) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  lines_[gsi] = level;
  return {};
}

Status FakeVm::SignalMsi(const MsiMessage& message) {
  const MutexLock lock(mutex_);
  TRY(TakeFailure());
  msis_.push_back(message);
  return {};
}

}  // namespace crosvm::hypervisor
