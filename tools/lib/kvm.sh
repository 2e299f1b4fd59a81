# What kind of KVM this host has. Source it from bash. The same rules in Python: host_kvm.py.

# Prints "hardware", or the reason why the host's KVM does not run stock kernels.
kvm_kind() {
  if [ ! -e /dev/kvm ]; then
    echo "no /dev/kvm"
  elif [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
    echo "/dev/kvm may not be opened by $(id -un) (add the user to group kvm)"
  elif [ -d /sys/module/kvm_pvm ]; then
    echo "/dev/kvm is software (kvm_pvm), which does not boot stock kernels"
  elif ! grep -q -m 1 -w -E '^flags.*(vmx|svm)' /proc/cpuinfo; then
    echo "the processor shows neither vmx nor svm"
  else
    echo "hardware"
  fi
}

# Sets the array kvm_command to what has to stand before a command so that it has a real KVM (empty where the host's
# will do), and says which KVM it is. Arguments: options for tools/nested-kvm, should that be needed.
kvm_choose() {
  local kind
  kind=$(kvm_kind)
  kvm_command=()
  if [ "$kind" = hardware ]; then
    if [ -n "${CROSVM_NESTED_KVM:-}" ]; then
      echo "KVM: the nested one of tools/nested-kvm"
    else
      echo "KVM: this host's hardware"
    fi
  else
    echo "KVM: $kind; going through tools/nested-kvm (a QEMU that emulates SVM in software: slow, but real)"
    kvm_command=("$(dirname "${BASH_SOURCE[0]}")/../nested-kvm" "$@" --)
  fi
}
