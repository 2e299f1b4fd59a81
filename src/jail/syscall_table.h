// Names and numbers of system calls, per architecture, and the constants that policies may name.
// Used by the policy parser and by the report of a denied call.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace crosvm::jail {

enum class Arch : uint8_t { kX86_64, kAarch64 };

// That of this build.
#if defined(__x86_64__)
inline constexpr Arch kNativeArch = Arch::kX86_64;
#elif defined(__aarch64__)
inline constexpr Arch kNativeArch = Arch::kAarch64;
#else
#error "this architecture has no table of system calls"
#endif

// "x86_64", "aarch64".
std::string_view ArchName(Arch arch);
std::optional<Arch> ArchFromName(std::string_view name);
// The value of seccomp_data::arch (AUDIT_ARCH_*).
uint32_t AuditArch(Arch arch);

std::optional<uint32_t> SyscallNumber(Arch arch, std::string_view name);
// Empty when unknown. Async-signal-safe.
std::string_view SyscallName(Arch arch, uint32_t number);

// O_RDONLY, PROT_EXEC, ENOENT, ….
std::optional<uint64_t> ConstantValue(Arch arch, std::string_view name);
// The positive errno of ENOENT, ….
std::optional<uint16_t> ErrnoValue(std::string_view name);

}  // namespace crosvm::jail
