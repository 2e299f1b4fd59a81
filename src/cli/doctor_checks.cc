// The checks of `crosvm doctor`. Each tries the thing itself rather than reading about it, and
// reads only to explain.
#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/doctor.h"
#include "sys/file.h"
#include "sys/linux_kvm.h"

namespace crosvm::cli {
namespace {

// First line of a small file, or empty.
std::string Line(const std::string& path) {
  const Result<std::string> text = sys::ReadFileToString(path);
  return text ? text->substr(0, text->find('\n')) : std::string();
}

bool Exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

std::string Reason(int err) {
  return Error::FromErrno(err, "").ToString().substr(2);
}

// How a user gets at a device node: the group that owns it, if that helps.
std::string AccessFix(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return {};
  const struct group* group = getgrgid(info.st_gid);
  if ((info.st_mode & 0060) == 0060 && info.st_gid != 0) {
    const std::string name = group != nullptr ? group->gr_name : std::to_string(info.st_gid);
    return fmt::format("sudo usermod -aG {} $USER, then log in again", name);
  }
  return fmt::format("sudo chgrp kvm {} && sudo chmod 660 {}", path, path);
}

Finding CheckKernel() {
  struct utsname names = {};
  uname(&names);
  return {.check = "kernel",
          .found = fmt::format("{} {} on {}", names.sysname, names.release, names.machine)};
}

Finding CheckVirtualization() {
  Finding finding = {.check = "virtualisation"};
  const Result<std::string> cpuinfo = sys::ReadFileToString("/proc/cpuinfo", 16 << 20);
  const std::string_view flag = cpuinfo ? HardwareFlag(*cpuinfo) : std::string_view();
  if (Exists("/sys/module/kvm_pvm")) {
    finding.health = Health::kBroken;
    finding.found = "KVM in software (kvm_pvm): stock guest kernels do not boot on it";
    finding.fix = "use a host with hardware virtualisation, or tools/nested-kvm for tests";
  } else if (Exists("/sys/module/kvm_intel") || Exists("/sys/module/kvm_amd")) {
    finding.found = fmt::format("hardware ({})", flag.empty() ? "hidden from cpuinfo" : flag);
  } else if (!flag.empty()) {
    finding.health = Health::kLimited;
    finding.found = fmt::format("the CPU has {}, but its KVM module is not loaded", flag);
    finding.fix = flag == "vmx" ? "sudo modprobe kvm_intel" : "sudo modprobe kvm_amd";
  } else {
    finding.health = Health::kLimited;
    finding.found = "the CPU shows no virtualisation";
    finding.fix =
        "turn it on in the firmware; inside a VM, turn on nested virtualisation on its host";
  }
  return finding;
}

Finding OpenKvm(sys::UniqueFd& kvm) {
  Finding finding = {.check = "/dev/kvm", .found = "may be opened"};
  Result<sys::UniqueFd> opened = sys::Open("/dev/kvm", O_RDWR);
  if (opened) {
    kvm = std::move(*opened);
    return finding;
  }
  const int err = opened.error().sys_errno();
  finding.health = Health::kBroken;
  finding.found = Reason(err);
  finding.fix = err == EACCES || err == EPERM ? AccessFix("/dev/kvm")
                                              : "sudo modprobe kvm_intel || sudo modprobe kvm_amd";
  return finding;
}

Finding CheckKvmApi(sys::BorrowedFd kvm) {
  struct Needed {
    int capability;
    std::string_view name;
  };
  static constexpr Needed kNeeded[] = {
      {KVM_CAP_USER_MEMORY, "user memory"},       {KVM_CAP_IRQCHIP, "irqchip"},
      {KVM_CAP_IRQ_ROUTING, "irq routing"},       {KVM_CAP_IRQFD, "irqfd"},
      {KVM_CAP_IRQFD_RESAMPLE, "irqfd resample"}, {KVM_CAP_IOEVENTFD, "ioeventfd"},
      {KVM_CAP_SIGNAL_MSI, "signal msi"},         {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"}};
  Finding finding = {.check = "KVM interface"};
  const int version = ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
  std::string missing;
  for (const Needed& needed : kNeeded) {
    if (ioctl(kvm.get(), KVM_CHECK_EXTENSION, needed.capability) > 0) continue;
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", needed.name);
  }
  if (version != KVM_API_VERSION) {
    finding.health = Health::kBroken;
    finding.found = fmt::format("version {}, but {} is needed", version, KVM_API_VERSION);
    finding.fix = "run a current kernel";
  } else if (!missing.empty()) {
    finding.health = Health::kBroken;
    finding.found = fmt::format("without {}", missing);
    finding.fix = "run a current kernel";
  } else {
    finding.found = fmt::format("version {}, all needed capabilities, at most {} vCPUs", version,
                                ioctl(kvm.get(), KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS));
  }
  return finding;
}

Finding CheckDevice(const std::string& path, std::string_view use, std::string_view module) {
  Finding finding = {.check = path, .found = fmt::format("may be opened ({})", use)};
  const Result<sys::UniqueFd> opened = sys::Open(path, O_RDWR | O_NONBLOCK);
  if (opened) return finding;
  const int err = opened.error().sys_errno();
  finding.health = Health::kLimited;
  finding.found = fmt::format("{} ({})", Reason(err), use);
  finding.fix =
      err == EACCES || err == EPERM ? AccessFix(path) : fmt::format("sudo modprobe {}", module);
  return finding;
}

// CAP_NET_ADMIN, which making a tap needs; bit 12 of the effective set.
Finding CheckNetAdmin() {
  const Result<std::string> status = sys::ReadFileToString("/proc/self/status");
  const size_t at = status ? status->find("\nCapEff:") : std::string::npos;
  const unsigned long long set =
      at == std::string::npos ? 0 : strtoull(status->c_str() + at + 8, nullptr, 16);
  if (((set >> 12) & 1) != 0)
    return {.check = "CAP_NET_ADMIN", .found = "held: --host_ip may make taps"};
  return {
      .check = "CAP_NET_ADMIN",
      .health = Health::kLimited,
      .found = "not held: crosvm cannot make a tap interface; `--net user` needs none",
      .fix = "sudo ip tuntap add mode tap user $USER name crosvm0, then --net tap-name=crosvm0"};
}

// What a device process does first, in a child of ours; its errno is the exit status.
int TryNamespaces() {
  const pid_t child = fork();
  if (child == 0) {
    const int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                      CLONE_NEWUTS | CLONE_NEWCGROUP;
    _exit(unshare(flags) == 0 ? 0 : errno);
  }
  int status = 0;
  if (child < 0) return errno;
  if (sys::RetryEintr([&] { return waitpid(child, &status, 0); }) < 0) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINVAL;
}

Finding CheckNamespaces() {
  Finding finding = {.check = "user namespaces", .found = "a jail's namespaces can be made"};
  const int err = TryNamespaces();
  if (err == 0) return finding;
  finding.health = Health::kLimited;
  finding.found = fmt::format(
      "refused ({}): devices cannot be jailed; --jail=best-effort goes on with less, "
      "--disable-sandbox with nothing",
      Reason(err));
  if (Line("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    finding.fix = "sudo sysctl kernel.unprivileged_userns_clone=1";
  } else if (Line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    finding.fix = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  } else if (Line("/proc/sys/user/max_user_namespaces") == "0") {
    finding.fix = "sudo sysctl user.max_user_namespaces=10000";
  } else {
    finding.fix = "allow unshare(2) in this container (its seccomp profile or capabilities)";
  }
  return finding;
}

Finding CheckIoUring() {
  struct io_uring_params params = {};
  const sys::UniqueFd ring(static_cast<int>(syscall(SYS_io_uring_setup, 4, &params)));
  if (ring.valid()) return {.check = "io_uring", .found = "works"};
  const int err = errno;
  const std::string disabled = Line("/proc/sys/kernel/io_uring_disabled");
  return {.check = "io_uring",
          .health = Health::kLimited,
          .found = fmt::format("refused ({}): disks use a pool of threads instead", Reason(err)),
          .fix = disabled == "1" || disabled == "2"
                     ? "sudo sysctl kernel.io_uring_disabled=0"
                     : "allow it in this container's seccomp profile"};
}

Finding CheckSeccomp() {
  const auto available = [](uint32_t action) {
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
  };
  if (!available(SECCOMP_RET_KILL_PROCESS)) {
    return {.check = "seccomp",
            .health = Health::kLimited,
            .found =
                "filters are not available: devices cannot be jailed; --jail=best-effort goes on "
                "with less, --disable-sandbox with nothing",
            .fix = "run a kernel with CONFIG_SECCOMP_FILTER"};
  }
  return {.check = "seccomp",
          .found = available(SECCOMP_RET_USER_NOTIF) ? "filters and notifications" : "filters"};
}

// The ABI version; Debian 12's headers know the call.
Finding CheckLandlock() {
  constexpr unsigned kVersionFlag = 1;  // LANDLOCK_CREATE_RULESET_VERSION
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersionFlag);
  if (abi > 0) return {.check = "Landlock", .found = fmt::format("ABI {}", abi)};
  return {.check = "Landlock",
          .health = Health::kLimited,
          .found = "not available: devices rely on the jail's other walls",
          .fix = "boot the host with landlock in the lsm= parameter"};
}

Finding CheckHugePages() {
  // The guest's memory is a file in memory.
  const std::string mode = Line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (mode.find("[never]") == std::string::npos && !mode.empty()) {
    return {.check = "huge pages", .found = fmt::format("transparent: {}", mode)};
  }
  return {.check = "huge pages",
          .health = Health::kLimited,
          .found = mode.empty() ? "the kernel has none"
                                : "transparent huge pages of shared memory are off: --hugepages "
                                  "changes nothing",
          .fix = mode.empty()
                     ? ""
                     : "echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled"};
}

Finding CheckMemlock() {
  struct rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return {.check = "locked memory", .found = "unlimited"};
  return {.check = "locked memory", .found = fmt::format("{} KiB", limit.rlim_cur / 1024)};
}

Finding CheckCgroup() {
  if (!Exists("/sys/fs/cgroup/cgroup.controllers")) {
    return {.check = "cgroup", .found = "version 1 or none; not needed"};
  }
  // "0::/user.slice/…"
  const std::string own = Line("/proc/self/cgroup");
  const std::string path = own.starts_with("0::") ? own.substr(3) : "/";
  const bool writable = access(("/sys/fs/cgroup" + path + "/cgroup.procs").c_str(), W_OK) == 0;
  return {.check = "cgroup",
          .found = fmt::format("version 2, {} {}", path,
                               writable ? "is ours" : "is not ours to change")};
}

}  // namespace

Diagnosis Examine() {
  Diagnosis diagnosis;
  std::vector<Finding>& all = diagnosis.findings;
  all.push_back(CheckKernel());
  all.push_back(CheckVirtualization());
  sys::UniqueFd kvm;
  all.push_back(OpenKvm(kvm));
  if (kvm.valid()) all.push_back(CheckKvmApi(kvm));
  all.push_back(CheckNamespaces());
  all.push_back(CheckSeccomp());
  all.push_back(CheckLandlock());
  all.push_back(CheckIoUring());
  all.push_back(CheckDevice("/dev/net/tun", "tap interfaces", "tun"));
  all.push_back(CheckNetAdmin());
  all.push_back(CheckDevice("/dev/vhost-net", "--vhost-net", "vhost_net"));
  all.push_back(CheckDevice("/dev/vhost-vsock", "--cid", "vhost_vsock"));
  all.push_back(CheckHugePages());
  all.push_back(CheckMemlock());
  all.push_back(CheckCgroup());
  return diagnosis;
}

}  // namespace crosvm::cli
