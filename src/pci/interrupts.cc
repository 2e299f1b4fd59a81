#include "pci/interrupts.h"

#include "base/check.h"
#include "base/log.h"

namespace crosvm::pci {
namespace {

bool Same(const hypervisor::MsiMessage& a, const hypervisor::MsiMessage& b) {
  return a.address == b.address && a.data == b.data;
}

}  // namespace

Interrupts::Interrupts(const InterruptContext& context, Options& options)
    : context_(context),
      name_(std::move(options.name)),
      vectors_(options.vectors),
      intx_(std::move(options.intx)),
      msix_(options.vectors),
      routes_(options.vectors) {
}

Result<std::shared_ptr<Interrupts>> Interrupts::Create(const InterruptContext& context,
                                                       Options options) {
  if (options.vectors == 0 || options.vectors > kMaxMsixVectors) {
    return Fail(ErrorKind::kInvalidArgument, "{}: {} MSI-X vectors", options.name, options.vectors);
  }
  const std::vector<uint8_t> isr_bits = std::move(options.isr_bits);
  std::shared_ptr<Interrupts> self(new Interrupts(context, options));
  for (const uint8_t bit : isr_bits) {
    Source source;
    source.call = TRY_CONTEXT(sys::EventFd::Create(), "{}: interrupt event", self->name_);
    source.isr_bit = bit;
    self->sources_.push_back(std::move(source));
  }
  self->watches_.resize(isr_bits.size());
  {
    MutexLock lock(self->mutex_);
    self->RefreshAll();
  }
  return self;
}

Interrupts::~Interrupts() {
  MutexLock lock(mutex_);
  for (Source& source : sources_) {
    if (source.mode == Mode::kIrqFd) Detach(source);
  }
  for (const Route& route : routes_) {
    if (route.gsi) context_.router.FreeMsi(*route.gsi);
  }
  if (line_up_) intx_->Lower();
}

uint16_t Interrupts::SetVector(size_t source, uint16_t vector_untrusted) {
  MutexLock lock(mutex_);
  CHECK(source < sources_.size());
  Source& target = sources_[source];
  Collect(target);
  // TRUST: virtio 1.2, 4.1.5.1.2.1: an impossible vector becomes "no vector", which the driver
  // reads back.
  const uint16_t vector = VectorIs(vector_untrusted) ? vector_untrusted : kNoVector;
  if (target.vector != vector) {
    if (target.mode == Mode::kIrqFd) Detach(target);
    target.vector = vector;
    Refresh(target);
  }
  return vector;
}

uint8_t Interrupts::TakeIsr() {
  MutexLock lock(mutex_);
  if (!msix_.enabled()) CollectAll();
  const uint8_t isr = isr_;
  isr_ = 0;
  UpdateLine();
  return isr;
}

void Interrupts::Reset() {
  MutexLock lock(mutex_);
  for (Source& source : sources_) {
    if (source.mode == Mode::kIrqFd) Detach(source);
    source.vector = kNoVector;
    source.call.Drain();
  }
  isr_ = 0;
  msix_.ClearPending();
  UpdateLine();
  RefreshAll();
}

void Interrupts::SetMsixControl(bool enabled, bool function_masked) {
  MutexLock lock(mutex_);
  if (enabled == msix_.enabled() && function_masked == msix_.function_masked()) return;
  CollectAll();
  msix_.SetControl(enabled, function_masked);
  if (!enabled) msix_.ClearPending();
  RefreshAll();
  UpdateLine();
  for (uint16_t vector = 0; vector < vectors_; ++vector) InjectPending(vector);
}

void Interrupts::SetIntxDisabled(bool disabled) {
  MutexLock lock(mutex_);
  intx_disabled_ = disabled;
  UpdateLine();
}

bool Interrupts::intx_pending() const {
  MutexLock lock(mutex_);
  return !msix_.enabled() && isr_ != 0;
}

void Interrupts::ReadTable(uint64_t offset, std::span<uint8_t> data) const {
  MutexLock lock(mutex_);
  msix_.ReadTable(offset, data);
}

void Interrupts::WriteTable(uint64_t offset, std::span<const uint8_t> data) {
  MutexLock lock(mutex_);
  // A masked vector's signals belong to the mask that was in force when they came.
  if (msix_.enabled()) CollectAll();
  const std::optional<uint16_t> vector = msix_.WriteTable(offset, data);
  if (!vector || !msix_.enabled()) return;
  for (Source& source : sources_) {
    if (source.vector == *vector) Refresh(source);
  }
  InjectPending(*vector);
}

void Interrupts::ReadPending(uint64_t offset, std::span<uint8_t> data) {
  MutexLock lock(mutex_);
  if (msix_.enabled()) CollectAll();
  msix_.ReadPending(offset, data);
}

Interrupts::Mode Interrupts::Wanted(const Source& source) const {
  if (!msix_.enabled()) return Mode::kWatched;
  if (source.vector == kNoVector) return Mode::kIdle;
  // An entry that was never written has no address to send to; wait for it like for a masked one.
  if (msix_.masked(source.vector) || msix_.message(source.vector).address == 0) {
    return Mode::kWatched;
  }
  return Mode::kIrqFd;
}

void Interrupts::Collect(Source& source) {
  if (source.mode != Mode::kWatched) return;
  if (source.call.Drain() != 0) Deliver(source);
}

void Interrupts::CollectAll() {
  for (Source& source : sources_) Collect(source);
}

void Interrupts::Deliver(Source& source) {
  if (!msix_.enabled()) {
    isr_ |= source.isr_bit;
    UpdateLine();
  } else if (source.vector == kNoVector) {
    return;
  } else if (msix_.masked(source.vector)) {
    msix_.SetPending(source.vector, true);
  } else {
    Inject(source.vector);
  }
}

void Interrupts::InjectPending(uint16_t vector) {
  if (!msix_.enabled() || msix_.masked(vector) || !msix_.pending(vector)) return;
  msix_.SetPending(vector, false);
  Inject(vector);
}

void Interrupts::Inject(uint16_t vector) {
  const hypervisor::MsiMessage& message = msix_.message(vector);
  if (message.address == 0) return;
  const Status status = context_.vm.SignalMsi(message);
  if (!status.has_value()) {
    // The guest chose the message; an address that is no interrupt controller's ends here.
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: MSI-X vector {}: {}", name_, vector,
                   status.error().ToString());
  }
}

void Interrupts::Refresh(Source& source) {
  Mode wanted = Wanted(source);
  // What came while nobody was to hear it is not for the next vector.
  if (source.mode == Mode::kIdle && wanted != Mode::kIdle) source.call.Drain();
  if (source.mode == Mode::kIrqFd && wanted != Mode::kIrqFd) Detach(source);
  // Without a GSI or irqfd the loop delivers by SignalMsi(): slower, but nothing is lost.
  if (wanted == Mode::kIrqFd && !Attach(source)) wanted = Mode::kWatched;
  source.mode = wanted;
  if ((wanted == Mode::kWatched) != source.watched) RequestWatchSync();
}

void Interrupts::RefreshAll() {
  for (Source& source : sources_) Refresh(source);
}

void Interrupts::Detach(Source& source) {
  const Status status = context_.vm.RemoveIrqFd(source.attached, source.call);
  if (!status.has_value()) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: detaching an interrupt: {}", name_,
                   status.error().ToString());
  }
  // Signals from now on stay in the eventfd until somebody collects them.
  source.mode = Mode::kWatched;
}

bool Interrupts::Attach(Source& source) {
  const Result<hypervisor::Gsi> gsi = EnsureRoute(source.vector);
  if (!gsi.has_value()) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: MSI-X vector {}: {}", name_, source.vector,
                   gsi.error().ToString());
    if (source.mode == Mode::kIrqFd) Detach(source);
    return false;
  }
  if (source.mode == Mode::kIrqFd)
    return true;  // attached to this vector's GSI; only the route changed
  const Status status = context_.vm.AddIrqFd(*gsi, source.call, nullptr);
  if (!status.has_value()) {
    LOG_WARN_EVERY(std::chrono::seconds(1), "{}: MSI-X vector {}: {}", name_, source.vector,
                   status.error().ToString());
    return false;
  }
  source.attached = *gsi;
  return true;
}

Result<hypervisor::Gsi> Interrupts::EnsureRoute(uint16_t vector) {
  Route& route = routes_[vector];
  if (!route.gsi) route.gsi = TRY(context_.router.AllocateMsi());
  if (!Same(route.message, msix_.message(vector))) {
    TRY(context_.router.SetMsi(*route.gsi, msix_.message(vector)));
    route.message = msix_.message(vector);
  }
  return *route.gsi;
}

void Interrupts::UpdateLine() {
  const bool up = !msix_.enabled() && !intx_disabled_ && isr_ != 0;
  if (up == line_up_ || intx_ == nullptr) return;
  line_up_ = up;
  if (up) {
    intx_->Raise();
  } else {
    intx_->Lower();
  }
}

void Interrupts::RequestWatchSync() {
  if (sync_posted_) return;
  sync_posted_ = true;
  context_.loop.Post([weak = weak_from_this()] {
    if (const std::shared_ptr<Interrupts> self = weak.lock()) self->SyncWatches();
  });
}

void Interrupts::SyncWatches() {
  MutexLock lock(mutex_);
  sync_posted_ = false;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const bool wanted = sources_[i].mode == Mode::kWatched;
    sources_[i].watched = wanted;
    if (wanted == watches_[i].active()) continue;
    if (!wanted) {
      watches_[i].Reset();
      continue;
    }
    Result<event::Watch> watch = context_.loop.AddWatch(
        sources_[i].call.fd(), event::Interest::kRead, [this, i](event::Ready) { OnSignalled(i); });
    if (!watch.has_value()) {
      LOG_WARN_EVERY(std::chrono::seconds(1), "{}: watching an interrupt: {}", name_,
                     watch.error().ToString());
      continue;
    }
    watches_[i] = std::move(*watch);
  }
}

void Interrupts::OnSignalled(size_t source) {
  MutexLock lock(mutex_);
  Collect(sources_[source]);
}

}  // namespace crosvm::pci
