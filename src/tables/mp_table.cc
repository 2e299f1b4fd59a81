#include "tables/mp_table.h"

#include <algorithm>

#include "base/check.h"

namespace crosvm::tables {
namespace {

constexpr uint8_t kSpecification14 = 4;
constexpr uint32_t kLastApicId = 254;

enum class EntryType : uint8_t { kCpu = 0, kBus = 1, kIoApic = 2, kInterrupt = 3, kLocal = 4 };
enum class InterruptType : uint8_t { kInt = 0, kNmi = 1, kExtInt = 3 };
// Polarity in bits 0-1, trigger mode in bits 2-3; 0 is what the bus has by default.
constexpr uint16_t kBusDefault = 0x0;
constexpr uint16_t kLevelHigh = 0xd;

struct Source {
  uint8_t bus;
  uint8_t irq;
  uint8_t pin;
  uint16_t flags;
};

class Writer {
 public:
  ByteWriter& Entry(EntryType type) {
    ++count_;
    return out_.U8(static_cast<uint8_t>(type));
  }

  void Cpu(uint32_t apic_id, bool boot) {
    constexpr uint8_t kApicVersion = 0x14;
    constexpr uint8_t kEnabled = 1;
    constexpr uint8_t kBoot = 2;
    constexpr uint32_t kSignature = 0x600;
    constexpr uint32_t kFpuAndApic = 0x201;
    Entry(EntryType::kCpu).U8(static_cast<uint8_t>(apic_id)).U8(kApicVersion);
    out_.U8(boot ? kEnabled | kBoot : kEnabled).U32(kSignature).U32(kFpuAndApic).Zero(8);
  }

  void Bus(uint8_t id, std::string_view name) { Entry(EntryType::kBus).U8(id).FixedText(name, 6); }

  void IoApic(uint8_t id, uint32_t address) {
    Entry(EntryType::kIoApic).U8(id).U8(0x20).U8(1).U32(address);
  }

  void Interrupt(const Source& source, uint8_t ioapic) {
    Entry(EntryType::kInterrupt).U8(static_cast<uint8_t>(InterruptType::kInt)).U16(source.flags);
    out_.U8(source.bus).U8(source.irq).U8(ioapic).U8(source.pin);
  }

  void Local(InterruptType type, uint8_t bus, uint8_t apic, uint8_t lint) {
    Entry(EntryType::kLocal).U8(static_cast<uint8_t>(type)).U16(kBusDefault).U8(bus).U8(0);
    out_.U8(apic).U8(lint);
  }

  uint16_t count() const { return count_; }
  std::span<const uint8_t> bytes() const { return out_.bytes(); }

 private:
  ByteWriter out_;
  uint16_t count_ = 0;
};

void AddIsaInterrupts(Writer& out, const MpConfig& config, uint8_t isa_bus, uint8_t ioapic) {
  constexpr uint8_t kCascade = 2;
  for (uint8_t irq = 0; irq < 16; ++irq) {
    const bool pci = std::ranges::any_of(
        config.interrupts, [irq](const PciInterrupt& line) { return line.gsi == irq; });
    if (irq == kCascade || pci) continue;
    const bool sci = config.sci != 0 && irq == config.sci;
    out.Interrupt({.bus = isa_bus, .irq = irq, .pin = irq, .flags = sci ? kLevelHigh : kBusDefault},
                  ioapic);
  }
}

}  // namespace

MpTable BuildMpTable(const MpConfig& config, uint32_t configuration_address) {
  CHECK(config.pci_bus_count >= 1 && config.pci_bus_count <= 255);
  constexpr uint8_t kAllApics = 0xff;
  const uint8_t isa_bus = static_cast<uint8_t>(config.pci_bus_count);
  Writer entries;
  uint32_t highest_id = 0;
  for (size_t i = 0; i < config.apic_ids.size(); ++i) {
    if (config.apic_ids[i] > kLastApicId) continue;
    entries.Cpu(config.apic_ids[i], i == 0);
    highest_id = std::max(highest_id, config.apic_ids[i]);
  }
  for (unsigned bus = 0; bus < config.pci_bus_count; ++bus) {
    entries.Bus(static_cast<uint8_t>(bus), "PCI");
  }
  entries.Bus(isa_bus, "ISA");
  const uint8_t ioapic = static_cast<uint8_t>(std::min(highest_id + 1, kLastApicId));
  entries.IoApic(ioapic, config.ioapic_address);
  AddIsaInterrupts(entries, config, isa_bus, ioapic);
  for (const PciInterrupt& line : config.interrupts) {
    CHECK(line.slot < 32 && line.pin < 4 && line.gsi <= 0xff);
    // The source of a PCI interrupt is slot and pin (specification 1.4, D.3).
    entries.Interrupt({.bus = 0,
                       .irq = static_cast<uint8_t>((line.slot << 2) | line.pin),
                       .pin = static_cast<uint8_t>(line.gsi),
                       .flags = kBusDefault},
                      ioapic);
  }
  entries.Local(InterruptType::kExtInt, isa_bus, 0, 0);
  entries.Local(InterruptType::kNmi, isa_bus, kAllApics, 1);

  constexpr size_t kHeaderSize = 44;
  ByteWriter table;
  table.Text("PCMP").U16(static_cast<uint16_t>(kHeaderSize + entries.bytes().size()));
  table.U8(kSpecification14).U8(0).FixedText("CROSVM", 8).FixedText("000000000000", 12);
  table.U32(0).U16(0).U16(entries.count()).U32(config.local_apic_address).U32(0);
  CHECK(table.size() == kHeaderSize);
  table.Append(entries.bytes());
  table.PatchU8(7, Checksum(table.bytes()));

  ByteWriter pointer;
  pointer.Text("_MP_").U32(configuration_address).U8(1).U8(kSpecification14).U8(0).Zero(5);
  pointer.PatchU8(10, Checksum(pointer.bytes()));
  return {.floating_pointer = std::move(pointer).Take(), .configuration = std::move(table).Take()};
}

}  // namespace crosvm::tables
