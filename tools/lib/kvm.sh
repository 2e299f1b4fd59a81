# What kind of KVM this host has. Source it: `. tools/lib/kvm.sh`. The same rules in Python: host_kvm.py.

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

# Prints the words to put before a command so that it has a real KVM (none where the host's will do), and says on
# standard error which KVM it is. Usage: eval "$(kvm_prefix --mem 4096)" is not needed: `set -- $(kvm_prefix …) command`.
kvm_prefix() {
  kvm_prefix_kind=$(kvm_kind)
  if [ "$kvm_prefix_kind" = hardware ]; then
    if [ -n "${CROSVM_NESTED_KVM:-}" ]; then
      echo "KVM: the nested one of tools/nested-kvm" >&2
    else
      echo "KVM: this host's hardware" >&2
    fi
  else
    echo "KVM: $kvm_prefix_kind; going through tools/nested-kvm (a QEMU that emulates SVM in software: slow, but real)" >&2
    echo "$(dirname "${BASH_SOURCE[0]}")/../nested-kvm $* --"
  fi
}
