// Extended attributes. The calls take a path only: the thread's working directory is /proc/self/fd.
#include <sys/xattr.h>

#include <algorithm>

#include "shared_dir/share.h"
#include "shared_dir/syscalls.h"

namespace crosvm::shared_dir {
namespace {

constexpr std::string_view kPrefix = "user.virtiofs.";
constexpr std::string_view kSecurity = "security.";
constexpr std::string_view kSelinux = "security.selinux";
// XATTR_LIST_MAX: what the kernel gives at most.
constexpr size_t kMaxList = 65536;

bool Hidden(std::string_view name, bool rewrite) {
  return rewrite && name.starts_with(kSecurity) && name != kSelinux;
}

}  // namespace

std::optional<std::string> HostXattrName(const std::string& name, bool rewrite) {
  if (!rewrite) return name;
  if (name.starts_with(kPrefix)) return std::nullopt;
  return Hidden(name, rewrite) ? std::string(kPrefix) + name : name;
}

OrErrno<size_t> Share::GetXattr(NodeId node, const std::string& name, std::span<char> value) {
  const std::optional<std::string> host = HostXattrName(name, options_.rewrite_security_xattrs);
  if (!host) return Refuse(ENODATA);
  const Descriptor file = TRY(Locate(node));
  const ssize_t got = getxattr(SelfName(*file).text(), host->c_str(), value.data(), value.size());
  if (got < 0) return RefuseLast();
  return static_cast<size_t>(got);
}

OkOrErrno Share::SetXattr(NodeId node, const std::string& name, std::span<const char> value,
                          int flags) {
  if (options_.read_only) return Refuse(EROFS);
  const std::optional<std::string> host = HostXattrName(name, options_.rewrite_security_xattrs);
  if (!host) return Refuse(EPERM);
  const Descriptor file = TRY(Locate(node));
  if (setxattr(SelfName(*file).text(), host->c_str(), value.data(), value.size(), flags) != 0) {
    return RefuseLast();
  }
  return {};
}

OrErrno<std::vector<char>> Share::ListXattr(NodeId node) {
  const Descriptor file = TRY(Locate(node));
  std::vector<char> list(4096);
  ssize_t got = listxattr(SelfName(*file).text(), list.data(), list.size());
  if (got < 0 && errno == ERANGE) {
    list.resize(kMaxList);
    got = listxattr(SelfName(*file).text(), list.data(), list.size());
  }
  if (got < 0) return RefuseLast();
  list.resize(static_cast<size_t>(got));
  // Some callers keep it, and count what it holds. (Without exceptions, shrink_to_fit() does
  // nothing.)
  if (!options_.rewrite_security_xattrs) return std::vector<char>(list.begin(), list.end());
  std::vector<char> visible;
  for (auto at = list.begin(); at != list.end();) {
    const auto end = std::find(at, list.end(), '\0');
    std::string_view name(at, end);
    const bool ours = name.starts_with(kPrefix);
    if (ours) name.remove_prefix(kPrefix.size());
    // The host's own security attributes are not the guest's.
    if (ours || !Hidden(name, true)) {
      visible.insert(visible.end(), name.begin(), name.end());
      visible.push_back('\0');
    }
    at = end == list.end() ? end : end + 1;
  }
  return std::vector<char>(visible.begin(), visible.end());
}

OkOrErrno Share::RemoveXattr(NodeId node, const std::string& name) {
  if (options_.read_only) return Refuse(EROFS);
  const std::optional<std::string> host = HostXattrName(name, options_.rewrite_security_xattrs);
  if (!host) return Refuse(ENODATA);
  const Descriptor file = TRY(Locate(node));
  if (removexattr(SelfName(*file).text(), host->c_str()) != 0) return RefuseLast();
  return {};
}

}  // namespace crosvm::shared_dir
