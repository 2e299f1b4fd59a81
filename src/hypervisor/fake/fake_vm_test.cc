#include "hypervisor/fake/fake_vm.h"

#include <gtest/gtest.h>

#include <thread>

#include "hypervisor/fake/fake_vcpu.h"

namespace crosvm::hypervisor {
namespace {

TEST(FakeVmTest, WriteRingsTheMatchingEvent) {
  FakeVm vm;
  const sys::EventFd first = *sys::EventFd::Create();
  const sys::EventFd second = *sys::EventFd::Create();
  ASSERT_TRUE(vm.AddIoEvent({.address = 0x1000, .length = 2, .datamatch = 0}, first).has_value());
  ASSERT_TRUE(vm.AddIoEvent({.address = 0x1000, .length = 2, .datamatch = 1}, second).has_value());
  EXPECT_EQ(vm.WriteIo(0x1000, 1), 1U);
  EXPECT_EQ(first.Drain(), 0U);
  EXPECT_EQ(second.Drain(), 1U);
  EXPECT_EQ(vm.WriteIo(0x1000, 1, 4), 0U);
  EXPECT_EQ(vm.WriteIo(0x1000, 1, 2, AddressSpace::kPortIo), 0U);
}

TEST(FakeVmTest, RemovalNeedsTheSameEvent) {
  FakeVm vm;
  const sys::EventFd event = *sys::EventFd::Create();
  const sys::EventFd same = *event.Dup();
  const sys::EventFd other = *sys::EventFd::Create();
  const IoEventAddress where{.address = 0x1000};
  ASSERT_TRUE(vm.AddIoEvent(where, event).has_value());
  EXPECT_EQ(vm.AddIoEvent(where, other).error().kind(), ErrorKind::kAlreadyExists);
  EXPECT_FALSE(vm.RemoveIoEvent(where, other).has_value());
  EXPECT_TRUE(vm.RemoveIoEvent(where, same).has_value());
  EXPECT_EQ(vm.io_event_count(), 0U);
}

TEST(FakeVmTest, TakesInterruptsAndResamples) {
  FakeVm vm;
  const sys::EventFd call = *sys::EventFd::Create();
  const sys::EventFd resample = *sys::EventFd::Create();
  ASSERT_TRUE(vm.AddIrqFd(Gsi(5), call, &resample).has_value());
  EXPECT_EQ(vm.TakeIrq(Gsi(5)), 0U);
  call.Signal();
  call.Signal();
  EXPECT_EQ(vm.TakeIrq(Gsi(5)), 2U);
  EXPECT_EQ(vm.EndOfInterrupt(Gsi(5)), 1U);
  EXPECT_EQ(resample.Drain(), 1U);
  EXPECT_FALSE(vm.AddIrqFd(Gsi(6), call, nullptr).has_value());
  ASSERT_TRUE(vm.RemoveIrqFd(Gsi(5), call).has_value());
  EXPECT_FALSE(vm.HasIrqFd(Gsi(5)));
}

TEST(FakeVmTest, KeepsMemoryAndItsLog) {
  FakeVm vm;
  const MemoryMapping mapping{.guest = memory::GuestAddr(0x10000),
                              .size = 0x100000,
                              .host_address = 0x7000,
                              .log_dirty = true};
  const MemorySlot slot = *vm.AddMemory(mapping);
  EXPECT_FALSE(vm.AddMemory(mapping).has_value());
  vm.MarkDirty(slot, 65);
  const std::vector<uint64_t> log = *vm.TakeDirtyLog(slot);
  ASSERT_EQ(log.size(), 4U);
  EXPECT_EQ(log[1], 2U);
  EXPECT_EQ((*vm.TakeDirtyLog(slot))[1], 0U);
  ASSERT_TRUE(vm.RemoveMemory(slot).has_value());
  EXPECT_EQ(vm.memory_count(), 0U);
}

TEST(FakeVcpuTest, ReturnsPushedExitsAndKicks) {
  FakeVcpu vcpu{VcpuId(0)};
  vcpu.Push(ExitHalt{});
  EXPECT_TRUE(std::holds_alternative<ExitHalt>(*vcpu.Run()));
  std::thread kicker([&] { vcpu.Kick(); });
  EXPECT_TRUE(std::holds_alternative<ExitInterrupted>(*vcpu.Run()));
  kicker.join();
}

}  // namespace
}  // namespace crosvm::hypervisor
