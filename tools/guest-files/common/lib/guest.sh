#!/bin/sh
# Shared by the init of the initramfs and of the root disk: what to do once the system is up.
#
#   crosvm.test=NAME    run /tests/NAME, then power off
#   crosvm.test=shell   dialogue with tests/e2e: lines "SEQUENCE COMMAND" in, output and "@@SEQUENCE STATUS@@" out
#   crosvm.batch        show the machine, then power off
#   nothing of these    show the machine, then an interactive shell

# Value of `name=` on the kernel command line (the last one given).
parameter() {
  value=
  for word in $(cat /proc/cmdline); do
    case $word in
      "$1"=*) value=${word#*=} ;;
    esac
  done
  echo "$value"
}

has_parameter() {
  for word in $(cat /proc/cmdline); do
    [ "$word" = "$1" ] && return 0
  done
  return 1
}

is_mounted() {
  grep -q " $1 " /proc/mounts 2>/dev/null
}

# mount_once TYPE PLACE [OPTIONS]
mount_once() {
  is_mounted "$2" || mount -t "$1" -o "${3:-rw}" "$1" "$2"
}

mount_basics() {
  mount_once proc /proc
  mount_once sysfs /sys
  mount_once devtmpfs /dev
  mkdir -p /dev/pts /dev/shm
  mount_once devpts /dev/pts gid=5,mode=620,ptmxmode=666
  mount_once tmpfs /dev/shm
  mount_once tmpfs /run
  mount_once tmpfs /tmp
}

# Loads the driver of everything on the PCI and virtio buses, and of the ACPI devices that have one here.
load_drivers() {
  modprobe -qab virtio_pci
  modprobe -qab $(cat /sys/bus/pci/devices/*/modalias /sys/bus/acpi/devices/*/modalias 2>/dev/null | sort -u)
  modprobe -qab $(cat /sys/bus/virtio/devices/*/modalias 2>/dev/null | sort -u)
}

# Reports to the tests go to the console, whatever the kernel prints there.
console() {
  sed 's/.* //' /sys/class/tty/console/active
}

show_machine() {
  echo "--- uname -a"
  uname -a
  echo "--- /proc/cpuinfo"
  grep -m 1 'model name' /proc/cpuinfo
  echo "processors: $(grep -c ^processor /proc/cpuinfo)"
  echo "--- lsblk"
  lsblk 2>/dev/null || ls /sys/block
  echo "--- lspci"
  lspci
  echo "--- ip addr"
  ip addr show eth0 2>/dev/null
  echo "--- up for $(cut -d ' ' -f 1 /proc/uptime) s"
}

# By DHCP, where there is an interface; a network without a server costs a few seconds.
start_network() {
  [ -e /sys/class/net/eth0 ] || return 0
  ip link set lo up
  ip link set eth0 up
  busybox udhcpc -i eth0 -n -q -t 3 -T 1 -s /lib/dhcp.sh >/dev/null 2>&1
}

dialogue() {
  stty -echo -onlcr -icrnl 2>/dev/null
  # The kernel's lines would land in the middle of answers; dmesg has them.
  dmesg -n 1
  echo "crosvm-guest: ready"
  while IFS=' ' read -r sequence line; do
    eval "$line" </dev/null 2>&1
    echo "@@$sequence $?@@"
  done
}

finish() {
  sync
  poweroff -f
  sleep 60
}

run_guest() {
  test_name=$(parameter crosvm.test)
  tty=/dev/$(console)
  [ -c "$tty" ] || tty=/dev/console
  exec <$tty >$tty 2>&1
  case $test_name in
    '') ;;
    shell)
      # A session of its own with the console as terminal; the dialogue ends when the console does.
      # bash where there is one (the root disk): busybox' shell prefers its own applets to the programs.
      shell=sh
      [ -x /usr/bin/bash ] && shell=bash
      setsid -c $shell -c '. /lib/guest.sh; dialogue' <$tty >$tty 2>&1
      finish
      ;;
    *)
      if [ -x "/tests/$test_name" ]; then
        setsid -c "/tests/$test_name" <$tty >$tty 2>&1
        echo "crosvm-guest: test $test_name status $?"
      else
        echo "crosvm-guest: no test is called $test_name"
      fi
      finish
      ;;
  esac
  start_network
  show_machine
  if ! has_parameter crosvm.batch; then
    echo "An interactive shell; leave it with exit or ctrl-D, and the machine powers off."
    HOME=/root PS1='guest# ' setsid -c sh <$tty >$tty 2>&1
  fi
  finish
}
