#include "platform/split_irqchip.h"

#include <utility>

#include "base/check.h"

namespace crosvm::platform {
namespace {

constexpr uint64_t kPrimaryPic = 0x20;
constexpr uint64_t kSecondaryPic = 0xa0;
constexpr uint64_t kTriggerPorts = 0x4d0;
constexpr uint64_t kPitPorts = 0x40;
constexpr uint64_t kSpeakerPort = 0x61;
constexpr uint32_t kTimerGsi = 0;

}  // namespace

class SplitLine : public bus::InterruptLine {
 public:
  SplitLine(SplitIrqChip& chip, uint32_t gsi, bool level) : chip_(chip), gsi_(gsi), level_(level) {}
  ~SplitLine() override { Lower(); }

  void Raise() override {
    if (!level_) {
      chip_.SetGsi(gsi_, true);
      chip_.SetGsi(gsi_, false);
      return;
    }
    const MutexLock lock(mutex_);
    if (!std::exchange(up_, true)) chip_.Count(gsi_, true);
  }
  void Lower() override {
    if (!level_) return;
    const MutexLock lock(mutex_);
    if (std::exchange(up_, false)) chip_.Count(gsi_, false);
  }

 private:
  SplitIrqChip& chip_;
  const uint32_t gsi_;
  const bool level_;
  Mutex mutex_;
  bool up_ CROSVM_GUARDED_BY(mutex_) = false;
};

SplitIrqChip::SplitIrqChip(event::EventLoop& loop, std::unique_ptr<IoapicOutput> output,
                           std::function<void()> request_injection,
                           const SplitIrqChipOptions& options)
    : pic_(std::move(request_injection)),
      ioapic_(std::make_shared<Ioapic>(options.pins, std::move(output))),
      pit_(loop, MakeEdgeLine(hypervisor::Gsi(kTimerGsi)), options.clock),
      raised_(options.pins, 0) {
}

Status SplitIrqChip::Insert(bus::Bus& ports, bus::Bus& mmio, uint64_t ioapic_base) {
  TRY(ports.Insert(pic_.primary_ports(), kPrimaryPic, Pic::kPortLength));
  TRY(ports.Insert(pic_.secondary_ports(), kSecondaryPic, Pic::kPortLength));
  TRY(ports.Insert(pic_.trigger_ports(), kTriggerPorts, Pic::kPortLength));
  TRY(ports.Insert(pit_.counter_ports(), kPitPorts, Pit::kCounterLength));
  TRY(ports.Insert(pit_.speaker_port(), kSpeakerPort, Pit::kSpeakerLength));
  return mmio.Insert(ioapic_, ioapic_base, Ioapic::kLength);
}

std::shared_ptr<bus::InterruptLine> SplitIrqChip::MakeEdgeLine(hypervisor::Gsi gsi) {
  CHECK(gsi.value() < ioapic_->pins());
  return std::make_shared<SplitLine>(*this, gsi.value(), false);
}

std::shared_ptr<bus::InterruptLine> SplitIrqChip::MakeLevelLine(hypervisor::Gsi gsi) {
  CHECK(gsi.value() < ioapic_->pins());
  return std::make_shared<SplitLine>(*this, gsi.value(), true);
}

void SplitIrqChip::SetGsi(uint32_t gsi, bool level) {
  pic_.SetPin(gsi, level);
  ioapic_->SetPin(gsi, level);
}

void SplitIrqChip::Count(uint32_t gsi, bool up) {
  // Held over SetGsi(), so that the pins see the changes in the order of the count.
  const MutexLock lock(mutex_);
  uint32_t& raised = raised_[gsi];
  raised = up ? raised + 1 : raised - 1;
  if (raised == (up ? 1u : 0u)) SetGsi(gsi, up);
}

}  // namespace crosvm::platform
