#include "devices/slirp/stack.h"

#include <slirp/libslirp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "devices/slirp/filter.h"

namespace crosvm::devices::slirp {
namespace {

in_addr ToInAddr(const std::array<uint8_t, 4>& bytes) {
  in_addr address{};
  memcpy(&address, bytes.data(), sizeof(address));
  return address;
}

in6_addr ToIn6Addr(const std::array<uint8_t, 16>& bytes) {
  in6_addr address{};
  memcpy(&address, bytes.data(), sizeof(address));
  return address;
}

// libslirp asks for at most this when it waits for nothing.
constexpr uint32_t kIdleMilliseconds = 1000;

}  // namespace

// One of libslirp's timers: of router advertisements.
struct Stack::RouterTimer {
  Stack* stack = nullptr;
  SlirpTimerId id = SLIRP_TIMER_RA;
  void* argument = nullptr;
  event::Timer timer;
};

// What libslirp calls. `opaque` is the stack.
struct Stack::Callbacks {
  static Stack& Of(void* opaque) { return *static_cast<Stack*>(opaque); }

  static ssize_t SendPacket(const void* buffer, size_t length, void* opaque) {
    Of(opaque).output_({static_cast<const uint8_t*>(buffer), length});
    return static_cast<ssize_t>(length);
  }
  static void GuestError(const char* message, void*) {
    LOG_DEBUG("libslirp about the guest: {}", message);
  }
  static int64_t Nanoseconds(void* opaque) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               Of(opaque).loop_.Now().time_since_epoch())
        .count();
  }
  static void* NewTimer(SlirpTimerId id, void* argument, void* opaque) {
    auto timer = std::make_unique<RouterTimer>();
    timer->stack = &Of(opaque);
    timer->id = id;
    timer->argument = argument;
    Of(opaque).router_timers_.push_back(std::move(timer));
    return Of(opaque).router_timers_.back().get();
  }
  static void FreeTimer(void* timer, void* opaque) {
    std::erase_if(Of(opaque).router_timers_, [&](const auto& each) { return each.get() == timer; });
  }
  static void SetTimer(void* opaque_timer, int64_t milliseconds, void* opaque) {
    auto* const timer = static_cast<RouterTimer*>(opaque_timer);
    const event::Clock::time_point deadline{std::chrono::milliseconds(milliseconds)};
    timer->timer = Of(opaque).loop_.AddTimer(deadline, [timer] {
      slirp_handle_timer(timer->stack->slirp_, timer->id, timer->argument);
      timer->stack->ScheduleRefresh();
    });
  }
  static void Register(int, void*) {}
  static void Unregister(int fd, void* opaque) { Of(opaque).Forget(fd); }
  static void Notify(void* opaque) { Of(opaque).ScheduleRefresh(); }
  static int AddPoll(int fd, int events, void* opaque) {
    Of(opaque).Want(fd, events);
    Of(opaque).polled_.push_back(fd);
    return static_cast<int>(Of(opaque).polled_.size()) - 1;
  }
  static int TakeReady(int index, void* opaque) {
    Stack& self = Of(opaque);
    if (index < 0 || static_cast<size_t>(index) >= self.polled_.size()) return 0;
    const auto found = self.sockets_.find(self.polled_[static_cast<size_t>(index)]);
    return found == self.sockets_.end() ? 0 : std::exchange(found->second.ready, 0);
  }

  static constexpr SlirpCb kTable = {
      .send_packet = &SendPacket,
      .guest_error = &GuestError,
      .clock_get_ns = &Nanoseconds,
      .timer_new = nullptr,
      .timer_free = &FreeTimer,
      .timer_mod = &SetTimer,
      .register_poll_fd = &Register,
      .unregister_poll_fd = &Unregister,
      .notify = &Notify,
      .init_completed = nullptr,
      .timer_new_opaque = &NewTimer,
  };
};

Stack::Stack(event::EventLoop& loop, Output output, std::function<void()> flush)
    : loop_(loop),
      output_(std::move(output)),
      flush_(std::move(flush)),
      self_(std::make_shared<Stack*>(this)) {
}

Result<std::unique_ptr<Stack>> Stack::Create(event::EventLoop& loop, Output output,
                                             std::function<void()> flush) {
  std::unique_ptr<Stack> self(new Stack(loop, std::move(output), std::move(flush)));
  SlirpConfig config{};
  config.version = 4;
  config.in_enabled = true;
  config.vnetwork = ToInAddr(kNetwork);
  config.vnetmask = ToInAddr(kNetmask);
  config.vhost = ToInAddr(kGateway);
  config.vdhcp_start = ToInAddr(kFirstGuest);
  config.vnameserver = ToInAddr(kNameServer);
  config.in6_enabled = true;
  config.vprefix_addr6 = ToIn6Addr(kNetwork6);
  config.vprefix_len = 64;
  config.vhost6 = ToIn6Addr(kGateway6);
  config.vnameserver6 = ToIn6Addr(kNameServer6);
  config.if_mtu = kMtu;
  config.if_mru = kMtu;
  // The name server is ours: see DnsRelay. (disable_dns would leave it out of DHCP's answers too.)
  self->slirp_ = slirp_new(&config, &Callbacks::kTable, self.get());
  if (self->slirp_ == nullptr)
    return Fail(ErrorKind::kUnsupported, "libslirp {} refuses the network", slirp_version_string());
  self->ScheduleRefresh();
  return self;
}

Stack::~Stack() {
  self_.reset();
  if (slirp_ != nullptr) slirp_cleanup(slirp_);
}

void Stack::Input(std::span<const uint8_t> frame) {
  slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
  ScheduleRefresh();
}

void Stack::SetReading(bool on) {
  if (reading_ == on) return;
  reading_ = on;
  ScheduleRefresh();
}

void Stack::ScheduleRefresh() {
  if (std::exchange(refresh_scheduled_, true)) return;
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const std::shared_ptr<Stack*> self = weak.lock()) (*self)->Refresh();
  });
}

void Stack::SchedulePoll() {
  if (std::exchange(poll_scheduled_, true)) return;
  loop_.Post([weak = std::weak_ptr(self_)] {
    if (const std::shared_ptr<Stack*> self = weak.lock()) (*self)->Poll();
  });
}

void Stack::Poll() {
  poll_scheduled_ = false;
  slirp_pollfds_poll(slirp_, 0, &Callbacks::TakeReady, this);
  flush_();
  Refresh();
}

void Stack::Refresh() {
  refresh_scheduled_ = false;
  for (auto& [fd, socket] : sockets_) socket.wanted = false;
  polled_.clear();
  uint32_t timeout = UINT32_MAX;
  slirp_pollfds_fill(slirp_, &timeout, &Callbacks::AddPoll, this);
  for (auto& [fd, socket] : sockets_) {
    if (socket.wanted || socket.interest == event::Interest::kNone) continue;
    socket.interest = event::Interest::kNone;
    socket.watch.SetInterest(event::Interest::kNone);
  }
  if (timeout >= kIdleMilliseconds) {
    timer_.Reset();
    timer_armed_ = false;
    return;
  }
  // One that comes earlier than needed costs less than setting it anew each time.
  const event::Clock::time_point deadline = loop_.Now() + std::chrono::milliseconds(timeout);
  if (timer_armed_ && timer_deadline_ <= deadline) return;
  timer_deadline_ = deadline;
  timer_armed_ = true;
  timer_ = loop_.AddTimer(deadline, [this] {
    timer_armed_ = false;
    SchedulePoll();
  });
}

void Stack::Want(int fd, int events) {
  const bool read = (events & SLIRP_POLL_IN) != 0 && reading_;
  const bool write = (events & SLIRP_POLL_OUT) != 0;
  const event::Interest interest = read && write ? event::Interest::kReadWrite
                                   : read        ? event::Interest::kRead
                                   : write       ? event::Interest::kWrite
                                                 : event::Interest::kNone;
  const auto [entry, fresh] = sockets_.try_emplace(fd);
  Socket& socket = entry->second;
  socket.wanted = interest != event::Interest::kNone;
  if (fresh) {
    Result<event::Watch> watch = loop_.AddWatch(
        sys::BorrowedFd(fd), interest, [this, fd](event::Ready ready) { OnReady(fd, ready); });
    if (!watch.has_value()) {
      LOG_WARN_EVERY(std::chrono::seconds(10), "a socket of the guest: {}",
                     watch.error().ToString());
      sockets_.erase(entry);
      return;
    }
    socket.watch = std::move(*watch);
    socket.interest = interest;
  } else if (socket.interest != interest) {
    socket.interest = interest;
    socket.watch.SetInterest(interest);
  }
}

void Stack::OnReady(int fd, event::Ready ready) {
  const auto found = sockets_.find(fd);
  if (found == sockets_.end()) return;
  // Urgent data needs no word of its own: libslirp has it inline.
  if (ready.readable) found->second.ready |= SLIRP_POLL_IN;
  if (ready.writable) found->second.ready |= SLIRP_POLL_OUT;
  if (ready.hangup) found->second.ready |= SLIRP_POLL_HUP | SLIRP_POLL_ERR;
  SchedulePoll();
}

void Stack::Forget(int fd) {
  sockets_.erase(fd);
}

Status Stack::AddForward(const config::HostForward& forward) {
  const int added =
      slirp_add_hostfwd(slirp_, forward.udp ? 1 : 0, ToInAddr(forward.host.bytes),
                        forward.host_port, ToInAddr(forward.guest.bytes), forward.guest_port);
  if (added == 0) {
    ScheduleRefresh();
    return {};
  }
  const int error = errno;
  const char* const remedy =
      error == EADDRINUSE ? "; choose another port, or end what listens there"
      : error == EACCES   ? "; ports below net.ipv4.ip_unprivileged_port_start need another number"
      : error == EADDRNOTAVAIL ? "; the host has no such address"
                               : "";
  return Fail(Error::FromErrno(error, "").kind(), "hostfwd={}: {}{}", forward.ToString(),
              strerrordesc_np(error), remedy);
}

Status Stack::RemoveForward(const config::HostForward& forward) {
  const int removed = slirp_remove_hostfwd(slirp_, forward.udp ? 1 : 0,
                                           ToInAddr(forward.host.bytes), forward.host_port);
  if (removed != 0) return Fail(ErrorKind::kNotFound, "there is no forward {}", forward.ToString());
  ScheduleRefresh();
  return {};
}

}  // namespace crosvm::devices::slirp
