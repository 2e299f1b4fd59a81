#include "jail/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "sys/file.h"

namespace crosvm::jail {
namespace {

constexpr std::string_view kMark = "crosvm+0x";
constexpr size_t kMaxSections = 1024;
constexpr uint64_t kMaxTable = uint64_t{64} << 20;
constexpr size_t kMaxLookups = 32;

bool ReadAt(sys::BorrowedFd fd, void* data, size_t size, uint64_t offset) {
  return pread(fd.get(), data, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

template <typename T>
std::vector<T> Table(sys::BorrowedFd fd, uint64_t offset, uint64_t size) {
  if (size > kMaxTable) return {};
  std::vector<T> table(size / sizeof(T));
  if (!ReadAt(fd, table.data(), table.size() * sizeof(T), offset)) table.clear();
  return table;
}

std::string Demangled(const char* name) {
  struct Free {
    void operator()(char* text) const { free(text); }
  };
  int status = 0;
  const std::unique_ptr<char, Free> text(abi::__cxa_demangle(name, nullptr, nullptr, &status));
  std::string readable = text != nullptr ? text.get() : name;
  // The last opening parenthesis at depth zero begins the parameters.
  int depth = 0;
  for (size_t i = readable.size(); i-- > 0;) {
    if (readable[i] == ')') ++depth;
    if (readable[i] == '(' && --depth == 0) return readable.substr(0, i);
  }
  return readable;
}

// The function that holds the address, the innermost where they overlap: each entry of CFI's jump
// table has the size of all.
const Elf64_Sym* Nearest(std::span<const Elf64_Sym> symbols, uint64_t address) {
  const Elf64_Sym* nearest = nullptr;
  for (const Elf64_Sym& symbol : symbols) {
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && address >= symbol.st_value &&
        address - symbol.st_value < symbol.st_size &&
        (nearest == nullptr || symbol.st_value > nearest->st_value)) {
      nearest = &symbol;
    }
  }
  return nearest;
}

std::string NameAt(sys::BorrowedFd program, const Elf64_Shdr& strings, const Elf64_Sym& symbol) {
  if (symbol.st_name >= strings.sh_size) return {};
  std::vector<char> name(1024, '\0');
  const size_t size = std::min<uint64_t>(strings.sh_size - symbol.st_name, name.size() - 1);
  if (!ReadAt(program, name.data(), size, strings.sh_offset + symbol.st_name)) return {};
  return name.data();
}

}  // namespace

Result<Symbols> Symbols::OfThisProgram() {
  return Symbols(TRY(sys::Open("/proc/self/exe", O_RDONLY)));
}

std::string Symbols::NameOf(uint64_t address) const {
  Elf64_Ehdr header{};
  if (!ReadAt(program_, &header, sizeof(header), 0) || header.e_shnum > kMaxSections) return {};
  const auto sections =
      Table<Elf64_Shdr>(program_, header.e_shoff, uint64_t{header.e_shnum} * sizeof(Elf64_Shdr));
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    const auto symbols = Table<Elf64_Sym>(program_, section.sh_offset, section.sh_size);
    const Elf64_Sym* const symbol = Nearest(symbols, address);
    return symbol == nullptr
               ? ""
               : Demangled(NameAt(program_, sections[section.sh_link], *symbol).c_str());
  }
  return {};
}

std::string Symbols::Annotate(std::string_view text) const {
  std::string annotated;
  for (size_t lookups = 0; lookups < kMaxLookups; ++lookups) {
    const size_t at = text.find(kMark);
    if (at == std::string_view::npos) break;
    const char* const digits = text.data() + at + kMark.size();
    uint64_t address = 0;
    const auto [end, error] = std::from_chars(digits, text.data() + text.size(), address, 16);
    const auto taken = static_cast<size_t>(end - text.data());
    annotated += text.substr(0, taken);
    // A caller's address is behind its call: the byte before belongs to it for certain.
    const std::string name = error == std::errc() && address > 0 ? NameOf(address - 1) : "";
    if (!name.empty()) annotated += " (" + name + ")";
    text.remove_prefix(taken);
  }
  return annotated + std::string(text);
}

}  // namespace crosvm::jail
