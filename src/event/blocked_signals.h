// For threads that take no signals: a program's handlers and signalfds belong to its main thread.
#pragma once

#include <signal.h>

#include "base/check.h"

namespace crosvm::event {

// Blocks signals on this thread for as long as it lives, and for good on threads that are made
// meanwhile, which inherit the mask. Faults stay open: a blocked SIGSYS or SIGSEGV kills without
// the report of its handler.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t set;
    sigfillset(&set);
    for (const int fault : {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
      sigdelset(&set, fault);
    }
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &before_) == 0);
  }
  ~BlockedSignals() { CHECK(pthread_sigmask(SIG_SETMASK, &before_, nullptr) == 0); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace crosvm::event
