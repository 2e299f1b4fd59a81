// Where streams of the guest lead to.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "sys/fd.h"

namespace crosvm::devices::vsock {

class Connector {
 public:
  virtual ~Connector() = default;
  // A connected, non-blocking stream socket; kBusy when the listener's queue is full for now. Does
  // not wait.
  virtual Result<sys::UniqueFd> Connect(uint32_t port) = 0;
};

}  // namespace crosvm::devices::vsock
