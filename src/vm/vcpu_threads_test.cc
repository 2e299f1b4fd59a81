// The vCPU threads over vCPUs without a hypervisor.
#include "vm/vcpu_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <semaphore>
#include <thread>

#include "hypervisor/fake/fake_vcpu.h"

namespace crosvm::vm {
namespace {

using hypervisor::FakeVcpu;
using hypervisor::VcpuId;

// Remembers writes, answers reads with 0x5a, and may keep a vCPU inside of a write.
class RecordingDevice : public bus::Device {
 public:
  std::string_view name() const override { return "recorder"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    for (uint8_t& byte : data) byte = 0x5a;
    Record(offset, data.size());
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    entered.release();
    if (hold) leave.acquire();
    Record(offset | 0x8000, data.size());
  }
  std::vector<std::pair<uint64_t, size_t>> Accesses() {
    const MutexLock lock(mutex_);
    return accesses_;
  }

  std::counting_semaphore<> entered{0};
  std::counting_semaphore<> leave{0};
  std::atomic<bool> hold{false};

 private:
  void Record(uint64_t offset, size_t size) {
    const MutexLock lock(mutex_);
    accesses_.emplace_back(offset, size);
  }
  Mutex mutex_;
  std::vector<std::pair<uint64_t, size_t>> accesses_ CROSVM_GUARDED_BY(mutex_);
};

class FakeChip : public UserIrqChip {
 public:
  bool PicRequests() override {
    const MutexLock lock(mutex_);
    return !pending_.empty();
  }
  std::optional<uint8_t> AcknowledgePic() override {
    const MutexLock lock(mutex_);
    if (pending_.empty()) return std::nullopt;
    const uint8_t vector = pending_.back();
    pending_.pop_back();
    return vector;
  }
  void IoapicEoi(uint8_t vector) override {
    last_eoi = vector;
    eois.release();
  }
  void Set(std::vector<uint8_t> pending) {
    const MutexLock lock(mutex_);
    pending_ = std::move(pending);
  }

  std::atomic<int> last_eoi{-1};
  std::counting_semaphore<> eois{0};

 private:
  Mutex mutex_;
  std::vector<uint8_t> pending_ CROSVM_GUARDED_BY(mutex_);
};

class VcpuThreadsTest : public ::testing::Test {
 protected:
  void Make(size_t count, VcpuThreadOptions options = {}) {
    std::vector<std::unique_ptr<hypervisor::Vcpu>> vcpus;
    for (uint32_t i = 0; i < count; ++i) {
      auto vcpu = std::make_unique<FakeVcpu>(VcpuId(i));
      fakes_.push_back(vcpu.get());
      vcpus.push_back(std::move(vcpu));
    }
    ASSERT_TRUE(io_bus_.Insert(device_, 0x100, 0x100).has_value());
    ASSERT_TRUE(mmio_bus_.Insert(device_, 0x100000, 0x1000).has_value());
    options.io_bus = &io_bus_;
    options.mmio_bus = &mmio_bus_;
    options.stopped = [this](VcpuStop stop, std::string why) {
      {
        const MutexLock lock(mutex_);
        stops_.emplace_back(stop, std::move(why));
      }
      stopped_.release();
    };
    threads_ = std::make_unique<VcpuThreads>(std::move(vcpus), std::move(options));
  }
  // One write to the device, and the vCPU is inside of it.
  void EnterDevice(size_t vcpu) {
    fakes_[vcpu]->Push(hypervisor::ExitMmio{.address = 0x100010, .write = true, .data = data_});
    device_->entered.acquire();
  }
  std::vector<std::pair<VcpuStop, std::string>> Stops() {
    const MutexLock lock(mutex_);
    return stops_;
  }

  std::vector<uint8_t> data_ = std::vector<uint8_t>(8);
  std::shared_ptr<RecordingDevice> device_ = std::make_shared<RecordingDevice>();
  bus::Bus io_bus_{"I/O ports"};
  bus::Bus mmio_bus_{"MMIO"};
  Mutex mutex_;
  std::vector<std::pair<VcpuStop, std::string>> stops_ CROSVM_GUARDED_BY(mutex_);
  std::counting_semaphore<> stopped_{0};
  std::vector<FakeVcpu*> fakes_;
  std::unique_ptr<VcpuThreads> threads_;
};

TEST_F(VcpuThreadsTest, StartPreparesEachOnItsThreadAndEntersNone) {
  Mutex mutex;
  std::map<uint32_t, std::thread::id> prepared;
  Make(3, {.prepare = [&](hypervisor::Vcpu& vcpu) -> Status {
         const MutexLock lock(mutex);
         prepared[vcpu.id().value()] = std::this_thread::get_id();
         return {};
       }});
  for (FakeVcpu* vcpu : fakes_) {
    vcpu->Push(hypervisor::ExitMmio{.address = 0x100000, .write = true, .data = data_});
  }
  ASSERT_TRUE(threads_->Start().has_value());
  {
    const MutexLock lock(mutex);
    ASSERT_EQ(prepared.size(), 3u);
    EXPECT_NE(prepared[0], prepared[1]);
    EXPECT_NE(prepared[0], std::this_thread::get_id());
  }
  EXPECT_TRUE(device_->Accesses().empty());
  threads_->Resume();
  for (int i = 0; i < 3; ++i) device_->entered.acquire();
  threads_->Stop();
  EXPECT_EQ(device_->Accesses().size(), 3u);
}

TEST_F(VcpuThreadsTest, AFailedPreparationIsStartsError) {
  Make(2, {.prepare = [](hypervisor::Vcpu& vcpu) -> Status {
         if (vcpu.id().value() == 1) return Fail(ErrorKind::kIo, "no registers");
         return {};
       }});
  const Status started = threads_->Start();
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().ToString().find("vcpu 1"), std::string::npos);
  EXPECT_NE(started.error().ToString().find("no registers"), std::string::npos);
}

TEST_F(VcpuThreadsTest, ExitsGoToTheirBuses) {
  Make(1);
  ASSERT_TRUE(threads_->Start().has_value());
  std::vector<uint8_t> string(6, 1);
  std::vector<uint8_t> in(4);
  std::vector<uint8_t> nowhere(4);
  using namespace hypervisor;
  // Three accesses of two bytes to one port.
  fakes_[0]->Push(ExitPortIo{.port = 0x108, .write = true, .size = 2, .data = string});
  fakes_[0]->Push(ExitPortIo{.port = 0x110, .write = false, .size = 4, .data = in});
  fakes_[0]->Push(ExitMmio{.address = 0x5000, .write = false, .data = nowhere});
  fakes_[0]->Push(ExitHalt{});
  fakes_[0]->Push(ExitMmio{.address = 0x100020, .write = true, .data = data_});
  threads_->Resume();
  for (int i = 0; i < 4; ++i) device_->entered.acquire();
  threads_->Pause();
  EXPECT_EQ(device_->Accesses(),
            (std::vector<std::pair<uint64_t, size_t>>{
                {0x8008, 2}, {0x8008, 2}, {0x8008, 2}, {0x10, 4}, {0x8020, 8}}));
  EXPECT_EQ(in, std::vector<uint8_t>(4, 0x5a));
  EXPECT_EQ(nowhere, std::vector<uint8_t>(4, 0xff));
}

TEST_F(VcpuThreadsTest, PauseWaitsForAVcpuInADevice) {
  Make(2);
  ASSERT_TRUE(threads_->Start().has_value());
  threads_->Resume();
  // A vCPU whose thread has not woken up yet when the pause comes would not be seen to pause.
  EnterDevice(0);
  while (device_->Accesses().empty()) std::this_thread::yield();
  device_->hold = true;
  EnterDevice(1);
  std::atomic<bool> paused{false};
  std::thread pauser([&] {
    threads_->Pause();
    paused = true;
  });
  // vCPU 0 is paused by now or soon; vCPU 1 is inside the device until it is let go.
  while (fakes_[0]->pauses() == 0) std::this_thread::yield();
  EXPECT_FALSE(paused);
  EXPECT_EQ(device_->Accesses().size(), 1u);
  device_->leave.release();
  pauser.join();
  EXPECT_EQ(device_->Accesses().size(), 2u);
  EXPECT_EQ(fakes_[1]->pauses(), 1u);
  // Paused: nothing runs, a second Pause() is none.
  fakes_[0]->Push(hypervisor::ExitMmio{.address = 0x100000, .write = true, .data = data_});
  threads_->Pause();
  EXPECT_EQ(device_->Accesses().size(), 2u);
  device_->hold = false;
  threads_->Resume();
  device_->entered.acquire();
}

TEST_F(VcpuThreadsTest, PauseAndResumeManyTimesUnderLoad) {
  Make(3);
  ASSERT_TRUE(threads_->Start().has_value());
  const auto push = [this](int exits) {
    for (FakeVcpu* vcpu : fakes_) {
      for (int i = 0; i < exits; ++i) {
        vcpu->Push(hypervisor::ExitPortIo{
            .port = 0x100, .write = true, .size = 1, .data = std::span(data_).first(1)});
      }
    }
  };
  for (int round = 0; round < 200; ++round) {
    push(4);
    threads_->Resume();
    threads_->Pause();
    const size_t before = device_->Accesses().size();
    push(1);
    std::this_thread::yield();
    EXPECT_EQ(device_->Accesses().size(), before);
  }
  threads_->Resume();
  for (int i = 0; i < 3000; ++i) device_->entered.acquire();
  threads_->Stop();
  EXPECT_EQ(device_->Accesses().size(), 3000u);
}

TEST_F(VcpuThreadsTest, ATripleFaultIsReportedOnceAndTheOthersGoOn) {
  Make(2);
  ASSERT_TRUE(threads_->Start().has_value());
  fakes_[0]->Push(hypervisor::ExitShutdown{});
  fakes_[0]->Push(hypervisor::ExitShutdown{});
  threads_->Resume();
  stopped_.acquire();
  EnterDevice(1);
  // The one that has stopped does not keep a pause waiting.
  threads_->Pause();
  threads_->Resume();
  threads_->Pause();
  threads_->Stop();
  const auto stops = Stops();
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops[0].first, VcpuStop::kTripleFault);
}

TEST_F(VcpuThreadsTest, WhatTheHypervisorCannotDoIsACrash) {
  using namespace hypervisor;
  Make(4);
  ASSERT_TRUE(threads_->Start().has_value());
  fakes_[0]->Push(ExitFailEntry{.reason = 0x80000021});
  fakes_[1]->Push(ExitInternalError{.suberror = 1, .message = "emulation"});
  fakes_[2]->Push(ExitUnknown{.reason = 99});
  fakes_[3]->Push(ExitSystemEvent{.type = 3});
  threads_->Resume();
  for (int i = 0; i < 4; ++i) stopped_.acquire();
  std::string all;
  for (const auto& [stop, why] : Stops()) {
    EXPECT_EQ(stop, VcpuStop::kCrash);
    all += why + "\n";
  }
  for (const char* text : {"0x80000021", "emulation", "99", "event 3"}) {
    EXPECT_NE(all.find(text), std::string::npos) << text << " in " << all;
  }
}

TEST_F(VcpuThreadsTest, StopWhilePausedAndWhileRunning) {
  Make(2);
  ASSERT_TRUE(threads_->Start().has_value());
  threads_->Stop();
  threads_->Stop();
  threads_->Resume();  // no more than nothing
  fakes_.clear();
  threads_.reset();
}

TEST_F(VcpuThreadsTest, SplitChipsInjectWhenTheGuestIsReady) {
  FakeChip chip;
  Make(2, {.user_irq_chip = &chip});
  ASSERT_TRUE(threads_->Start().has_value());
  chip.Set({0x21, 0x20});
  fakes_[0]->SetReadyForInterrupt(false);
  threads_->Resume();
  EnterDevice(0);
  EnterDevice(0);
  EXPECT_TRUE(fakes_[0]->window_requested());
  EXPECT_TRUE(fakes_[0]->TakeInterrupts().empty());
  fakes_[0]->SetReadyForInterrupt(true);
  fakes_[0]->Push(hypervisor::ExitInterruptWindow{});
  EnterDevice(0);
  EnterDevice(0);
  EnterDevice(0);
  EXPECT_EQ(fakes_[0]->TakeInterrupts(), (std::vector<uint8_t>{0x20, 0x21}));
  EXPECT_FALSE(fakes_[0]->window_requested());
  EXPECT_TRUE(fakes_[1]->TakeInterrupts().empty()) << "the PIC is the boot CPU's";
  fakes_[1]->Push(hypervisor::ExitIoapicEoi{.vector = 0x31});
  chip.eois.acquire();
  EXPECT_EQ(chip.last_eoi, 0x31);
  threads_->Stop();  // before the chip is gone
}

TEST_F(VcpuThreadsTest, AWithdrawnRequestLeavesNoWindow) {
  FakeChip chip;
  Make(1, {.user_irq_chip = &chip});
  ASSERT_TRUE(threads_->Start().has_value());
  chip.Set({0x20});
  fakes_[0]->SetReadyForInterrupt(false);
  threads_->Resume();
  EnterDevice(0);
  EnterDevice(0);
  EXPECT_TRUE(fakes_[0]->window_requested());
  chip.Set({});
  EnterDevice(0);
  EnterDevice(0);
  EXPECT_FALSE(fakes_[0]->window_requested());
  threads_->Stop();
}

}  // namespace
}  // namespace crosvm::vm
