#!/bin/sh
# What udhcpc runs when it has been told an address. /etc may not be writable: names then stay unknown.
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
[ -n "$router" ] && ip route add default via "$router"
for one in $dns; do
  echo "nameserver $one"
done >/etc/resolv.conf
exit 0
