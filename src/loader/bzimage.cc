#include "loader/bzimage.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/checked_math.h"
#include "sys/file.h"

namespace crosvm::loader {
namespace {

constexpr uint64_t kSectorSize = 512;
constexpr size_t kHeaderOffset = offsetof(boot_params, hdr);
// The header ends where the jump at its start goes: 0x202 plus the jump's 8-bit displacement.
constexpr size_t kJumpTarget = 0x202;
constexpr uint32_t kMagic = 0x53726448;  // "HdrS"
constexpr uint16_t kMinVersion = 0x020c;
// Behind init_size, the last field that we need.
constexpr size_t kMinHeaderSize = offsetof(setup_header, init_size) + sizeof(uint32_t);
// boot.rst, "64-bit boot protocol": the 64-bit entry is this far into the protected-mode part.
constexpr uint64_t kEntryOffset = 0x200;

Status CheckCode(const BzImage& image, uint64_t file_size) {
  const setup_header& header = image.header;
  if (image.code_size <= kEntryOffset) {
    return Fail(ErrorKind::kInvalidArgument, "the kernel code has only {} bytes", image.code_size);
  }
  if (!RangeFits(image.code_offset, image.code_size, file_size)) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the file is truncated: the kernel code is {} bytes from offset {}, the file has {}",
        image.code_size, image.code_offset, file_size);
  }
  if (!RangeFits<uint64_t>(header.payload_offset, header.payload_length, image.code_size)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the compressed payload ({:#x} bytes at {:#x}) lies outside the kernel code",
                uint32_t{header.payload_length}, uint32_t{header.payload_offset});
  }
  return {};
}

Status CheckPlacement(const setup_header& header) {
  const uint32_t alignment = header.kernel_alignment;
  if (header.relocatable_kernel != 0 && !std::has_single_bit(alignment)) {
    return Fail(ErrorKind::kInvalidArgument, "the alignment {:#x} is not a power of two",
                alignment);
  }
  if (header.init_size == 0) {
    return Fail(ErrorKind::kInvalidArgument, "the header does not say how much memory is needed");
  }
  if (header.cmdline_size == 0) {
    return Fail(ErrorKind::kInvalidArgument, "the header allows no command line");
  }
  return {};
}

// TRUST: the bytes of the file become a header whose magic, version and length are known.
Result<setup_header> ReadHeader(sys::BorrowedFd file) {
  std::array<uint8_t, kHeaderOffset + sizeof(setup_header)> start{};
  const size_t length = TRY(sys::PreadAll(file, start, 0));
  setup_header header{};
  constexpr size_t kMagicEnd = kHeaderOffset + offsetof(setup_header, header) + sizeof(uint32_t);
  if (length >= kMagicEnd) std::memcpy(&header, start.data() + kHeaderOffset, sizeof(header));
  if (header.header != kMagic) {
    return Fail(ErrorKind::kInvalidArgument,
                "neither an ELF vmlinux nor a bzImage (no HdrS signature at offset {:#x})",
                kHeaderOffset + offsetof(setup_header, header));
  }
  if (header.version < kMinVersion) {
    return Fail(ErrorKind::kUnsupported,
                "boot protocol {}.{:02} is too old, 2.12 (Linux 3.8) is needed",
                header.version >> 8, header.version & 0xff);
  }
  const size_t end = kJumpTarget + (header.jump >> 8);
  if (end < kHeaderOffset + kMinHeaderSize || length < std::min(end, start.size())) {
    return Fail(ErrorKind::kInvalidArgument, "the setup header is truncated at offset {:#x}",
                std::min(end, length));
  }
  // What lies behind the header's own end is code, not fields of a newer protocol.
  if (end < start.size()) {
    // SAFETY: setup_header is a packed struct of integers.
    auto* const bytes = reinterpret_cast<uint8_t*>(&header);
    std::fill(bytes + (end - kHeaderOffset), bytes + sizeof(header), uint8_t{0});
  }
  return header;
}

}  // namespace

Result<BzImage> ParseBzImage(sys::BorrowedFd file) {
  const uint64_t file_size = TRY(sys::FileSize(file));
  BzImage image;
  image.header = TRY(ReadHeader(file));
  if ((image.header.xloadflags & XLF_KERNEL_64) == 0) {
    return Fail(ErrorKind::kUnsupported, "the kernel has no 64-bit entry; use an x86-64 kernel");
  }
  // boot.rst: for reasons of compatibility, 0 means 4.
  const uint64_t setup_sectors = image.header.setup_sects == 0 ? 4 : image.header.setup_sects;
  image.code_offset = (setup_sectors + 1) * kSectorSize;
  image.code_size = uint64_t{image.header.syssize} * 16;
  TRY(CheckCode(image, file_size));
  TRY(CheckPlacement(image.header));
  return image;
}

Result<LoadedKernel> LoadBzImage(sys::BorrowedFd file, const memory::GuestMemory& memory,
                                 memory::GuestAddr lowest) {
  const BzImage image = TRY(ParseBzImage(file));
  const setup_header& header = image.header;
  // A relocatable kernel moves itself up to the preferred address when it is put below it, so below
  // is no gain.
  uint64_t start = header.pref_address;
  if (start < lowest.value()) {
    if (header.relocatable_kernel == 0) {
      return Fail(
          ErrorKind::kUnsupported,
          "the kernel is not relocatable and wants {:#x}, below the first free address {:#x}",
          start, lowest.value());
    }
    const std::optional<uint64_t> aligned =
        AlignUp<uint64_t>(lowest.value(), header.kernel_alignment);
    if (!aligned) return Fail(ErrorKind::kInvalidArgument, "the kernel's alignment is absurd");
    start = *aligned;
  }
  const uint64_t size = std::max<uint64_t>(header.init_size, image.code_size);
  if (!memory.Slice(memory::GuestAddr(start), size)) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the kernel needs {} MiB of memory from {:#x} on, which the VM does not have; give it "
        "more memory",
        (size >> 20) + 1, start);
  }
  TRY(LoadRange(file, image.code_offset, image.code_size, memory, memory::GuestAddr(start),
                "the kernel code"));
  return LoadedKernel{
      .entry = memory::GuestAddr(start + kEntryOffset),
      .pvh_entry = std::nullopt,
      .range = {.start = memory::GuestAddr(start), .size = size},
      .header = header,
  };
}

}  // namespace crosvm::loader
