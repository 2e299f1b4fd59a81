#!/bin/sh
# Asserts that a switch on a field copied from guest memory loads it once (docs/adr/0005-guest-memory.md), with every
# compiler we ship with: check_one_load.sh SOURCE_ROOT. x86-64 only (it reads the assembly).
set -eu
src=$1
status=0
case $(uname -m) in x86_64) ;; *) echo "skipped: reads x86-64 assembly"; exit 0 ;; esac

# Loads at offset 0 of the first argument in function $2 of assembly $1.
loads() {
  awk -v f="$2:" '$1 == f {on = 1} on && $1 == ".size" {on = 0} on' "$1" |
    grep -E -v '^[[:space:]]*lea' | grep -E -c '[^0-9a-z](0)?\(%rdi[,)]' || true
}

asm=$(mktemp)
trap 'rm -f "$asm"' EXIT
for compiler in g++-12 clang++-19; do
  for level in -O1 -O2 -O3; do
    "$compiler" -std=c++2b $level -fno-exceptions -iquote "$src" -S -o "$asm" \
      "$src/memory/codegen/one_load.cc"
    guarded=$(loads "$asm" GuardedProbe)
    naked=$(loads "$asm" NakedProbe)
    echo "$compiler $level: $guarded load(s) through the accessor, $naked without"
    if [ "$guarded" -ne 1 ]; then
      echo "FAILED: $compiler $level: $guarded loads of guest memory, wanted 1" >&2
      status=1
    fi
    # Without this the pattern may have stopped to match anything.
    if [ "$compiler $level" = "g++-12 -O2" ] && [ "$naked" -lt 2 ]; then
      echo "FAILED: the control shows $naked loads, so this check cannot see a second load" >&2
      status=1
    fi
  done
done
exit $status
