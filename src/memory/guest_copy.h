// The only code that reads or writes bytes of guest memory with the CPU. Private to memory/.
//
// Guest memory changes under us at any time, so these copies are racy by design: a torn or mixed
// value is as good as any other hostile value. What must not happen is a second read after a check.
// The barrier at the end makes the copy's loads complete here: without it g++ 12 compiles a switch
// on a copied field into two loads of guest memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_THREAD__)
#define CROSVM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CROSVM_TSAN 1
#endif
#endif

namespace crosvm::memory {

#ifdef CROSVM_TSAN
// The thread sanitizer intercepts memcpy, so its builds copy by hand, and only here without
// instrumentation.
__attribute__((no_sanitize("thread"), noinline)) inline void RacyCopy(void* to, const void* from,
                                                                      size_t size) {
  auto* const out = static_cast<volatile uint8_t*>(to);
  const auto* const in = static_cast<const volatile uint8_t*>(from);
  for (size_t i = 0; i < size; ++i) out[i] = in[i];
}
__attribute__((no_sanitize("thread"), noinline)) inline void RacyZero(void* to, size_t size) {
  auto* const out = static_cast<volatile uint8_t*>(to);
  for (size_t i = 0; i < size; ++i) out[i] = 0;
}
#else
inline void RacyCopy(void* to, const void* from, size_t size) {
  std::memcpy(to, from, size);
}
inline void RacyZero(void* to, size_t size) {
  std::memset(to, 0, size);
}
#endif

// `size` may be 0, then the pointers are not looked at.
inline void CopyFromGuest(void* to, const uint8_t* guest, size_t size) {
  if (size == 0) return;
  RacyCopy(to, guest, size);
  // The destination is an input of the barrier, so it must be complete and may not be replaced by
  // its source later.
  asm volatile("" : : "r"(to) : "memory");
}

inline void CopyToGuest(uint8_t* guest, const void* from, size_t size) {
  if (size == 0) return;
  RacyCopy(guest, from, size);
  asm volatile("" : : "r"(guest) : "memory");
}

inline void ZeroGuest(uint8_t* guest, size_t size) {
  if (size == 0) return;
  RacyZero(guest, size);
  asm volatile("" : : "r"(guest) : "memory");
}

}  // namespace crosvm::memory
