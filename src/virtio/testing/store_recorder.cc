#include "virtio/testing/store_recorder.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>

#include "base/check.h"

namespace crosvm::virtio::testing {

#ifdef __x86_64__
namespace {

constexpr greg_t kTrapFlag = 0x100;
// Enough for any test; the handlers cannot allocate.
constexpr size_t kMaxStates = 512;

struct Recording {
  std::span<const StoreRecorder::Range> ranges;
  std::vector<StoreRecorder::State> states;
  size_t used = 0;
};
Recording* recording = nullptr;

void Protect(int access) {
  for (const StoreRecorder::Range& range : recording->ranges) {
    if (mprotect(range.data, range.size, access) != 0) abort();
  }
}

void Snapshot() {
  if (recording->used == recording->states.size()) abort();
  uint8_t* out = recording->states[recording->used].data();
  for (const StoreRecorder::Range& range : recording->ranges) {
    for (size_t i = 0; i < range.size; ++i) out[i] = range.data[i];
    out += range.size;
  }
  ++recording->used;
}

void OnFault(int, siginfo_t* info, void* context) {
  const auto* const address = static_cast<const uint8_t*>(info->si_addr);
  bool ours = false;
  for (const StoreRecorder::Range& range : recording->ranges) {
    ours = ours || (address >= range.data && address < range.data + range.size);
  }
  if (!ours) abort();
  Protect(PROT_READ | PROT_WRITE);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void OnStep(int, siginfo_t*, void* context) {
  Snapshot();
  Protect(PROT_READ);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
}

}  // namespace

std::vector<StoreRecorder::State> StoreRecorder::Record(std::span<const Range> ranges,
                                                        const std::function<void()>& work) {
  CHECK(recording == nullptr);
  size_t total = 0;
  for (const Range& range : ranges) total += range.size;
  Recording now{.ranges = ranges, .states = std::vector<State>(kMaxStates, State(total))};
  recording = &now;
  struct sigaction fault{}, step{}, old_fault{}, old_step{};
  fault.sa_flags = step.sa_flags = SA_SIGINFO;
  fault.sa_sigaction = OnFault;
  step.sa_sigaction = OnStep;
  CHECK(sigaction(SIGSEGV, &fault, &old_fault) == 0 && sigaction(SIGTRAP, &step, &old_step) == 0);
  Snapshot();
  Protect(PROT_READ);
  work();
  Protect(PROT_READ | PROT_WRITE);
  CHECK(sigaction(SIGSEGV, &old_fault, nullptr) == 0 &&
        sigaction(SIGTRAP, &old_step, nullptr) == 0);
  recording = nullptr;
  now.states.resize(now.used);
  std::vector<State> distinct;
  for (State& state : now.states) {
    if (distinct.empty() || distinct.back() != state) distinct.push_back(std::move(state));
  }
  return distinct;
}
#endif

}  // namespace crosvm::virtio::testing
