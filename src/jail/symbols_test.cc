// Names of this test program's own functions.
#include "jail/symbols.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

namespace crosvm::jail {

__attribute__((noinline)) void* Caller() {
  return __builtin_return_address(0);
}

// Gives an address within itself. (That of a function may be that of an entry in CFI's jump table.)
__attribute__((noinline)) void* FunctionWithAName() {
  void* address = Caller();
  asm volatile("" : "+r"(address));  // no jump in place of the call
  return address;
}

namespace {

uint64_t AddressInProgram(const void* address) {
  uint64_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        *static_cast<uint64_t*>(out) = info->dlpi_addr;
        return 1;
      },
      &base);
  // SAFETY: only the address is used.
  return reinterpret_cast<uintptr_t>(address) - base;
}

TEST(SymbolsTest, NamesAFunction) {
  const Symbols symbols = *Symbols::OfThisProgram();
  const uint64_t address = AddressInProgram(FunctionWithAName());
  EXPECT_EQ(symbols.NameOf(address), "crosvm::jail::FunctionWithAName");
  EXPECT_EQ(symbols.Annotate(fmt::format("at crosvm+{:#x}\n  from: crosvm+0x1", address)),
            fmt::format("at crosvm+{:#x} (crosvm::jail::FunctionWithAName)\n  from: crosvm+0x1",
                        address));
}

TEST(SymbolsTest, Hostile_TextAndFilesAreHarmless) {
  const Symbols symbols = *Symbols::OfThisProgram();
  for (const char* const text : {"", "crosvm+0x", "crosvm+0xzz", "crosvm+0xffffffffffffffffffff",
                                 "crosvm+0x0", "crosvm+0xffffffffffffffff"}) {
    EXPECT_EQ(symbols.Annotate(text), text);
  }
  std::string many;
  for (int i = 0; i < 10000; ++i) many += "crosvm+0x1 ";
  EXPECT_EQ(symbols.Annotate(many), many);
  sys::UniqueFd empty(memfd_create("empty", MFD_CLOEXEC));
  EXPECT_EQ(Symbols(std::move(empty)).NameOf(1), "");
}

}  // namespace
}  // namespace crosvm::jail
