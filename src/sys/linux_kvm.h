// <linux/kvm.h> with the layout that the kernel means. The 6.1 headers declare flexible arrays
// behind an empty struct, which has no size in C but one byte in C++: offsets and the ioctl numbers
// made of sizes would be wrong. Include this instead of <linux/kvm.h>.
#pragma once

// clang-format off: the order is the point.
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#include <linux/kvm.h>
// clang-format on

static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_xsave) == 4096);
