// ioctl(2) as a Result, and the kernel's "header plus array" arguments. Private to kvm/.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::hypervisor::kvm {

// `argument` is what the request takes by value: a number, or nothing. The result is the ioctl's.
inline Result<int> Ioctl(sys::BorrowedFd fd, unsigned long request, const char* name,
                         unsigned long argument = 0) {
  const int result = sys::RetryEintr([&] { return ioctl(fd.get(), request, argument); });
  if (result < 0) return FailErrno("{}", name);
  return result;
}

// `argument` is a struct that the kernel reads, writes or both.
template <typename T>
Result<int> IoctlPtr(sys::BorrowedFd fd, unsigned long request, const char* name, T* argument) {
  const int result = sys::RetryEintr([&] { return ioctl(fd.get(), request, argument); });
  if (result < 0) return FailErrno("{}", name);
  return result;
}

template <typename T>
Status IoctlSet(sys::BorrowedFd fd, unsigned long request, const char* name, const T& argument) {
  // Some requests write their answer into the struct they read.
  T copy = argument;
  TRY(IoctlPtr(fd, request, name, &copy));
  return {};
}

template <typename T>
Result<T> IoctlGet(sys::BorrowedFd fd, unsigned long request, const char* name, T argument = {}) {
  TRY(IoctlPtr(fd, request, name, &argument));
  return argument;
}

// A kernel struct that ends in an array of `Entry`.
template <typename Header, typename Entry>
class HeaderAndArray {
  static_assert(sizeof(Header) % alignof(Entry) == 0);

 public:
  explicit HeaderAndArray(size_t count)
      : storage_(sizeof(Header) + count * sizeof(Entry)), count_(count) {}

  // SAFETY: the storage comes from operator new, aligned for every scalar, and holds the header and
  // count_ entries of trivial kernel types.
  Header* header() { return reinterpret_cast<Header*>(storage_.data()); }
  std::span<Entry> entries() {
    return {reinterpret_cast<Entry*>(storage_.data() + sizeof(Header)), count_};
  }

 private:
  std::vector<uint8_t> storage_;
  size_t count_;
};

}  // namespace crosvm::hypervisor::kvm

// The request and its name for the error text.
#define KVM_REQUEST(request) request, #request
