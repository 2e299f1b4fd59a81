// Devices behind the transport that are suspended, reset, lost and replaced.
#include <gtest/gtest.h>
#include <linux/virtio_pci.h>

#include "virtio/pci_transport_fixture.h"

namespace crosvm::virtio {
namespace {

TEST_F(PciTransportTest, PauseKeepsThePositions) {
  Drive();
  backend_->positions = {{.next_avail = 7, .next_used = 5}, {}, {.next_avail = 9, .next_used = 9}};
  ASSERT_TRUE(transport_->Pause().has_value());
  EXPECT_TRUE(backend_->running.empty());
  EXPECT_EQ(Status(), 15U);
  transport_->Unpause();
  ASSERT_EQ(backend_->running.size(), 2U);
  EXPECT_EQ(backend_->running[0].position.next_avail, 7);
  EXPECT_EQ(backend_->running[1].position.next_avail, 9);
  EXPECT_EQ(backend_->activations, 2);
  SetStatus(0);
  Drive();
  EXPECT_EQ(backend_->running[0].position.next_avail, 0);
}

TEST_F(PciTransportTest, DriverOkWhilePausedWaits) {
  ASSERT_TRUE(transport_->Pause().has_value());
  Drive();
  EXPECT_EQ(backend_->activations, 0);
  transport_->Unpause();
  EXPECT_EQ(backend_->activations, 1);
}

TEST_F(PciTransportTest, ADeviceThatIsLostOverASuspendGoesOnWithItsSuccessor) {
  Supervise();
  Drive();
  backend_->failure = ErrorKind::kTimedOut;
  EXPECT_FALSE(transport_->Pause().has_value());
  EXPECT_EQ(failures_, 1);
  // The resume may come before the successor.
  transport_->Unpause();
  EXPECT_EQ(backend_->activations, 1);
  backend_->failure.reset();
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(backend_->activations, 2);
  // Or after it.
  backend_->failure = ErrorKind::kDisconnected;
  EXPECT_FALSE(transport_->Pause().has_value());
  backend_->failure.reset();
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(backend_->activations, 2);
  transport_->Unpause();
  EXPECT_EQ(backend_->activations, 3);
  EXPECT_EQ(Status(), 15U);
}

TEST_F(PciTransportTest, ADeviceThatIsLostWhileItIsActivatedIsNotActivatedAgain) {
  Supervise();
  Negotiate(kVersion1);
  EnableQueue(0, 0x4000);
  backend_->failure = ErrorKind::kDisconnected;
  SetStatus(15);
  EXPECT_EQ(failures_, 1);
  backend_->failure.reset();
  // It has the queues, and gives them to its successor.
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(backend_->activations, 1);
  SetStatus(0);
  EXPECT_EQ(backend_->deactivations, 1);
}

TEST_F(PciTransportTest, Clause_2_4_2_AResetIsNotDoneBeforeTheDeviceHasStopped) {
  Supervise();
  for (const bool successor : {true, false}) {
    backend_->failure.reset();
    Drive();
    backend_->failure = ErrorKind::kTimedOut;
    SetStatus(0);
    EXPECT_EQ(Status(), 15U);
    // Nothing happens meanwhile.
    SetStatus(0);
    Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
    EXPECT_EQ(Status(), 15U);
    if (successor) {
      ASSERT_TRUE(transport_->Reattached().has_value());
    } else {
      transport_->GiveUp();
    }
    EXPECT_EQ(Status(), 0U);
    EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0U);
  }
  EXPECT_EQ(failures_, 2);
}

TEST_F(PciTransportTest, Clause_2_6_1_AQueueIsTheDriversWhenTheDeviceHasStopped) {
  Supervise();
  Drive(kVersion1 | FeatureBit(kFeatureRingReset));
  Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
  backend_->failure = ErrorKind::kTimedOut;
  Write(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_RESET, 2), 1U);
  backend_->failure.reset();
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_RESET, 2), 0U);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0U);
  EnableQueue(2, 0x8000);
  EXPECT_EQ(backend_->running.size(), 2U);
}

TEST_F(PciTransportTest, AQueueThatIsEnabledWhileTheDeviceIsLostIsForItsSuccessor) {
  Supervise();
  Drive(kVersion1 | FeatureBit(kFeatureRingReset));
  backend_->failure = ErrorKind::kDisconnected;
  backend_->events.failed(MakeError(ErrorKind::kDisconnected, "gone"));
  EXPECT_TRUE(transport_->lost());
  EnableQueue(1, 0xc000);
  EXPECT_EQ(Read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1U);
  backend_->failure.reset();
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_FALSE(transport_->lost());
  EXPECT_EQ(backend_->running.size(), 3U);
  EXPECT_TRUE(vm_.HasIoEvent(Doorbell(kBase, 1)));
  EXPECT_EQ(Status(), 15U);
}

TEST_F(PciTransportTest, WhatASuccessorRefusesIsTheDriversFault) {
  Supervise();
  backend_->failure = ErrorKind::kDisconnected;
  backend_->events.failed(MakeError(ErrorKind::kDisconnected, "gone"));
  backend_->failure.reset();
  Negotiate(kVersion1);
  EnableQueue(0, 0x4000);
  SetStatus(15);
  backend_->failure = ErrorKind::kInvalidArgument;
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(Status(), 15U | VIRTIO_CONFIG_S_NEEDS_RESET);
  backend_->failure.reset();
  SetStatus(0);
  Drive();
  EXPECT_EQ(Status(), 15U);
  EXPECT_EQ(backend_->running.size(), 2U);
}

TEST_F(PciTransportTest, AResetOfADeviceThatIsGivenUpDoesNotWait) {
  Supervise();
  Drive();
  backend_->failure = ErrorKind::kDisconnected;
  backend_->events.failed(MakeError(ErrorKind::kDisconnected, "gone"));
  transport_->GiveUp();
  EXPECT_EQ(Status(), 15U | VIRTIO_CONFIG_S_NEEDS_RESET);
  SetStatus(0);
  EXPECT_EQ(Status(), 0U);
}

TEST_F(PciTransportTest, ReattachedSignalsAndDoesNotActivateTwice) {
  Drive();
  UseMsix(0, 1);
  ASSERT_EQ(backend_->activations, 1);
  ASSERT_TRUE(transport_->Reattached().has_value());
  EXPECT_EQ(backend_->activations, 1);
  EXPECT_EQ(vm_.TakeIrq(kFirstMsi), 1U);
  EXPECT_EQ(backend_->running[0].kick->Drain(), 1U);
}

}  // namespace
}  // namespace crosvm::virtio
