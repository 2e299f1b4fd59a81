#include "platform/irq_lines.h"

#include <gtest/gtest.h>

#include "hypervisor/vcpu.h"

namespace crosvm::platform {
namespace {

using hypervisor::Gsi;

// Knows irqfds only.
struct FakeVm : hypervisor::Vm {
  Result<hypervisor::MemorySlot> AddMemory(const hypervisor::MemoryMapping&) override {
    return hypervisor::MemorySlot(0);
  }
  Status RemoveMemory(hypervisor::MemorySlot) override { return {}; }
  Status SetDirtyLogging(hypervisor::MemorySlot, bool) override { return {}; }
  Result<std::vector<uint64_t>> TakeDirtyLog(hypervisor::MemorySlot) override {
    return std::vector<uint64_t>();
  }
  Status AddIoEvent(const hypervisor::IoEventAddress&, const sys::EventFd&) override { return {}; }
  Status RemoveIoEvent(const hypervisor::IoEventAddress&, const sys::EventFd&) override {
    return {};
  }
  Status AddIrqFd(Gsi gsi, const sys::EventFd& new_event,
                  const sys::EventFd* new_resample) override {
    if (refuse) return Fail(ErrorKind::kUnsupported, "refused");
    added = gsi;
    event = std::move(*new_event.Dup());
    level = new_resample != nullptr;
    return {};
  }
  Status RemoveIrqFd(Gsi, const sys::EventFd&) override {
    ++removed;
    return {};
  }
  Status SetIrqRoutes(std::span<const hypervisor::IrqRoute>) override { return {}; }
  Status SetIrqLine(Gsi, bool) override { return {}; }
  Status SignalMsi(const hypervisor::MsiMessage&) override { return {}; }
  Result<std::unique_ptr<hypervisor::Vcpu>> CreateVcpu(hypervisor::VcpuId) override {
    return Fail(ErrorKind::kUnsupported, "no vCPU");
  }

  bool refuse = false;
  Gsi added;
  sys::EventFd event;
  bool level = false;
  int removed = 0;
};

TEST(IrqFdLine, EachRaiseIsASignal) {
  FakeVm vm;
  {
    auto line = IrqFdLine::Create(vm, Gsi(4));
    ASSERT_TRUE(line.has_value());
    EXPECT_EQ(vm.added, Gsi(4));
    EXPECT_FALSE(vm.level);
    (*line)->Raise();
    (*line)->Lower();
    EXPECT_EQ(vm.event.Drain(), 1u);
    (*line)->Raise();
    (*line)->Raise();
    EXPECT_EQ(vm.event.Drain(), 2u);
  }
  EXPECT_EQ(vm.removed, 1);
}

TEST(IrqFdLine, ARefusalNamesTheInterrupt) {
  FakeVm vm;
  vm.refuse = true;
  const auto line = IrqFdLine::Create(vm, Gsi(77));
  ASSERT_FALSE(line.has_value());
  EXPECT_NE(line.error().ToString().find("77"), std::string::npos);
}

}  // namespace
}  // namespace crosvm::platform
