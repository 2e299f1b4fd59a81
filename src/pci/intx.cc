#include "pci/intx.h"

#include "base/log.h"

namespace crosvm::pci {

void VmInterruptLine::Set(bool level) {
  const Status status = vm_.SetIrqLine(gsi_, level);
  if (!status.has_value()) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "INTx {}: {}", gsi_.value(), status.error().ToString());
  }
}

struct SharedLine::State {
  explicit State(std::shared_ptr<bus::InterruptLine> line) : target(std::move(line)) {}

  // The target is driven under the lock, so that its level cannot be left behind by a race of two
  // functions.
  void Change(bool up) {
    MutexLock lock(mutex);
    if (up) {
      if (asserted++ == 0) target->Raise();
    } else if (--asserted == 0) {
      target->Lower();
    }
  }

  const std::shared_ptr<bus::InterruptLine> target;
  Mutex mutex;
  uint32_t asserted CROSVM_GUARDED_BY(mutex) = 0;
};

class SharedLine::Connection final : public bus::InterruptLine {
 public:
  explicit Connection(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~Connection() override { Lower(); }
  // ORDERING: the exchange alone decides which caller counts; State's lock orders the rest.
  void Raise() override {
    if (!up_.exchange(true)) state_->Change(true);
  }
  void Lower() override {
    if (up_.exchange(false)) state_->Change(false);
  }

 private:
  const std::shared_ptr<State> state_;
  std::atomic<bool> up_{false};
};

SharedLine::SharedLine(std::shared_ptr<bus::InterruptLine> target)
    : state_(std::make_shared<State>(std::move(target))) {
}
SharedLine::~SharedLine() = default;

std::unique_ptr<bus::InterruptLine> SharedLine::Connect() {
  return std::make_unique<Connection>(state_);
}

}  // namespace crosvm::pci
