#include "jail/filter.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "jail/compiler.h"
#include "jail/policy.h"
#include "sys/file.h"

namespace crosvm::jail {

Status InstallFilter(std::span<const sock_filter> code, FilterScope scope) {
  if (code.empty() || code.size() > BPF_MAXINSNS) {
    return Fail(ErrorKind::kInvalidArgument,
                "a filter of {} instructions; the kernel takes 1 to {}", code.size(), BPF_MAXINSNS);
  }
  const sock_fprog program = {.len = static_cast<unsigned short>(code.size()),
                              // SAFETY: the kernel only reads it.
                              .filter = const_cast<sock_filter*>(code.data())};
  const unsigned long flags = scope == FilterScope::kProcess ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result == 0) return {};
  if (result > 0) {
    return Fail(ErrorKind::kInternal, "thread {} has a system call filter of its own", result);
  }
  if (errno == ENOSYS || errno == EINVAL) {
    return FailErrno("installing a system call filter (the kernel needs CONFIG_SECCOMP_FILTER)");
  }
  return FailErrno("installing a system call filter");
}

std::vector<uint8_t> FilterToBytes(std::span<const sock_filter> code) {
  std::vector<uint8_t> bytes(code.size_bytes());
  if (!bytes.empty()) memcpy(bytes.data(), code.data(), bytes.size());
  return bytes;
}

Result<std::vector<sock_filter>> FilterFromBytes(std::span<const uint8_t> bytes) {
  if (bytes.empty() || bytes.size() % sizeof(sock_filter) != 0 ||
      bytes.size() > BPF_MAXINSNS * sizeof(sock_filter)) {
    return Fail(ErrorKind::kInvalidArgument,
                "{} bytes are not a filter of 1 to {} instructions of {} bytes", bytes.size(),
                BPF_MAXINSNS, sizeof(sock_filter));
  }
  std::vector<sock_filter> code(bytes.size() / sizeof(sock_filter));
  memcpy(code.data(), bytes.data(), bytes.size());
  return code;
}

Result<std::vector<sock_filter>> LoadOverride(const std::string& directory, std::string_view name) {
  const std::string stem = fmt::format("{}/{}", directory, name);
  const std::string bpf = stem + ".bpf";
  Result<std::string> bytes = sys::ReadFileToString(bpf);
  if (bytes.has_value()) {
    // SAFETY: characters seen as bytes.
    const auto* const data = reinterpret_cast<const uint8_t*>(bytes->data());
    return TRY_CONTEXT(FilterFromBytes({data, bytes->size()}), "{}", bpf);
  }
  if (bytes.error().kind() != ErrorKind::kNotFound)
    return std::unexpected(std::move(bytes).error());
  const auto is_there = [](const std::string& path) {
    return access(path.c_str(), F_OK) == 0 || errno != ENOENT;
  };
  std::vector<std::string> policies = {stem + ".policy"};
  if (!is_there(policies[0])) return std::vector<sock_filter>();
  // As crosvm_policy() does at build time, so that a copy of the project's files means the same.
  const std::string_view arch = ArchName(kNativeArch);
  for (std::string more : {fmt::format("{}/common.{}.policy", directory, arch),
                           fmt::format("{}.{}.policy", stem, arch)}) {
    if (is_there(more)) policies.push_back(std::move(more));
  }
  const Policy parsed = TRY(ParsePolicyFiles(policies, kNativeArch, {directory}));
  return CompilePolicy(parsed);
}

}  // namespace crosvm::jail
