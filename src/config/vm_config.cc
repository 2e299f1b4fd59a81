#include "config/vm_config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <bit>

#include "codec/json.h"
#include "codec/key_value.h"
#include "sys/file.h"

namespace crosvm::config {
namespace {

Result<struct stat> StatPath(const std::string& path, std::string_view what) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return FailErrno("{} {}", what, path);
  return info;
}

Status MustExist(const std::string& path, std::string_view what) {
  if (path.empty()) return {};
  TRY(StatPath(path, what));
  return {};
}

Status MustBeDirectory(const std::string& path, std::string_view what) {
  if (path.empty()) return {};
  const struct stat info = TRY(StatPath(path, what));
  if (!S_ISDIR(info.st_mode)) {
    return Fail(ErrorKind::kInvalidArgument, "{} {}: it must be a directory", what, path);
  }
  return {};
}

Status CheckSocket(std::string& path) {
  if (path.empty()) return {};
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    path += fmt::format("{}crosvm-{}.sock", path.ends_with('/') ? "" : "/", getpid());
  }
  if (lstat(path.c_str(), &info) == 0) {
    return Fail(
        ErrorKind::kAlreadyExists,
        "--socket {}: the path exists already; remove it if no VM uses it, or choose another",
        path);
  }
  return {};
}

}  // namespace

Status CheckBlockOptions(const BlockOptions& options) {
  if (std::has_single_bit(options.block_size)) return {};
  return Fail(ErrorKind::kInvalidArgument,
              "disk {}: block_size={} must be a power of two from 512 to 65536", options.path,
              options.block_size);
}

Status CheckDaxWindow(const SharedDirOptions& options) {
  if (options.dax_window % 2 == 0) return {};
  return Fail(ErrorKind::kInvalidArgument,
              "--shared-dir {}: dax-window={} is odd; the guest maps 2 MiB at a time", options.path,
              options.dax_window);
}

Status CheckSharedDir(const SharedDirOptions& options) {
  if (options.tag.empty()) {
    return Fail(ErrorKind::kInvalidArgument,
                "--shared-dir {}: the tag is missing, by which the guest mounts it", options.path);
  }
  TRY(CheckDaxWindow(options));
  if (options.type == SharedDirType::kFs) return {};
  // What only virtio-fs can do. Said instead of passed over.
  const SharedDirOptions defaults;
  std::string_view key;
  if (options.cache != defaults.cache) key = "cache";
  if (options.timeout != defaults.timeout) key = "timeout";
  if (options.writeback) key = "writeback";
  if (options.posix_acl) key = "posix_acl";
  if (options.queues != defaults.queues) key = "queues";
  if (options.dax != defaults.dax || options.dax_window != defaults.dax_window) key = "dax";
  if (key.empty()) return {};
  return Fail(ErrorKind::kInvalidArgument,
              "--shared-dir {}: {} is a key of type=fs; add that, or leave {} out", options.path,
              key, key);
}

std::string DeviceOption(const BlockOptions& options) {
  BlockOptions device = options;
  device.root = false;
  return codec::FormatKeyValue(device);
}

Status CheckPaths(VmConfig& config) {
  TRY(MustExist(config.kernel, "kernel"));
  TRY(MustExist(config.bios, "--bios"));
  TRY(MustExist(config.initrd, "--initrd"));
  TRY(MustExist(config.kvm_device, "--kvm-device"));
  TRY(MustBeDirectory(config.dmi, "--dmi"));
  TRY(MustBeDirectory(config.sandbox.seccomp_policy_dir, "--seccomp-policy-dir"));
  for (const BlockOptions& disk : config.disks) TRY(MustExist(disk.path, "disk"));
  for (const std::string& table : config.acpi_tables) TRY(MustExist(table, "--acpi-table"));
  for (const SharedDirOptions& dir : config.shared_dirs) {
    TRY(MustBeDirectory(dir.path, "--shared-dir"));
  }
  return CheckSocket(config.socket);
}

Status LoadConfigText(std::string_view text, std::string_view name, VmConfig& config) {
  const codec::Value value =
      TRY_CONTEXT(codec::ParseJson(text, codec::JsonComments::kAllowed), "{}", name);
  TRY_CONTEXT(codec::DecodeInto(value, config), "{}", name);
  return {};
}

Status LoadConfigFile(const std::string& path, VmConfig& config) {
  const std::string text = TRY(sys::ReadFileToString(path));
  return LoadConfigText(text, path, config);
}

std::string DumpConfig(const VmConfig& config) {
  return codec::ToJson(config, 2);
}

}  // namespace crosvm::config
