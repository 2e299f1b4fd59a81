#include "arch/x86_64/boot.h"

#include <algorithm>

#include "arch/x86_64/layout.h"
#include "base/checked_math.h"
#include "base/endian.h"
#include "base/log.h"
#include "loader/boot_params.h"
#include "loader/cmdline.h"
#include "loader/initrd.h"
#include "loader/pvh.h"

namespace crosvm::x86_64 {
namespace {

constexpr uint64_t kMaxDeviceTree = 0x20'0000;
constexpr uint32_t kSetupDeviceTree = 2;  // SETUP_DTB

// One node of the zero page's setup data list, in front of its payload.
struct SetupDataHeader {
  Le64 next;
  Le32 type;
  Le32 length;
};
static_assert(sizeof(SetupDataHeader) == 16);

BootProtocol Choose(const BootConfig& config, const loader::LoadedKernel& kernel) {
  if (config.protocol) return *config.protocol;
  return kernel.pvh_entry && !kernel.header ? BootProtocol::kPvh : BootProtocol::kLinux64;
}

Status WriteCommandLine(std::string_view text, const loader::LoadedKernel& kernel,
                        const memory::GuestMemory& memory) {
  if (kernel.header && kernel.header->cmdline_size != 0 &&
      text.size() > kernel.header->cmdline_size) {
    LOG_WARN("the kernel command line has {} characters; this kernel reads {} of them", text.size(),
             uint32_t{kernel.header->cmdline_size});
  }
  loader::Cmdline line(kCommandLineMax);
  TRY(line.Append(text));
  return line.Write(memory, kCommandLine);
}

// Returns the first free address behind the node.
Result<uint64_t> WriteDeviceTree(std::span<const uint8_t> tree, uint64_t at,
                                 const memory::GuestMemory& memory) {
  if (tree.size() > kMaxDeviceTree) {
    return Fail(ErrorKind::kInvalidArgument,
                "a device tree of {} bytes; at most 2 MiB are possible", tree.size());
  }
  const SetupDataHeader header = {
      .next = uint64_t{0}, .type = kSetupDeviceTree, .length = static_cast<uint32_t>(tree.size())};
  if (!memory.Write(GuestAddr(at), header) ||
      !memory.WriteBytes(GuestAddr(at + sizeof(header)), tree)) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the device tree does not fit behind the kernel; give the guest more memory (--mem)");
  }
  return at + sizeof(header) + tree.size();
}

}  // namespace

Result<InitialState> LoadGuest(const BootConfig& config, const MemoryLayout& layout,
                               const memory::GuestMemory& memory,
                               const loader::LoadedKernel& kernel) {
  const BootProtocol protocol = Choose(config, kernel);
  if (protocol == BootProtocol::kPvh && !kernel.pvh_entry) {
    return Fail(ErrorKind::kInvalidArgument, "the kernel has no PVH entry");
  }
  TRY_CONTEXT(WriteCommandLine(config.command_line, kernel, memory), "kernel command line");

  uint64_t free_from = kernel.range.end();
  GuestAddr setup_data{0};
  if (!config.device_tree.empty()) {
    const std::optional<uint64_t> at = AlignUp<uint64_t>(free_from, 64);
    if (!at) return Fail(ErrorKind::kInternal, "the kernel ends at {:#x}", free_from);
    setup_data = GuestAddr(*at);
    free_from = TRY(WriteDeviceTree(config.device_tree, *at, memory));
  }
  std::optional<loader::GuestRange> initrd;
  if (config.initrd.valid()) {
    const uint64_t limit = kernel.header ? kernel.header->initrd_addr_max : 0;
    initrd = TRY_CONTEXT(loader::LoadInitrd(config.initrd, memory, GuestAddr(free_from), limit),
                         "loading the initrd");
  }
  const std::vector<loader::MemoryMapEntry> map = MemoryMap(layout, config.tables.large_acpi);
  TRY(WriteBootStructures(memory, protocol));

  if (protocol == BootProtocol::kPvh) {
    const loader::PvhInput input = {
        .cmdline = kCommandLine, .initrd = initrd, .rsdp = config.tables.rsdp, .memory_map = map};
    TRY(loader::WritePvhStartInfo(memory, kPvhStartInfo, input));
    return InitialState{
        .protocol = protocol, .entry = *kernel.pvh_entry, .boot_data = kPvhStartInfo};
  }
  const loader::BootParamsInput input = {
      .header = kernel.header,
      .cmdline = kCommandLine,
      .cmdline_size = static_cast<uint32_t>(config.command_line.size() + 1),
      .initrd = initrd,
      .setup_data = setup_data,
      .rsdp = config.tables.rsdp,
      .memory_map = map};
  const boot_params params = TRY(loader::BuildBootParams(input));
  TRY(loader::WriteBootParams(memory, kZeroPage, params));
  return InitialState{.protocol = protocol, .entry = kernel.entry, .boot_data = kZeroPage};
}

Status LoadFirmware(sys::BorrowedFd image, const MemoryLayout& layout,
                    const memory::GuestMemory& memory) {
  if (!layout.firmware)
    return Fail(ErrorKind::kInternal, "the memory layout has no firmware region");
  TRY(loader::LoadRange(image, 0, layout.firmware->size, memory, layout.firmware->start,
                        "the BIOS image"));
  // A PC shows the end of its firmware below 1 MiB as well: a BIOS jumps there from the reset
  // vector.
  const uint64_t shadow = std::min(layout.firmware->size, kFirmwareShadowMax);
  return loader::LoadRange(image, layout.firmware->size - shadow, shadow, memory,
                           GuestAddr(0x10'0000 - shadow), "the BIOS image");
}

}  // namespace crosvm::x86_64
