#include "tables/smbios.h"

#include <algorithm>

#include "base/check.h"

namespace crosvm::tables {
namespace {

constexpr uint16_t kProcessorHandle = 0x0400;
constexpr uint16_t kMemoryArrayHandle = 0x1000;
constexpr uint16_t kMemoryDeviceHandle = 0x1100;
constexpr uint16_t kMemoryRangeHandle = 0x1300;
constexpr uint16_t kNoHandle = 0xffff;
constexpr uint16_t kNoErrorHandle = 0xfffe;
constexpr uint64_t kKib = 1 << 10;
constexpr uint64_t kMib = 1 << 20;

// One structure: the formatted part, then its strings.
class Structure {
 public:
  Structure(uint8_t type, uint16_t handle) { out_.U8(type).U8(0).U16(handle); }

  ByteWriter& fields() { return out_; }

  // Appends the number of the string; an absent one is 0.
  Structure& Text(std::string_view text) {
    if (text.empty()) {
      out_.U8(0);
      return *this;
    }
    strings_.emplace_back(text);
    out_.U8(static_cast<uint8_t>(strings_.size()));
    return *this;
  }
  // A string that no field names (type 11).
  void Unnamed(std::string_view text) { strings_.emplace_back(text); }

  void AppendTo(ByteWriter& table) && {
    CHECK(out_.size() <= 255 && strings_.size() <= 255);
    out_.PatchU8(1, static_cast<uint8_t>(out_.size()));
    table.Append(out_.bytes());
    for (const std::string& text : strings_) table.Text(text).U8(0);
    if (strings_.empty()) table.U8(0);
    table.U8(0);
  }

 private:
  ByteWriter out_;
  std::vector<std::string> strings_;
};

void AddBios(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint64_t kPciSupported = 1 << 7;
  constexpr uint8_t kVirtualMachine = 1 << 4;
  Structure bios(0, 0x0000);
  bios.Text(config.bios_vendor).Text(config.bios_version);
  bios.fields().U16(0);
  bios.Text("01/01/2020");
  bios.fields().U8(0).U64(kPciSupported).U8(0).U8(kVirtualMachine);
  bios.fields().U8(0).U8(0).U8(0xff).U8(0xff).U16(0);  // releases; ROM size beyond 16 MiB
  std::move(bios).AppendTo(table);
}

void AddSystem(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint8_t kPowerSwitch = 6;
  Structure system(1, 0x0100);
  system.Text(config.manufacturer).Text(config.product).Text(config.version).Text(config.serial);
  system.fields().Append(config.uuid).U8(kPowerSwitch);
  system.Text("").Text("");  // SKU, family
  std::move(system).AppendTo(table);
}

void AddChassis(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint8_t kOther = 1;
  constexpr uint8_t kUnknown = 2;
  constexpr uint8_t kSafe = 3;
  Structure chassis(3, 0x0300);
  chassis.Text(config.manufacturer);
  chassis.fields().U8(kOther);
  chassis.Text(config.version).Text(config.serial).Text("");
  chassis.fields().U8(kSafe).U8(kSafe).U8(kSafe).U8(kUnknown).U32(0).U8(0).U8(0).U8(0).U8(0);
  chassis.Text("");
  std::move(chassis).AppendTo(table);
}

void AddProcessor(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint8_t kCentral = 3;
  constexpr uint8_t kOther = 1;
  constexpr uint8_t kUnknown = 2;
  constexpr uint8_t kPopulatedEnabled = 0x41;
  constexpr uint16_t k64BitMultiCoreThread = 0x1c;
  const auto narrow = [](uint32_t count) {
    return static_cast<uint8_t>(std::min<uint32_t>(count, 0xff));
  };
  const auto wide = [](uint32_t count) {
    return static_cast<uint16_t>(std::min<uint32_t>(count, 0xfffe));
  };
  Structure cpu(4, kProcessorHandle);
  cpu.Text("CPU 0");
  cpu.fields().U8(kCentral).U8(kOther);
  cpu.Text(config.manufacturer);
  cpu.fields().U64(config.cpu_id);
  cpu.Text(config.cpu_brand);
  cpu.fields().U8(0).U16(0).U16(0).U16(0).U8(kPopulatedEnabled).U8(kOther);
  cpu.fields().U16(kNoHandle).U16(kNoHandle).U16(kNoHandle);
  cpu.Text("").Text("").Text("");
  cpu.fields().U8(narrow(config.cpu_cores)).U8(narrow(config.cpu_cores));
  cpu.fields().U8(narrow(config.cpu_threads)).U16(k64BitMultiCoreThread).U16(kUnknown);
  cpu.fields().U16(wide(config.cpu_cores)).U16(wide(config.cpu_cores));
  cpu.fields().U16(wide(config.cpu_threads));
  std::move(cpu).AppendTo(table);
}

void AddOemStrings(ByteWriter& table, const SmbiosConfig& config) {
  if (config.oem_strings.empty()) return;
  Structure oem(11, 0x0b00);
  oem.fields().U8(static_cast<uint8_t>(config.oem_strings.size()));
  for (const std::string& text : config.oem_strings) oem.Unnamed(text);
  std::move(oem).AppendTo(table);
}

uint64_t TotalRam(const SmbiosConfig& config) {
  uint64_t total = 0;
  for (const SmbiosMemoryRange& range : config.ram) total += range.size;
  return total;
}

void AddMemoryArray(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint8_t kOther = 1;
  constexpr uint8_t kSystemMemory = 3;
  constexpr uint8_t kNoCorrection = 3;
  constexpr uint32_t kSeeExtended = 0x8000'0000;
  const uint64_t total = TotalRam(config);
  const bool extended = total / kKib >= kSeeExtended;
  Structure array(16, kMemoryArrayHandle);
  array.fields().U8(kOther).U8(kSystemMemory).U8(kNoCorrection);
  array.fields().U32(extended ? kSeeExtended : static_cast<uint32_t>(total / kKib));
  array.fields().U16(kNoErrorHandle).U16(1).U64(extended ? total : 0);
  std::move(array).AppendTo(table);
}

void AddMemoryDevice(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint16_t kUnknownWidth = 0xffff;
  constexpr uint16_t kSeeExtended = 0x7fff;
  constexpr uint8_t kDimm = 9;
  constexpr uint8_t kRam = 7;
  constexpr uint16_t kOtherDetail = 1 << 1;
  const uint64_t mib = TotalRam(config) / kMib;
  const bool extended = mib >= kSeeExtended;
  Structure device(17, kMemoryDeviceHandle);
  device.fields().U16(kMemoryArrayHandle).U16(kNoErrorHandle).U16(kUnknownWidth).U16(kUnknownWidth);
  device.fields().U16(extended ? kSeeExtended : static_cast<uint16_t>(mib)).U8(kDimm).U8(0);
  device.Text("DIMM 0").Text("");
  device.fields().U8(kRam).U16(kOtherDetail).U16(0);
  device.Text(config.manufacturer).Text("").Text("").Text("");
  device.fields().U8(0).U32(extended ? static_cast<uint32_t>(mib) : 0).U16(0);
  device.fields().U16(0).U16(0).U16(0);
  std::move(device).AppendTo(table);
}

void AddMemoryRanges(ByteWriter& table, const SmbiosConfig& config) {
  constexpr uint32_t kSeeExtended = 0xffff'ffff;
  uint16_t handle = kMemoryRangeHandle;
  for (const SmbiosMemoryRange& range : config.ram) {
    if (range.size == 0) continue;
    const uint64_t last = range.start + range.size - 1;
    const bool extended = last / kKib >= kSeeExtended;
    Structure mapped(19, handle++);
    mapped.fields().U32(extended ? kSeeExtended : static_cast<uint32_t>(range.start / kKib));
    mapped.fields().U32(extended ? kSeeExtended : static_cast<uint32_t>(last / kKib));
    mapped.fields().U16(kMemoryArrayHandle).U8(1);
    mapped.fields().U64(extended ? range.start : 0).U64(extended ? last : 0);
    std::move(mapped).AppendTo(table);
  }
}

void AddBootAndEnd(ByteWriter& table) {
  Structure boot(32, 0x2000);
  boot.fields().Zero(6).U8(0);  // no errors detected
  std::move(boot).AppendTo(table);
  std::move(Structure(127, 0x7f00)).AppendTo(table);
}

Bytes EntryPoint(uint32_t structures_size, uint64_t structures_address) {
  ByteWriter out;
  out.Text("_SM3_").U8(0).U8(24).U8(3).U8(2).U8(0).U8(1).U8(0);
  out.U32(structures_size).U64(structures_address);
  CHECK(out.size() == 24);
  out.PatchU8(5, Checksum(out.bytes()));
  return std::move(out).Take();
}

Status CheckText(std::string_view text) {
  if (text.find('\0') == std::string_view::npos) return {};
  return Fail(ErrorKind::kInvalidArgument, "an SMBIOS string may not contain a zero byte");
}

Status CheckConfig(const SmbiosConfig& config) {
  for (const std::string* text :
       {&config.bios_vendor, &config.bios_version, &config.manufacturer, &config.product,
        &config.version, &config.serial, &config.cpu_brand}) {
    TRY(CheckText(*text));
  }
  if (config.oem_strings.size() > 255) {
    return Fail(ErrorKind::kInvalidArgument, "{} OEM strings; SMBIOS holds 255",
                config.oem_strings.size());
  }
  for (const std::string& text : config.oem_strings) {
    TRY(CheckText(text));
    if (text.empty()) return Fail(ErrorKind::kInvalidArgument, "an OEM string is empty");
  }
  return {};
}

}  // namespace

Result<Bytes> BuildSmbios(const SmbiosConfig& config, uint64_t base, uint64_t limit) {
  TRY(CheckConfig(config));
  ByteWriter table;
  AddBios(table, config);
  AddSystem(table, config);
  AddChassis(table, config);
  AddProcessor(table, config);
  AddOemStrings(table, config);
  AddMemoryArray(table, config);
  AddMemoryDevice(table, config);
  AddMemoryRanges(table, config);
  AddBootAndEnd(table);
  if (table.size() + kSmbiosStructuresOffset > limit) {
    return Fail(ErrorKind::kInvalidArgument,
                "the SMBIOS strings are too long: {} bytes, room is for {}", table.size(),
                limit - std::min(limit, kSmbiosStructuresOffset));
  }
  ByteWriter image;
  image.Append(EntryPoint(static_cast<uint32_t>(table.size()), base + kSmbiosStructuresOffset));
  image.Zero(kSmbiosStructuresOffset - image.size()).Append(table.bytes());
  return std::move(image).Take();
}

std::optional<std::array<uint8_t, 16>> ParseSmbiosUuid(std::string_view text) {
  // Position in the text of each byte on the wire.
  constexpr std::array<size_t, 16> kPositions = {6,  4,  2,  0,  11, 9,  16, 14,
                                                 19, 21, 24, 26, 28, 30, 32, 34};
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (text.size() != 36) return std::nullopt;
  for (const size_t dash : std::array<size_t, 4>{8, 13, 18, 23}) {
    if (text[dash] != '-') return std::nullopt;
  }
  std::array<uint8_t, 16> uuid{};
  for (size_t i = 0; i < uuid.size(); ++i) {
    const int high = digit(text[kPositions[i]]);
    const int low = digit(text[kPositions[i] + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    uuid[i] = static_cast<uint8_t>((high << 4) | low);
  }
  return uuid;
}

}  // namespace crosvm::tables
