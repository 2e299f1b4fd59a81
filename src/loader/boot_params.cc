#include "loader/boot_params.h"

namespace crosvm::loader {
namespace {

constexpr uint8_t kLoaderUnknown = 0xff;  // boot.rst: a boot loader without a number of its own
constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint32_t kHeaderMagic = 0x53726448;  // "HdrS"
constexpr uint16_t kProtocolVersion = 0x020f;  // what we speak towards a vmlinux
constexpr uint32_t kElfAlignment = 0x0100'0000;

constexpr uint32_t Low(uint64_t value) {
  return static_cast<uint32_t>(value);
}
constexpr uint32_t High(uint64_t value) {
  return static_cast<uint32_t>(value >> 32);
}

setup_header ElfHeader() {
  setup_header header{};
  header.boot_flag = kBootFlag;
  header.header = kHeaderMagic;
  header.version = kProtocolVersion;
  header.kernel_alignment = kElfAlignment;
  return header;
}

}  // namespace

Result<boot_params> BuildBootParams(const BootParamsInput& input) {
  if (input.memory_map.size() > E820_MAX_ENTRIES_ZEROPAGE) {
    return Fail(ErrorKind::kInvalidArgument, "{} entries in the memory map; the zero page holds {}",
                input.memory_map.size(), E820_MAX_ENTRIES_ZEROPAGE);
  }
  boot_params params{};
  params.hdr = input.header ? *input.header : ElfHeader();
  params.hdr.type_of_loader = kLoaderUnknown;
  params.hdr.loadflags |= LOADED_HIGH;
  params.hdr.cmd_line_ptr = Low(input.cmdline.value());
  params.ext_cmd_line_ptr = High(input.cmdline.value());
  params.hdr.cmdline_size = input.cmdline_size;
  params.hdr.setup_data = input.setup_data.value();
  params.acpi_rsdp_addr = input.rsdp.value();
  if (input.initrd) {
    params.hdr.ramdisk_image = Low(input.initrd->start.value());
    params.ext_ramdisk_image = High(input.initrd->start.value());
    params.hdr.ramdisk_size = Low(input.initrd->size);
    params.ext_ramdisk_size = High(input.initrd->size);
  }
  for (const MemoryMapEntry& entry : input.memory_map) {
    boot_e820_entry& slot = params.e820_table[params.e820_entries++];
    slot.addr = entry.range.start.value();
    slot.size = entry.range.size;
    slot.type = static_cast<uint32_t>(entry.type);
  }
  return params;
}

Status WriteBootParams(const memory::GuestMemory& memory, memory::GuestAddr at,
                       const boot_params& params) {
  if (!memory.Write(at, params)) {
    return Fail(ErrorKind::kInvalidArgument, "the zero page does not fit in memory at {:#x}",
                at.value());
  }
  return {};
}

}  // namespace crosvm::loader
