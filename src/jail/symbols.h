// Names for the addresses in a report ("crosvm+0x1f3a20"), from the program's own symbol table. In
// the VMM, when a device has died: a device itself carries and reads no names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::jail {

class Symbols {
 public:
  // This program; opened now and read when asked, as no file can be opened later.
  static Result<Symbols> OfThisProgram();
  // `program` is an ELF file of this machine's width and order.
  explicit Symbols(sys::UniqueFd program) : program_(std::move(program)) {}

  // The function at an address relative to where the program was loaded, demangled and without its
  // parameters; empty when it has no name (a stripped program).
  std::string NameOf(uint64_t address) const;
  // The text with " (name)" behind each "crosvm+0x…" that has one. The text may come from a hostile
  // process: it is at most looked up.
  std::string Annotate(std::string_view text) const;

 private:
  sys::UniqueFd program_;
};

}  // namespace crosvm::jail
