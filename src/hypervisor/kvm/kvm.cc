#include "hypervisor/kvm/kvm.h"

#include <fcntl.h>

#include <array>
#include <string_view>
#include <utility>

#include "hypervisor/kvm/ioctl.h"
#include "hypervisor/kvm/kvm_vm.h"
#include "sys/file.h"
#include "sys/linux_kvm.h"

namespace crosvm::hypervisor {
namespace {

struct Capability {
  int number;
  const char* name;
};

#define CAPABILITY(name) \
  Capability {           \
    name, #name          \
  }
// Everything without which VMs of ours do not run; all are in Linux 5.4 and later.
constexpr std::array kRequired = {
    CAPABILITY(KVM_CAP_USER_MEMORY),
    CAPABILITY(KVM_CAP_DESTROY_MEMORY_REGION_WORKS),
    CAPABILITY(KVM_CAP_READONLY_MEM),
    CAPABILITY(KVM_CAP_IOEVENTFD),
    CAPABILITY(KVM_CAP_IRQFD),
    CAPABILITY(KVM_CAP_IRQFD_RESAMPLE),
    CAPABILITY(KVM_CAP_SIGNAL_MSI),
    CAPABILITY(KVM_CAP_IRQ_ROUTING),
    CAPABILITY(KVM_CAP_IMMEDIATE_EXIT),
    CAPABILITY(KVM_CAP_MP_STATE),
    CAPABILITY(KVM_CAP_IOEVENTFD_ANY_LENGTH),
#if defined(__x86_64__)
    CAPABILITY(KVM_CAP_IRQCHIP),
    CAPABILITY(KVM_CAP_PIT2),
    CAPABILITY(KVM_CAP_EXT_CPUID),
    CAPABILITY(KVM_CAP_SET_TSS_ADDR),
    CAPABILITY(KVM_CAP_VCPU_EVENTS),
    CAPABILITY(KVM_CAP_XCRS),
    CAPABILITY(KVM_CAP_ADJUST_CLOCK),
    CAPABILITY(KVM_CAP_GET_TSC_KHZ),
#endif
};
#undef CAPABILITY

// What open(2) says is true but does not help; this does.
Error ExplainOpen(const std::string& path, const Error& error) {
  switch (error.sys_errno()) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return MakeError(
          ErrorKind::kNotFound,
          "{} is missing: the KVM module is not loaded. Try `sudo modprobe kvm_intel` or "
          "`sudo modprobe kvm_amd`; if that fails, switch virtualization (VT-x, AMD-V) on "
          "in the firmware, or allow nested virtualization if this host is a VM. "
          "`crosvm doctor` tells more",
          path);
    case EACCES:
    case EPERM:
      return MakeError(ErrorKind::kPermissionDenied,
                       "{} may not be opened by this user: add yourself to the group kvm with "
                       "`sudo usermod -aG kvm $USER` and log in again. `crosvm doctor` tells more",
                       path);
    default:
      return error.Clone();
  }
}

}  // namespace

Result<Kvm> Kvm::Open(const std::string& path) {
  Result<sys::UniqueFd> fd = sys::Open(path, O_RDWR);
  if (!fd) return std::unexpected(ExplainOpen(path, fd.error()));
  Kvm kvm(*std::move(fd));
  TRY_CONTEXT(kvm.CheckHost(), "using {}", path);
  return kvm;
}

Status Kvm::CheckHost() const {
  const Result<int> version = kvm::Ioctl(fd_, KVM_REQUEST(KVM_GET_API_VERSION));
  if (!version) {
    return Fail(ErrorKind::kInvalidArgument, "it is not a KVM device ({})",
                version.error().ToString());
  }
  if (*version != KVM_API_VERSION) {
    return Fail(ErrorKind::kUnsupported, "its API version is {}, {} is needed: update the kernel",
                *version, KVM_API_VERSION);
  }
  std::string missing;
  for (const Capability& capability : kRequired) {
    if (CheckCapability(capability.number) > 0) continue;
    if (!missing.empty()) missing += ", ";
    missing += capability.name;
  }
  if (!missing.empty()) {
    return Fail(ErrorKind::kUnsupported,
                "the host's KVM lacks {}: a kernel of version 5.4 or later is needed", missing);
  }
  return {};
}

int Kvm::CheckCapability(int capability) const {
  return kvm::Ioctl(fd_, KVM_REQUEST(KVM_CHECK_EXTENSION), static_cast<unsigned long>(capability))
      .value_or(0);
}

Result<std::unique_ptr<ArchVm>> Kvm::CreateVm() const {
  const int page_size = TRY(kvm::Ioctl(fd_, KVM_REQUEST(KVM_GET_VCPU_MMAP_SIZE)));
  const int raw = TRY(kvm::Ioctl(fd_, KVM_REQUEST(KVM_CREATE_VM), 0));
  sys::UniqueFd vm(raw);
  sys::UniqueFd system = TRY(fd_.Dup());
  std::unique_ptr<KvmVm> result =
      TRY(KvmVm::Create(std::move(system), std::move(vm), static_cast<size_t>(page_size)));
  return std::unique_ptr<ArchVm>(std::move(result));
}

bool IsSoftwareKvm() {
  struct stat unused{};
  if (stat("/sys/module/kvm_pvm", &unused) != 0) return false;
  // The flags line of the first CPU is near the start; a large host's file is longer than we want
  // to read.
  const Result<sys::UniqueFd> cpuinfo = sys::Open("/proc/cpuinfo", O_RDONLY);
  if (!cpuinfo) return false;
  std::string text(16384, '\0');
  // SAFETY: the bytes of a std::string.
  const Result<size_t> length =
      sys::ReadAll(*cpuinfo, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  if (!length) return false;
  text.resize(*length);
  return text.find(" vmx") == std::string::npos && text.find(" svm") == std::string::npos;
}

std::string SoftwareKvmMessage() {
  return "this host's KVM is the software one (kvm_pvm: the CPU shows neither VMX nor SVM), on "
         "which stock guest kernels "
         "do not boot. Run on a host with virtualization hardware, or use tools/nested-kvm, which "
         "gives a real KVM "
         "inside an emulated machine";
}

}  // namespace crosvm::hypervisor
