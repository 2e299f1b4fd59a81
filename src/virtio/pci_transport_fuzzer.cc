// A guest's accesses to a virtio PCI function in any order: BAR 0, configuration space with its
// window, and a backend that fails, changes its configuration or signals in between. The fake
// backend checks what it is handed.
#include <linux/virtio_pci.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/log.h"
#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "pci/root.h"
#include "virtio/pci_fake_backend.h"
#include "virtio/pci_transport.h"

namespace crosvm::virtio {
namespace {

constexpr uint64_t kBase = 0xd000'0000;

class NullLine final : public bus::InterruptLine {
 public:
  void Raise() override {}
  void Lower() override {}
};

class Machine {
 public:
  explicit Machine(const memory::GuestMemory& memory) {
    backend_ = std::make_shared<FakeBackend>(DeviceInfo{.device_id = 1,
                                                        .features = kQueueFeatures | 0xff,
                                                        .queue_sizes = {256, 100, 8},
                                                        .config_size = 12});
    PciTransport::Options options;
    options.backend = backend_;
    options.memory = memory;
    options.intx = std::make_unique<NullLine>();
    options.failed = [](Error) {};
    options.shared_memory =
        SharedMemory::Create(vm_, "fuzz", {{.id = 1, .size = 0x10'0000}}).value();
    transport_ =
        PciTransport::Create({.vm = vm_, .router = router_, .loop = loop_}, std::move(options))
            .value();
    CHECK(transport_->config().SetBarAddress(0, kBase).has_value());
    CHECK(root_.Add(at_, transport_).has_value());
    const uint8_t command[] = {PCI_COMMAND_MEMORY, 0};
    root_.WriteConfig(at_, PCI_COMMAND, command);
  }
  // As a well-behaved driver would, so that the fuzzer need not find the way to a running device.
  void Drive(uint8_t queues, bool packed) {
    Write(VIRTIO_PCI_COMMON_STATUS, 1, 0);
    Write(VIRTIO_PCI_COMMON_STATUS, 1, 3);
    Write(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    Write(VIRTIO_PCI_COMMON_GF, 4, packed ? 0x105 : 0x101);
    Write(VIRTIO_PCI_COMMON_STATUS, 1, 11);
    for (uint16_t queue = 0; queue < 3; ++queue) {
      if ((queues >> queue & 1) == 0) continue;
      Write(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
      Write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
      Write(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x1000U * (queue + 1U));
      Write(VIRTIO_PCI_COMMON_Q_AVAILLO, 8, 0x5000);
      Write(VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x6000);
      Write(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    }
    Write(VIRTIO_PCI_COMMON_STATUS, 1, 15);
  }
  void Write(uint64_t offset, size_t width, uint64_t value) {
    std::array<uint8_t, 8> data;
    for (size_t i = 0; i < 8; ++i) data[i] = static_cast<uint8_t>(value >> (8 * i));
    mmio_.Write(kBase + offset, std::span(data).first(width));
  }
  void Step(std::span<const uint8_t> step);

 private:
  void BackendStep(uint8_t what);

  const pci::Address at_ = *pci::Address::Make(0, 1, 0);
  hypervisor::FakeVm vm_;
  event::TestLoop loop_;
  hypervisor::IrqRouter router_{vm_, {}, hypervisor::Gsi(24)};
  bus::Bus mmio_{"MMIO"};
  bus::Bus io_{"I/O ports"};
  pci::Root root_{
      mmio_,
      io_,
      {.memory = {{kBase, 0x100'0000}, {uint64_t{1} << 32, uint64_t{1} << 36}}, .io = {}}};
  std::shared_ptr<FakeBackend> backend_;
  std::shared_ptr<PciTransport> transport_;
};

void Machine::Step(std::span<const uint8_t> step) {
  const size_t width = size_t{1} << (step[1] % 4);
  const uint64_t where = step[2] | (uint64_t{step[3]} << 8);
  std::array<uint8_t, 8> data;
  std::copy_n(step.begin() + 4, 8, data.begin());
  const std::span<uint8_t> access = std::span(data).first(width);
  switch (step[0] % 8) {
    case 0:  // the common configuration most often
      mmio_.Write(kBase + where % 0x48, access);
      break;
    case 1:
      mmio_.Write(kBase + where, access);
      break;
    case 2:
      mmio_.Read(kBase + where, access);
      break;
    case 3:
      root_.WriteConfig(at_, static_cast<uint32_t>(where % 0x110), access);
      break;
    case 4:
      root_.ReadConfig(at_, static_cast<uint32_t>(where % 0x110), access);
      break;
    case 5:
      Drive(data[0], (data[1] & 1) != 0);
      break;
    case 6:
      BackendStep(data[0]);
      break;
    default:
      loop_.RunUntilIdle();
  }
}

void Machine::BackendStep(uint8_t what) {
  switch (what % 8) {
    case 0:
      backend_->failure = ErrorKind::kIo;
      break;
    case 1:
      backend_->failure = ErrorKind::kTimedOut;
      break;
    case 2:
      backend_->failure.reset();
      break;
    case 3:
      backend_->events.config_changed();
      break;
    case 4:
      // As after a crash: the successor has the queues again.
      (void)transport_->Reattached();
      break;
    case 5:
      (void)transport_->Pause();
      break;
    case 6:
      transport_->Unpause();
      break;
    default:
      if ((what & 8) != 0) {
        transport_->GiveUp();
      } else {
        transport_->MarkNeedsReset();
      }
  }
}

}  // namespace
}  // namespace crosvm::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm;
  static const memory::GuestMemory memory = [] {
    CHECK(SetLogFilter("error").has_value());
    const memory::RegionLayout layout[] = {{.start = memory::GuestAddr(0), .size = 0x1'0000}};
    return memory::GuestMemory::Create(layout).value();
  }();
  virtio::Machine machine(memory);
  for (std::span<const uint8_t> input(data, size); input.size() >= 12; input = input.subspan(12)) {
    machine.Step(input.first(12));
  }
  return 0;
}
