#include "loader/pvh.h"

#include <cstring>
#include <vector>

namespace crosvm::loader {
namespace {

template <typename T>
void Put(std::vector<uint8_t>& out, const T& value) {
  // SAFETY: T is a struct of byte arrays without padding.
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

}  // namespace

Result<GuestRange> WritePvhStartInfo(const memory::GuestMemory& memory, memory::GuestAddr at,
                                     const PvhInput& input) {
  const uint64_t modules = at.value() + sizeof(PvhStartInfo);
  const uint64_t memory_map = modules + (input.initrd ? sizeof(PvhModule) : 0);

  PvhStartInfo info;
  info.cmdline = input.cmdline.value();
  info.rsdp = input.rsdp.value();
  info.memory_map = memory_map;
  info.memory_map_entries = static_cast<uint32_t>(input.memory_map.size());
  if (input.initrd) {
    info.module_count = 1U;
    info.modules = modules;
  }
  std::vector<uint8_t> bytes;
  Put(bytes, info);
  if (input.initrd) {
    PvhModule module;
    module.address = input.initrd->start.value();
    module.size = input.initrd->size;
    Put(bytes, module);
  }
  for (const MemoryMapEntry& entry : input.memory_map) {
    PvhMemoryMapEntry wire;
    wire.address = entry.range.start.value();
    wire.size = entry.range.size;
    wire.type = static_cast<uint32_t>(entry.type);
    Put(bytes, wire);
  }
  const GuestRange range{.start = at, .size = bytes.size()};
  if (at.value() > UINT32_MAX || !memory.WriteBytes(at, bytes)) {
    return Fail(ErrorKind::kInvalidArgument, "the PVH start info does not fit in memory at {:#x}",
                at.value());
  }
  return range;
}

}  // namespace crosvm::loader
