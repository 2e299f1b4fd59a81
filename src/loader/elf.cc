#include "loader/elf.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "base/checked_math.h"
#include "sys/file.h"

namespace crosvm::loader {
namespace {

constexpr size_t kMaxSegments = 64;
// A vmlinux has some hundred bytes of notes.
constexpr uint64_t kMaxNotes = uint64_t{64} << 10;
constexpr uint64_t kOneMib = uint64_t{1} << 20;
// Xen's public elfnote.h: the note whose descriptor is the physical PVH entry.
constexpr uint32_t kXenNotePhys32Entry = 18;
constexpr char kXenNoteName[] = "Xen";

// A PT_LOAD whose numbers are consistent with each other and with the file.
struct Segment {
  size_t index = 0;
  uint64_t file_offset = 0;
  uint64_t file_size = 0;
  uint64_t virtual_address = 0;
  GuestRange memory;
};

Status CheckHeader(const Elf64_Ehdr& header) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return Fail(ErrorKind::kInvalidArgument, "no ELF file");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return Fail(ErrorKind::kUnsupported, "the ELF file is not 64-bit little-endian");
  }
  if (header.e_machine != EM_X86_64) {
    return Fail(ErrorKind::kUnsupported, "the ELF file is for machine {}, not for x86-64 ({})",
                header.e_machine, EM_X86_64);
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return Fail(ErrorKind::kInvalidArgument, "the ELF file is no executable (type {})",
                header.e_type);
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return Fail(ErrorKind::kInvalidArgument, "ELF program headers of {} bytes, {} expected",
                header.e_phentsize, sizeof(Elf64_Phdr));
  }
  if (header.e_phoff < sizeof(Elf64_Ehdr)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the ELF program headers at {:#x} overlap the file header", header.e_phoff);
  }
  if (header.e_phnum == 0 || header.e_phnum > kMaxSegments) {
    return Fail(ErrorKind::kInvalidArgument, "{} ELF program headers; 1 to {} are possible",
                header.e_phnum, kMaxSegments);
  }
  return {};
}

Result<std::vector<Elf64_Phdr>> ReadProgramHeaders(sys::BorrowedFd file, const Elf64_Ehdr& header,
                                                   uint64_t file_size) {
  const uint64_t size = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (!RangeFits<uint64_t>(header.e_phoff, size, file_size)) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the file is truncated: the ELF program headers lie at {:#x}, the file has {:#x} bytes",
        header.e_phoff, file_size);
  }
  std::vector<Elf64_Phdr> headers(header.e_phnum);
  // SAFETY: Elf64_Phdr is a struct of integers without padding.
  TRY_CONTEXT(
      sys::PreadExact(file, {reinterpret_cast<uint8_t*>(headers.data()), size}, header.e_phoff),
      "reading the ELF program headers");
  return headers;
}

// TRUST: numbers of the file become a Segment.
Result<Segment> CheckSegment(const Elf64_Phdr& header, size_t index, uint64_t file_size) {
  if (header.p_filesz > header.p_memsz) {
    return Fail(ErrorKind::kInvalidArgument,
                "ELF segment {} has more bytes in the file ({:#x}) than in memory ({:#x})", index,
                header.p_filesz, header.p_memsz);
  }
  if (!RangeFits<uint64_t>(header.p_offset, header.p_filesz, file_size)) {
    return Fail(ErrorKind::kInvalidArgument,
                "the file is truncated: ELF segment {} is {:#x} bytes at {:#x}, the file has {:#x}",
                index, header.p_filesz, header.p_offset, file_size);
  }
  if (!CheckedAdd<uint64_t>(header.p_paddr, header.p_memsz)) {
    return Fail(ErrorKind::kInvalidArgument, "ELF segment {} wraps around the address space",
                index);
  }
  return Segment{
      .index = index,
      .file_offset = header.p_offset,
      .file_size = header.p_filesz,
      .virtual_address = header.p_vaddr,
      .memory = {.start = memory::GuestAddr(header.p_paddr), .size = header.p_memsz},
  };
}

// Sorted by address, without overlap, moved to where they go.
Result<std::vector<Segment>> PlaceSegments(std::span<const Elf64_Phdr> headers, uint64_t file_size,
                                           uint64_t lowest) {
  std::vector<Segment> segments;
  for (size_t i = 0; i < headers.size(); ++i) {
    if (headers[i].p_type != PT_LOAD || headers[i].p_memsz == 0) continue;
    const Segment segment = TRY(CheckSegment(headers[i], i, file_size));
    segments.push_back(segment);
  }
  if (segments.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "the ELF file has nothing to load");
  }
  std::sort(segments.begin(), segments.end(),
            [](const Segment& a, const Segment& b) { return a.memory.start < b.memory.start; });
  for (size_t i = 1; i < segments.size(); ++i) {
    if (segments[i].memory.start.value() < segments[i - 1].memory.end()) {
      return Fail(ErrorKind::kInvalidArgument, "ELF segments {} and {} overlap in memory",
                  segments[i - 1].index, segments[i].index);
    }
  }
  const uint64_t bias = segments.front().memory.start.value() >= kOneMib ? 0 : lowest;
  if (!CheckedAdd<uint64_t>(segments.back().memory.end(), bias)) {
    return Fail(ErrorKind::kInvalidArgument, "ELF segment {} wraps around the address space",
                segments.back().index);
  }
  for (Segment& segment : segments) {
    segment.memory.start = memory::GuestAddr(segment.memory.start.value() + bias);
  }
  if (segments.front().memory.start.value() < std::min(kOneMib, lowest)) {
    return Fail(ErrorKind::kInvalidArgument, "the ELF file wants memory at {:#x}",
                segments.front().memory.start.value());
  }
  return segments;
}

Status LoadSegment(sys::BorrowedFd file, const memory::GuestMemory& memory,
                   const Segment& segment) {
  const std::optional<memory::GuestSlice> slice =
      memory.Slice(segment.memory.start, segment.memory.size);
  if (!slice) {
    return Fail(ErrorKind::kInvalidArgument,
                "ELF segment {} does not fit: {:#x} bytes at {:#x} are not all memory of the VM; "
                "give it more memory",
                segment.index, segment.memory.size, segment.memory.start.value());
  }
  TRY_CONTEXT(ReadIntoGuest(file, segment.file_offset, slice->Sub(0, segment.file_size)),
              "loading ELF segment {}", segment.index);
  slice->Sub(segment.file_size).Zero();
  return {};
}

// The address that note text names, in a PT_NOTE's bytes; empty when there is none.
std::optional<uint32_t> FindPvhNote(std::span<const uint8_t> notes, uint64_t alignment) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note{};
    std::memcpy(&note, notes.data(), sizeof(note));
    // 32-bit sizes, 64-bit sums: nothing wraps.
    const uint64_t descriptor =
        sizeof(note) + ((uint64_t{note.n_namesz} + alignment - 1) & ~(alignment - 1));
    const uint64_t end =
        descriptor + ((uint64_t{note.n_descsz} + alignment - 1) & ~(alignment - 1));
    if (descriptor + note.n_descsz > notes.size()) return std::nullopt;
    if (note.n_type == kXenNotePhys32Entry && note.n_namesz == sizeof(kXenNoteName) &&
        std::memcmp(notes.data() + sizeof(note), kXenNoteName, sizeof(kXenNoteName)) == 0 &&
        note.n_descsz >= sizeof(uint32_t)) {
      uint32_t entry = 0;
      std::memcpy(&entry, notes.data() + descriptor, sizeof(entry));
      return entry;
    }
    notes = notes.subspan(std::min<uint64_t>(end, notes.size()));
  }
  return std::nullopt;
}

Result<std::optional<uint32_t>> ReadPvhEntry(sys::BorrowedFd file,
                                             std::span<const Elf64_Phdr> headers,
                                             uint64_t file_size) {
  for (size_t i = 0; i < headers.size(); ++i) {
    const Elf64_Phdr& header = headers[i];
    if (header.p_type != PT_NOTE) continue;
    if (!RangeFits<uint64_t>(header.p_offset, header.p_filesz, file_size) ||
        header.p_filesz > kMaxNotes) {
      return Fail(ErrorKind::kInvalidArgument,
                  "the notes of the ELF file ({:#x} bytes at {:#x}) are truncated or too large",
                  header.p_filesz, header.p_offset);
    }
    std::vector<uint8_t> notes(header.p_filesz);
    TRY_CONTEXT(sys::PreadExact(file, notes, header.p_offset), "reading the notes of the ELF file");
    const std::optional<uint32_t> entry = FindPvhNote(notes, header.p_align == 8 ? 8 : 4);
    if (entry) return entry;
  }
  return std::optional<uint32_t>();
}

bool Contains(const Segment& segment, uint64_t address) {
  return address >= segment.memory.start.value() && address < segment.memory.end();
}

// `address` as the file has it, which is physical in a vmlinux and virtual in other executables.
Result<memory::GuestAddr> FindEntry(std::span<const Segment> segments, uint64_t bias,
                                    uint64_t address, std::string_view what) {
  if (const std::optional<uint64_t> physical = CheckedAdd(address, bias)) {
    for (const Segment& segment : segments) {
      if (Contains(segment, *physical)) return memory::GuestAddr(*physical);
    }
  }
  for (const Segment& segment : segments) {
    if (address >= segment.virtual_address &&
        address - segment.virtual_address < segment.memory.size) {
      return memory::GuestAddr(segment.memory.start.value() + (address - segment.virtual_address));
    }
  }
  return Fail(ErrorKind::kInvalidArgument, "{} {:#x} of the ELF file lies in none of its segments",
              what, address);
}

}  // namespace

Result<LoadedKernel> LoadElf(sys::BorrowedFd file, const memory::GuestMemory& memory,
                             memory::GuestAddr lowest) {
  const uint64_t file_size = TRY(sys::FileSize(file));
  Elf64_Ehdr header{};
  // SAFETY: Elf64_Ehdr is a struct of integers without padding.
  TRY_CONTEXT(sys::PreadExact(file, {reinterpret_cast<uint8_t*>(&header), sizeof(header)}, 0),
              "reading the ELF header");
  TRY(CheckHeader(header));
  const std::vector<Elf64_Phdr> headers = TRY(ReadProgramHeaders(file, header, file_size));
  const std::vector<Segment> segments = TRY(PlaceSegments(headers, file_size, lowest.value()));
  // The same for all segments: what the first was moved by.
  const uint64_t bias =
      segments.front().memory.start.value() - headers[segments.front().index].p_paddr;

  LoadedKernel kernel;
  kernel.entry = TRY(FindEntry(segments, bias, header.e_entry, "the entry"));
  if (const std::optional<uint32_t> pvh = TRY(ReadPvhEntry(file, headers, file_size))) {
    kernel.pvh_entry = TRY(FindEntry(segments, bias, *pvh, "the PVH entry"));
  }
  for (const Segment& segment : segments) TRY(LoadSegment(file, memory, segment));
  const memory::GuestAddr start = segments.front().memory.start;
  kernel.range = {.start = start, .size = segments.back().memory.end() - start.value()};
  return kernel;
}

}  // namespace crosvm::loader
