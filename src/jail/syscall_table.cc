#include "jail/syscall_table.h"

#include <linux/audit.h>
#include <sys/syscall.h>

#include <algorithm>
#include <iterator>
#include <span>

namespace crosvm::jail {
namespace {

struct Syscall {
  uint32_t number;
  std::string_view name;
};

// Ordered by number.
constexpr Syscall kX86_64[] = {
#include "jail/syscalls/x86_64.inc"
};
constexpr Syscall kAarch64[] = {
#include "jail/syscalls/aarch64.inc"
};

consteval bool Ascending(std::span<const Syscall> table) {
  for (size_t i = 1; i < table.size(); ++i) {
    if (table[i - 1].number >= table[i].number) return false;
  }
  return true;
}
static_assert(Ascending(kX86_64) && Ascending(kAarch64));

constexpr std::span<const Syscall> Table(Arch arch) {
  return arch == Arch::kX86_64 ? std::span<const Syscall>(kX86_64)
                               : std::span<const Syscall>(kAarch64);
}

constexpr std::optional<uint32_t> Find(Arch arch, std::string_view name) {
  for (const Syscall& entry : Table(arch)) {
    if (entry.name == name) return entry.number;
  }
  return std::nullopt;
}

// The tables in the tree are those of the kernel that this build is for.
static_assert(Find(kNativeArch, "read") == SYS_read && Find(kNativeArch, "openat") == SYS_openat &&
              Find(kNativeArch, "seccomp") == SYS_seccomp &&
              Find(kNativeArch, "mmap") == SYS_mmap && Find(kNativeArch, "clone") == SYS_clone &&
              Find(kNativeArch, "futex") == SYS_futex &&
              Find(kNativeArch, "io_uring_enter") == SYS_io_uring_enter);

}  // namespace

std::string_view ArchName(Arch arch) {
  return arch == Arch::kX86_64 ? "x86_64" : "aarch64";
}

std::optional<Arch> ArchFromName(std::string_view name) {
  if (name == "x86_64") return Arch::kX86_64;
  if (name == "aarch64") return Arch::kAarch64;
  return std::nullopt;
}

uint32_t AuditArch(Arch arch) {
  return arch == Arch::kX86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
}

std::optional<uint32_t> SyscallNumber(Arch arch, std::string_view name) {
  return Find(arch, name);
}

std::string_view SyscallName(Arch arch, uint32_t number) {
  const std::span<const Syscall> table = Table(arch);
  const auto found =
      std::lower_bound(table.begin(), table.end(), number,
                       [](const Syscall& entry, uint32_t wanted) { return entry.number < wanted; });
  return found != table.end() && found->number == number ? found->name : std::string_view();
}

}  // namespace crosvm::jail
