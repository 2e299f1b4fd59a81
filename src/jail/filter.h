// A compiled system call filter, and installing one.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crosvm::jail {

// What a filter returns for a denied call: SIGSYS with a mark in siginfo::si_errno. The mark tells
// calls that
// --seccomp-log-failures may let through from those of another architecture's numbering, whose
// meaning is not known.
inline constexpr uint32_t kReturnDenied = SECCOMP_RET_TRAP | 0;
inline constexpr uint32_t kReturnForeign = SECCOMP_RET_TRAP | 1;

// Made at build time (cmake/crosvm_policy.cmake) and constant in the program.
struct Filter {
  std::span<const sock_filter> code;  // empty: no filter
  std::string_view source;            // "src/devices/block/block.policy", for reports
  uint16_t calls = 0;  // system calls that the policy allows, some arguments of them at least
};

enum class FilterScope : uint8_t {
  kProcess,  // every thread of the process
  kThread,   // the calling thread and those it starts
};

// From then on calls that the filter denies are not made. Needs no_new_privs or CAP_SYS_ADMIN.
// kProcess fails when a thread has a filter that the caller has not.
Status InstallFilter(std::span<const sock_filter> code, FilterScope scope);

// Bytes as they travel to a device process, or are stored in a .bpf file: struct sock_filter after
// struct sock_filter of this machine. Size and opcodes are the kernel's to check; here only that it
// is a whole number of instructions, at least one and at most BPF_MAXINSNS.
std::vector<uint8_t> FilterToBytes(std::span<const sock_filter> code);
Result<std::vector<sock_filter>> FilterFromBytes(std::span<const uint8_t> bytes);

// --seccomp-policy-dir: DIR/NAME.bpf, else DIR/NAME.policy compiled for this machine (includes are
// looked for in DIR), joined by DIR/NAME.ARCH.policy and DIR/common.ARCH.policy where they exist.
// Empty when DIR has neither. Runs in the VMM.
Result<std::vector<sock_filter>> LoadOverride(const std::string& directory, std::string_view name);

}  // namespace crosvm::jail
