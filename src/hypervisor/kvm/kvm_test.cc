// On the host's real /dev/kvm, with guests of a few real-mode instructions.
#include "hypervisor/kvm/kvm.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <thread>

#include "sys/mapped_region.h"
#include "sys/memfd.h"

namespace crosvm::hypervisor {
namespace {

constexpr uint64_t kCode = 0x1000;
constexpr uint64_t kRam = 0x8000;

TEST(KvmOpenTest, MissingDeviceNamesTheRemedy) {
  const Result<Kvm> kvm = Kvm::Open("/nonexistent/kvm");
  ASSERT_FALSE(kvm.has_value());
  EXPECT_EQ(kvm.error().kind(), ErrorKind::kNotFound);
  EXPECT_NE(kvm.error().ToString().find("modprobe"), std::string::npos);
}

TEST(KvmOpenTest, OtherDeviceIsRefused) {
  const Result<Kvm> kvm = Kvm::Open("/dev/null");
  ASSERT_FALSE(kvm.has_value());
  EXPECT_NE(kvm.error().ToString().find("/dev/null"), std::string::npos);
  EXPECT_NE(kvm.error().ToString().find("not a KVM device"), std::string::npos);
}

class KvmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "no usable /dev/kvm on this host";
    Result<Kvm> kvm = Kvm::Open();
    ASSERT_TRUE(kvm.has_value()) << kvm.error().ToString();
    Result<std::unique_ptr<ArchVm>> vm = kvm->CreateVm();
    ASSERT_TRUE(vm.has_value()) << vm.error().ToString();
    vm_ = *std::move(vm);
    ram_ = *sys::MappedRegion::Anonymous(kRam);
  }

  // RAM at 0 with `code` at kCode; returns the slot.
  MemorySlot LoadCode(std::initializer_list<uint8_t> code, bool log_dirty = false) {
    std::copy(code.begin(), code.end(), ram_.data() + kCode);
    Result<MemorySlot> slot = vm_->AddMemory({.guest = memory::GuestAddr(0),
                                              .size = kRam,
                                              .host_address = Address(ram_),
                                              .log_dirty = log_dirty});
    EXPECT_TRUE(slot.has_value()) << slot.error().ToString();
    return *slot;
  }

  // A vCPU of this thread in real mode at kCode.
  std::unique_ptr<VcpuX86_64> MakeVcpu(uint64_t rax = 0, uint64_t rbx = 0) {
    Result<std::unique_ptr<VcpuX86_64>> made = vm_->CreateVcpuX86_64(VcpuId(0));
    EXPECT_TRUE(made.has_value()) << made.error().ToString();
    std::unique_ptr<VcpuX86_64> vcpu = *std::move(made);
    kvm_sregs sregs = *vcpu->GetSregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    EXPECT_TRUE(vcpu->SetSregs(sregs).has_value());
    kvm_regs regs{};
    regs.rip = kCode;
    regs.rax = rax;
    regs.rbx = rbx;
    regs.rflags = 2;
    EXPECT_TRUE(vcpu->SetRegs(regs).has_value());
    EXPECT_TRUE(vcpu->BindToThread().has_value());
    return vcpu;
  }

  static uint64_t Address(const sys::MappedRegion& region) {
    return reinterpret_cast<uint64_t>(region.data());
  }

  std::unique_ptr<ArchVm> vm_;
  sys::MappedRegion ram_;
};

template <typename Exit>
Exit RunUntil(Vcpu& vcpu) {
  Result<VcpuExit> exit = vcpu.Run();
  EXPECT_TRUE(exit.has_value()) << exit.error().ToString();
  if (!exit) return Exit{};
  const Exit* wanted = std::get_if<Exit>(&*exit);
  EXPECT_NE(wanted, nullptr) << "exit variant " << exit->index();
  return wanted == nullptr ? Exit{} : *wanted;
}

TEST_F(KvmTest, GuestAddsAndWritesToAPort) {
  // mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; mov al, 10; out dx, al; hlt
  LoadCode({0xba, 0xf8, 0x03, 0x00, 0xd8, 0x04, '0', 0xee, 0xb0, '\n', 0xee, 0xf4});
  const auto vcpu = MakeVcpu(2, 5);
  const auto digit = RunUntil<ExitPortIo>(*vcpu);
  EXPECT_EQ(digit.port, 0x3f8);
  EXPECT_TRUE(digit.write);
  ASSERT_EQ(digit.data.size(), 1U);
  EXPECT_EQ(digit.data[0], '7');
  const auto newline = RunUntil<ExitPortIo>(*vcpu);
  ASSERT_EQ(newline.data.size(), 1U);
  EXPECT_EQ(newline.data[0], '\n');
  RunUntil<ExitHalt>(*vcpu);
}

TEST_F(KvmTest, PortReadTakesTheHandlersBytes) {
  // in ax, 0x60; hlt
  LoadCode({0xe5, 0x60, 0xf4});
  const auto vcpu = MakeVcpu();
  const auto read = RunUntil<ExitPortIo>(*vcpu);
  EXPECT_FALSE(read.write);
  EXPECT_EQ(read.size, 2);
  ASSERT_EQ(read.data.size(), 2U);
  read.data[0] = 0x34;
  read.data[1] = 0x12;
  RunUntil<ExitHalt>(*vcpu);
  EXPECT_EQ(vcpu->GetRegs()->rax & 0xffff, 0x1234U);
}

TEST_F(KvmTest, StringOutputCarriesItsBytes) {
  // mov si, 0x2000; mov cx, 3; mov dx, 0x402; cld; rep outsb; hlt
  LoadCode({0xbe, 0x00, 0x20, 0xb9, 0x03, 0x00, 0xba, 0x02, 0x04, 0xfc, 0xf3, 0x6e, 0xf4});
  std::copy_n("abc", 3, ram_.data() + 0x2000);
  const auto vcpu = MakeVcpu();
  std::string text;
  while (text.size() < 3) {
    const auto out = RunUntil<ExitPortIo>(*vcpu);
    ASSERT_EQ(out.port, 0x402);
    ASSERT_EQ(out.size, 1);
    ASSERT_FALSE(out.data.empty());
    text.append(out.data.begin(), out.data.end());
  }
  EXPECT_EQ(text, "abc");
  RunUntil<ExitHalt>(*vcpu);
}

TEST_F(KvmTest, AccessOutsideMemoryIsMmio) {
  // mov [0x9000], al; mov bl, [0x9001]; hlt
  LoadCode({0xa2, 0x00, 0x90, 0x8a, 0x1e, 0x01, 0x90, 0xf4});
  const auto vcpu = MakeVcpu(0x5a);
  const auto write = RunUntil<ExitMmio>(*vcpu);
  EXPECT_TRUE(write.write);
  EXPECT_EQ(write.address, 0x9000U);
  ASSERT_EQ(write.data.size(), 1U);
  EXPECT_EQ(write.data[0], 0x5a);
  const auto read = RunUntil<ExitMmio>(*vcpu);
  EXPECT_FALSE(read.write);
  EXPECT_EQ(read.address, 0x9001U);
  ASSERT_EQ(read.data.size(), 1U);
  read.data[0] = 0xa5;
  RunUntil<ExitHalt>(*vcpu);
  EXPECT_EQ(vcpu->GetRegs()->rbx & 0xff, 0xa5U);
}

TEST_F(KvmTest, DirtyLogShowsWrittenPagesOnce) {
  // mov [0x3000], al; out 0x10, al; mov [0x5000], al; hlt
  const MemorySlot slot =
      LoadCode({0xa2, 0x00, 0x30, 0xe6, 0x10, 0xa2, 0x00, 0x50, 0xf4}, /*log_dirty=*/true);
  const auto vcpu = MakeVcpu(1);
  RunUntil<ExitPortIo>(*vcpu);
  EXPECT_EQ((*vm_->TakeDirtyLog(slot))[0] & (1U << 3 | 1U << 5), 1U << 3);
  RunUntil<ExitHalt>(*vcpu);
  EXPECT_EQ((*vm_->TakeDirtyLog(slot))[0] & (1U << 3 | 1U << 5), 1U << 5);
  ASSERT_TRUE(vm_->SetDirtyLogging(slot, false).has_value());
  EXPECT_FALSE(vm_->TakeDirtyLog(slot).has_value());
}

TEST_F(KvmTest, WriteToReadOnlyMemoryIsMmioAndDoesNotLand) {
  // mov bl, [0xa000]; mov [0xa000], al; hlt
  LoadCode({0x8a, 0x1e, 0x00, 0xa0, 0xa2, 0x00, 0xa0, 0xf4});
  const sys::MappedRegion rom = *sys::MappedRegion::Anonymous(0x1000);
  rom.data()[0] = 0x77;
  ASSERT_TRUE(vm_->AddMemory({.guest = memory::GuestAddr(0xa000),
                              .size = 0x1000,
                              .host_address = Address(rom),
                              .read_only = true})
                  .has_value());
  const auto vcpu = MakeVcpu(0x99);
  const auto write = RunUntil<ExitMmio>(*vcpu);
  EXPECT_TRUE(write.write);
  EXPECT_EQ(write.address, 0xa000U);
  RunUntil<ExitHalt>(*vcpu);
  EXPECT_EQ(rom.data()[0], 0x77);
  EXPECT_EQ(vcpu->GetRegs()->rbx & 0xff, 0x77U);
}

TEST_F(KvmTest, SlotNumbersAreReused) {
  const MemorySlot first = LoadCode({0xf4});
  const sys::MappedRegion more = *sys::MappedRegion::Anonymous(0x1000);
  const MemoryMapping mapping{
      .guest = memory::GuestAddr(0x100000), .size = 0x1000, .host_address = Address(more)};
  const MemorySlot second = *vm_->AddMemory(mapping);
  EXPECT_NE(first, second);
  EXPECT_FALSE(vm_->AddMemory(mapping).has_value()) << "overlap";
  ASSERT_TRUE(vm_->RemoveMemory(second).has_value());
  EXPECT_FALSE(vm_->RemoveMemory(second).has_value());
  EXPECT_EQ(*vm_->AddMemory(mapping), second);
  EXPECT_FALSE(vm_->AddMemory({.guest = memory::GuestAddr(0x1001), .size = 0x1000}).has_value());
}

TEST_F(KvmTest, IoEventSwallowsTheMatchingWrite) {
  // mov dx, 0x500; mov al, 1; out dx, al; mov al, 2; out dx, al; mov [0x9000], ax; hlt
  LoadCode({0xba, 0x00, 0x05, 0xb0, 0x01, 0xee, 0xb0, 0x02, 0xee, 0xa3, 0x00, 0x90, 0xf4});
  const sys::EventFd port = *sys::EventFd::Create();
  const sys::EventFd mmio = *sys::EventFd::Create();
  const IoEventAddress at_port{
      .space = AddressSpace::kPortIo, .address = 0x500, .length = 1, .datamatch = 1};
  const IoEventAddress at_mmio{.address = 0x9000};
  ASSERT_TRUE(vm_->AddIoEvent(at_port, port).has_value());
  ASSERT_TRUE(vm_->AddIoEvent(at_mmio, mmio).has_value());
  const auto vcpu = MakeVcpu();
  const auto unmatched = RunUntil<ExitPortIo>(*vcpu);
  ASSERT_EQ(unmatched.data.size(), 1U);
  EXPECT_EQ(unmatched.data[0], 2);
  EXPECT_EQ(port.Drain(), 1U);
  EXPECT_EQ(mmio.Drain(), 0U);
  RunUntil<ExitHalt>(*vcpu);
  EXPECT_EQ(mmio.Drain(), 1U);
  EXPECT_TRUE(vm_->RemoveIoEvent(at_port, port).has_value());
  EXPECT_FALSE(vm_->RemoveIoEvent(at_port, port).has_value());
  EXPECT_FALSE(vm_->AddIoEvent({.address = 1, .datamatch = 1}, port).has_value());
}

TEST_F(KvmTest, IrqFdsAndRoutes) {
  if (IsSoftwareKvm()) GTEST_SKIP() << "the software KVM has no KVM_SET_GSI_ROUTING";
  ASSERT_TRUE(vm_->SetTssAddress(0xfffbd000).has_value());
  ASSERT_TRUE(vm_->CreateIrqChip().has_value());
  ASSERT_TRUE(vm_->CreatePit(0).has_value());
  IrqRouter router(*vm_,
                   {{.gsi = Gsi(5), .target = IrqChipRoute{IrqChipId::kPicPrimary, 5}},
                    {.gsi = Gsi(5), .target = IrqChipRoute{IrqChipId::kIoapic, 5}}},
                   Gsi(24));
  ASSERT_TRUE(router.Start().has_value());
  const Gsi msi = *router.AllocateMsi();
  ASSERT_TRUE(router.SetMsi(msi, {.address = 0xfee00000, .data = 0x41}).has_value());
  const sys::EventFd line = *sys::EventFd::Create();
  const sys::EventFd resample = *sys::EventFd::Create();
  const sys::EventFd message = *sys::EventFd::Create();
  EXPECT_TRUE(vm_->AddIrqFd(Gsi(5), line, &resample).has_value());
  EXPECT_TRUE(vm_->AddIrqFd(msi, message, nullptr).has_value());
  EXPECT_FALSE(vm_->AddIrqFd(msi, message, nullptr).has_value()) << "bound twice";
  EXPECT_TRUE(vm_->RemoveIrqFd(msi, message).has_value());
  EXPECT_TRUE(vm_->RemoveIrqFd(Gsi(5), line).has_value());
  EXPECT_TRUE(vm_->SetIrqLine(Gsi(5), true).has_value());
  // The line is up at the IOAPIC's pin or at the PIC.
  const Result<kvm_irqchip> pic = vm_->GetIrqChip(IrqChipId::kPicPrimary);
  ASSERT_TRUE(pic.has_value());
  EXPECT_EQ(pic->chip.pic.irr & (1 << 5), 1 << 5);
  EXPECT_TRUE(vm_->SetIrqLine(Gsi(5), false).has_value());
  EXPECT_TRUE(vm_->GetPit().has_value());
}

TEST_F(KvmTest, IrqFdReachesTheGuest) {
  ASSERT_TRUE(vm_->SetTssAddress(0xfffbd000).has_value());
  ASSERT_TRUE(vm_->CreateIrqChip().has_value());
  // Real-mode vector 0x25 at 0x25 * 4 is set to 0x1100: mov al, 0x20; out 0x20, al (end of
  // interrupt); out 0x80, al; hlt. Main: PIC at vector 0x20, all masked but 5; sti; jmp to itself.
  LoadCode({0xb0, 0x11, 0xe6, 0x20,  // ICW1
            0xb0, 0x20, 0xe6, 0x21,  // ICW2: vectors from 0x20
            0xb0, 0x04, 0xe6, 0x21,  // ICW3
            0xb0, 0x01, 0xe6, 0x21,  // ICW4
            0xb0, 0xdf, 0xe6, 0x21,  // mask all but 5
            0xe6, 0x81,              // out 0x81: ready
            0xfb, 0xeb, 0xfe});      // sti; jmp $
  const uint8_t handler[] = {0xb0, 0x20, 0xe6, 0x20, 0xe6, 0x80, 0xf4};
  std::copy(std::begin(handler), std::end(handler), ram_.data() + 0x1100);
  const uint8_t vector[] = {0x00, 0x11, 0x00, 0x00};
  std::copy(std::begin(vector), std::end(vector), ram_.data() + 0x25 * 4);

  const auto vcpu = MakeVcpu();
  kvm_regs regs = *vcpu->GetRegs();
  regs.rsp = 0x7000;
  ASSERT_TRUE(vcpu->SetRegs(regs).has_value());
  // The reset value of LINT0 passes the PIC's interrupts only when it is ExtINT.
  kvm_lapic_state lapic = *vcpu->GetLapic();
  const uint32_t ext_int = 7 << 8;
  std::memcpy(lapic.regs + 0x350, &ext_int, sizeof(ext_int));
  ASSERT_TRUE(vcpu->SetLapic(lapic).has_value());
  const sys::EventFd line = *sys::EventFd::Create();
  ASSERT_TRUE(vm_->AddIrqFd(Gsi(5), line, nullptr).has_value());

  EXPECT_EQ(RunUntil<ExitPortIo>(*vcpu).port, 0x81);
  line.Signal();
  const auto from_handler = RunUntil<ExitPortIo>(*vcpu);
  EXPECT_EQ(from_handler.port, 0x80);
}

TEST_F(KvmTest, KickBeforeRunIsNotLost) {
  LoadCode({0xeb, 0xfe});  // jmp $
  const auto vcpu = MakeVcpu();
  vcpu->Kick();
  RunUntil<ExitInterrupted>(*vcpu);
}

TEST_F(KvmTest, EveryKickEndsARun) {
  LoadCode({0xeb, 0xfe});  // jmp $
  const auto vcpu = MakeVcpu();
  // One kick for each return: if one were lost, Run() would never come back.
  constexpr int kKicks = 200;
  std::atomic<int> returns{0};
  std::thread kicker([&] {
    for (int i = 0; i < kKicks; ++i) {
      vcpu->Kick();
      while (returns.load() <= i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < kKicks; ++i) {
    RunUntil<ExitInterrupted>(*vcpu);
    returns.store(i + 1);
  }
  kicker.join();
}

TEST_F(KvmTest, KickDuringIoKeepsTheIo) {
  // in al, 0x60; hlt
  LoadCode({0xe4, 0x60, 0xf4});
  const auto vcpu = MakeVcpu();
  RunUntil<ExitPortIo>(*vcpu).data[0] = 0x42;
  vcpu->Kick();
  RunUntil<ExitInterrupted>(*vcpu);
  EXPECT_EQ(vcpu->GetRegs()->rax & 0xff, 0x42U);
  RunUntil<ExitHalt>(*vcpu);
}

TEST_F(KvmTest, SupportedCpuidIsAccepted) {
  if (IsSoftwareKvm()) GTEST_SKIP() << "the software KVM has no KVM_GET_SUPPORTED_CPUID";
  const Result<std::vector<kvm_cpuid_entry2>> cpuid = vm_->GetSupportedCpuid();
  ASSERT_TRUE(cpuid.has_value()) << cpuid.error().ToString();
  EXPECT_GT(cpuid->size(), 5U);
  const auto vcpu = MakeVcpu();
  EXPECT_TRUE(vcpu->SetCpuid(*cpuid).has_value());
}

TEST_F(KvmTest, ListsTheMsrsOfTheState) {
  if (IsSoftwareKvm()) GTEST_SKIP() << "the software KVM has no KVM_GET_MSR_INDEX_LIST";
  const Result<std::vector<uint32_t>> list = vm_->GetMsrIndexList();
  ASSERT_TRUE(list.has_value()) << list.error().ToString();
  EXPECT_GT(list->size(), 5U);
}

// Error text of a result, for the output of a failing check.
template <typename T>
std::string Text(const Result<T>& result) {
  return result ? "" : result.error().ToString();
}
#define EXPECT_ROUND_TRIP(name)                    \
  do {                                             \
    const auto value = vcpu->Get##name();          \
    ASSERT_TRUE(value.has_value()) << Text(value); \
    const Status set = vcpu->Set##name(*value);    \
    EXPECT_TRUE(set.has_value()) << Text(set);     \
  } while (false)

TEST_F(KvmTest, StateRoundTrips) {
  ASSERT_TRUE(vm_->CreateIrqChip().has_value());
  const auto vcpu = MakeVcpu();
  EXPECT_FALSE(vcpu->SetCpuid(std::vector<kvm_cpuid_entry2>(300)).has_value());
  EXPECT_ROUND_TRIP(Fpu);
  EXPECT_ROUND_TRIP(Lapic);
  EXPECT_ROUND_TRIP(MpState);
  EXPECT_ROUND_TRIP(VcpuEvents);
  EXPECT_ROUND_TRIP(DebugRegs);
  EXPECT_ROUND_TRIP(Xcrs);
}

TEST_F(KvmTest, ExtendedStateRoundTrips) {
  if (IsSoftwareKvm()) GTEST_SKIP() << "the software KVM refuses KVM_GET_XSAVE2";
  const auto vcpu = MakeVcpu();
  EXPECT_ROUND_TRIP(Xsave);
  EXPECT_GE(vcpu->GetXsave()->size(), 4096U);
}

TEST_F(KvmTest, MsrsRoundTripAndRefusedOnesAreNamed) {
  if (IsSoftwareKvm()) GTEST_SKIP() << "the software KVM keeps MSRs of its own";
  const auto vcpu = MakeVcpu();
  const std::vector<kvm_msr_entry> msrs = {{.index = 0x174, .data = 0x10},     // SYSENTER_CS
                                           {.index = 0x175, .data = 0x1234}};  // SYSENTER_ESP
  const Status set = vcpu->SetMsrs(msrs);
  ASSERT_TRUE(set.has_value()) << Text(set);
  const uint32_t indices[] = {0x174, 0x175};
  const std::vector<kvm_msr_entry> read = *vcpu->GetMsrs(indices);
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[1].data, 0x1234U);
  const uint32_t bogus[] = {0x174, 0xdeadbeef};
  const auto refused = vcpu->GetMsrs(bogus);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().ToString().find("0xdeadbeef"), std::string::npos);
}

TEST_F(KvmTest, ClockAndTsc) {
  const auto vcpu = MakeVcpu();
  const Result<uint32_t> khz = vcpu->GetTscKhz();
  ASSERT_TRUE(khz.has_value()) << Text(khz);
  EXPECT_GT(*khz, 0U);
  Result<kvm_clock_data> clock = vm_->GetClock();
  ASSERT_TRUE(clock.has_value()) << Text(clock);
  clock->flags = 0;
  const Status set = vm_->SetClock(*clock);
  EXPECT_TRUE(set.has_value()) << Text(set);
}

TEST_F(KvmTest, SplitChipHasLocalApicsOnly) {
  ASSERT_TRUE(vm_->EnableSplitIrqChip(24).has_value());
  EXPECT_FALSE(vm_->CreatePit(0).has_value());
  const auto vcpu = MakeVcpu();
  EXPECT_TRUE(vcpu->GetLapic().has_value());
  EXPECT_TRUE(vm_->SignalMsi({.address = 0xfee00000, .data = 0x41}).has_value());
}

TEST_F(KvmTest, SoftwareKvmIsToldApart) {
  // Whatever it is, the answer agrees with what the host shows.
  if (access("/sys/module/kvm_pvm", F_OK) != 0) {
    EXPECT_FALSE(IsSoftwareKvm());
  }
  EXPECT_NE(SoftwareKvmMessage().find("tools/nested-kvm"), std::string::npos);
}

}  // namespace
}  // namespace crosvm::hypervisor
