#include "pci/interrupts.h"

#include <gtest/gtest.h>

#include <cstring>

#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "pci/intx.h"

namespace crosvm::pci {
namespace {

using hypervisor::FakeVm;
using hypervisor::Gsi;
using hypervisor::IrqRouter;

constexpr Gsi kFirstMsi{24};
constexpr Gsi kIntx{10};

class InterruptsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    line_ = std::make_unique<SharedLine>(std::make_shared<VmInterruptLine>(vm_, kIntx));
    interrupts_ =
        Interrupts::Create(
            {.vm = vm_, .router = router_, .loop = loop_},
            {.name = "test", .vectors = 3, .isr_bits = {1, 1, 2}, .intx = line_->Connect()})
            .value();
    loop_.RunUntilIdle();
  }

  void WriteEntry(uint16_t vector, uint32_t data, bool masked) {
    Write32(vector * 16U, 0xfee0'0000);
    Write32(vector * 16U + 8, data);
    Write32(vector * 16U + 12, masked ? 1 : 0);
  }
  void Write32(uint64_t offset, uint32_t value) {
    std::array<uint8_t, 4> bytes;
    std::memcpy(bytes.data(), &value, 4);
    interrupts_->WriteTable(offset, bytes);
  }
  uint8_t Pending() {
    std::array<uint8_t, 1> bits{};
    interrupts_->ReadPending(0, bits);
    return bits[0];
  }

  FakeVm vm_;
  event::TestLoop loop_;
  IrqRouter router_{vm_, {}, kFirstMsi};
  std::unique_ptr<SharedLine> line_;
  std::shared_ptr<Interrupts> interrupts_;
};

TEST_F(InterruptsTest, WithoutMsixASignalSetsIsrAndRaisesTheLine) {
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_TRUE(vm_.IrqLine(kIntx));
  EXPECT_TRUE(interrupts_->intx_pending());
  EXPECT_EQ(interrupts_->TakeIsr(), 1);
  EXPECT_FALSE(vm_.IrqLine(kIntx));
  EXPECT_EQ(interrupts_->TakeIsr(), 0);
}

TEST_F(InterruptsTest, IsrIsExactBeforeTheLoopHasRun) {
  interrupts_->call(2).Signal();
  interrupts_->call(1).Signal();
  EXPECT_EQ(interrupts_->TakeIsr(), 3);
  loop_.RunUntilIdle();
  EXPECT_FALSE(vm_.IrqLine(kIntx));
}

TEST_F(InterruptsTest, IntxDisableKeepsTheLineDownUntilCleared) {
  interrupts_->SetIntxDisabled(true);
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_FALSE(vm_.IrqLine(kIntx));
  EXPECT_TRUE(interrupts_->intx_pending());
  interrupts_->SetIntxDisabled(false);
  EXPECT_TRUE(vm_.IrqLine(kIntx));
}

TEST_F(InterruptsTest, UnmaskedVectorIsAnIrqfd) {
  EXPECT_EQ(interrupts_->SetVector(0, 1), 1);
  WriteEntry(1, 0x41, false);
  interrupts_->SetMsixControl(true, false);
  loop_.RunUntilIdle();
  ASSERT_TRUE(vm_.HasIrqFd(kFirstMsi));
  const auto route = vm_.Route(kFirstMsi);
  ASSERT_TRUE(route.has_value());
  EXPECT_EQ(std::get<hypervisor::MsiMessage>(route->target).data, 0x41U);
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 1U);
  EXPECT_EQ(interrupts_->TakeIsr(), 0);
}

TEST_F(InterruptsTest, TwoSourcesMayShareAVector) {
  interrupts_->SetVector(0, 1);
  interrupts_->SetVector(1, 1);
  WriteEntry(1, 0x41, false);
  interrupts_->SetMsixControl(true, false);
  interrupts_->call(0).Signal();
  interrupts_->call(1).Signal();
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 2U);
}

TEST_F(InterruptsTest, MaskedVectorCollectsAPendingBitAndInjectsOnUnmask) {
  interrupts_->SetVector(0, 1);
  WriteEntry(1, 0x41, false);
  interrupts_->SetMsixControl(true, false);
  WriteEntry(1, 0x41, true);
  EXPECT_FALSE(vm_.HasIrqFd(kFirstMsi));
  interrupts_->call(0).Signal();
  EXPECT_EQ(Pending(), 2);  // before the loop has seen it
  loop_.RunUntilIdle();
  EXPECT_EQ(Pending(), 2);
  EXPECT_TRUE(vm_.TakeMsis().empty());
  WriteEntry(1, 0x42, false);
  EXPECT_EQ(Pending(), 0);
  const auto messages = vm_.TakeMsis();
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].data, 0x42U);
  EXPECT_TRUE(vm_.HasIrqFd(kFirstMsi));
}

TEST_F(InterruptsTest, LoopSetsThePendingBitOfAMaskedVector) {
  interrupts_->SetVector(0, 2);
  interrupts_->SetMsixControl(true, false);
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_EQ(interrupts_->call(0).Drain(), 0U);  // taken by the loop
  EXPECT_EQ(Pending(), 4);
}

TEST_F(InterruptsTest, FunctionMaskDetachesAllAndInjectsWhenCleared) {
  interrupts_->SetVector(0, 0);
  interrupts_->SetVector(1, 1);
  WriteEntry(0, 0x40, false);
  WriteEntry(1, 0x41, false);
  interrupts_->SetMsixControl(true, true);
  interrupts_->call(0).Signal();
  interrupts_->call(1).Signal();
  EXPECT_EQ(Pending(), 3);
  interrupts_->SetMsixControl(true, false);
  EXPECT_EQ(vm_.TakeMsis().size(), 2U);
  EXPECT_EQ(Pending(), 0);
}

TEST_F(InterruptsTest, MessageChangesReachTheRoute) {
  interrupts_->SetVector(0, 0);
  WriteEntry(0, 0x40, false);
  interrupts_->SetMsixControl(true, false);
  Write32(8, 0x50);
  EXPECT_EQ(std::get<hypervisor::MsiMessage>(vm_.Route(kFirstMsi)->target).data, 0x50U);
  EXPECT_TRUE(vm_.HasIrqFd(kFirstMsi));
}

TEST_F(InterruptsTest, NoVectorMeansNoInterruptAndNothingLeftForTheNext) {
  interrupts_->SetMsixControl(true, false);
  WriteEntry(0, 0x40, false);
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  interrupts_->SetVector(0, 0);
  loop_.RunUntilIdle();
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 0U);
  EXPECT_TRUE(vm_.TakeMsis().empty());
}

TEST_F(InterruptsTest, FailingIrqfdFallsBackToMessages) {
  interrupts_->SetVector(0, 0);
  WriteEntry(0, 0x40, false);
  interrupts_->SetMsixControl(true, true);
  vm_.FailNext(ErrorKind::kIo);
  interrupts_->SetMsixControl(true, false);
  loop_.RunUntilIdle();
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_EQ(vm_.TakeMsis().size(), 1U);
}

TEST_F(InterruptsTest, ResetForgetsEverything) {
  interrupts_->SetVector(0, 0);
  WriteEntry(0, 0x40, false);
  interrupts_->SetMsixControl(true, true);
  interrupts_->call(0).Signal();
  EXPECT_EQ(Pending(), 1);
  interrupts_->call(1).Signal();
  interrupts_->Reset();
  EXPECT_EQ(Pending(), 0);
  interrupts_->SetMsixControl(false, false);
  EXPECT_EQ(interrupts_->TakeIsr(), 0);
}

TEST_F(InterruptsTest, DestructionGivesEverythingBack) {
  interrupts_->SetVector(0, 0);
  WriteEntry(0, 0x40, false);
  interrupts_->SetMsixControl(true, false);
  interrupts_.reset();
  loop_.RunUntilIdle();
  EXPECT_FALSE(vm_.HasIrqFd(kFirstMsi));
  EXPECT_TRUE(vm_.Routes().empty());
}

TEST_F(InterruptsTest, Hostile_VectorsThatDoNotExist) {
  EXPECT_EQ(interrupts_->SetVector(0, 3), kNoVector);
  EXPECT_EQ(interrupts_->SetVector(0, 0xfffe), kNoVector);
  EXPECT_EQ(interrupts_->SetVector(0, 0xffff), kNoVector);
  interrupts_->SetMsixControl(true, false);
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  EXPECT_TRUE(vm_.TakeMsis().empty());
}

TEST_F(InterruptsTest, SharedLineIsUpWhileAnyFunctionAssertsIt) {
  const auto other = line_->Connect();
  interrupts_->call(0).Signal();
  loop_.RunUntilIdle();
  other->Raise();
  interrupts_->TakeIsr();
  EXPECT_TRUE(vm_.IrqLine(kIntx));
  other->Raise();
  other->Lower();
  EXPECT_FALSE(vm_.IrqLine(kIntx));
}

}  // namespace
}  // namespace crosvm::pci
