#include "vm/run.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/log.h"
#include "chardev/terminal.h"
#include "control/server.h"
#include "event/event_loop.h"
#include "sys/process.h"
#include "vm/guest_events.h"
#include "vm/machine.h"

namespace crosvm::vm {
namespace {

// Those that ask to end, unless whoever started us had them ignored (nohup): blocked, they would
// come nonetheless.
std::vector<int> SignalsOfInterest() {
  std::vector<int> signals = {SIGTERM, SIGWINCH, SIGCHLD};
  for (const int signal : {SIGINT, SIGHUP, SIGQUIT}) {
    struct sigaction action{};
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
      signals.push_back(signal);
  }
  return signals;
}

// Everything of one run beside the machine itself: control socket, signals, terminal.
class Runner {
 public:
  Runner(const config::VmConfig& config, event::EventLoop& loop)
      : config_(config), loop_(loop), events_(loop, [this] { OnGuestSuspend(); }) {}

  Result<ExitReason> Run() {
    // Before any thread: they inherit the mask.
    signals_ = TRY(sys::SignalFd::Create(SignalsOfInterest()));
    signal(SIGPIPE, SIG_IGN);
    signal_watch_ = TRY(loop_.AddWatch(signals_->fd(), event::Interest::kRead,
                                       [this](event::Ready) { OnSignal(); }));
    // The path is taken before anything else is built, so that a used one costs nothing.
    if (!config_.socket.empty()) TRY(Listen());
    machine_ = TRY(Machine::Create(config_, loop_, events_,
                                   [this](const control::Event& event) { Publish(event); }));
    TRY(EnterTerminal());
    SendWindowSize();
    TRY(machine_->Start());
    TRY(loop_.Run());
    const ExitReason reason = events_.reason().value_or(ExitReason::kStopped);
    Publish({.kind = "exit", .device = "", .text = std::string(NameOf(reason))});
    machine_.reset();
    return reason;
  }

 private:
  Status Listen() {
    sys::UnixListener listener = TRY_CONTEXT(
        sys::UnixListener::Bind(config_.socket, sys::SocketType::kSeqPacket), "--socket");
    control_ = TRY(control::Server::Create(
        loop_, std::move(listener),
        [this](const control::Request& request) { return Handle(request); }));
    return {};
  }

  // The guest's console owns the terminal only when one of its ports reads from it.
  Status EnterTerminal() {
    for (const config::SerialOptions& serial : config_.serial) {
      if (!serial.use_stdin) continue;
      terminal_ = TRY(chardev::RawTerminal::Enter(sys::BorrowedFd(STDIN_FILENO)));
    }
    return {};
  }

  void Publish(const control::Event& event) {
    if (control_) control_->Publish(event);
  }

  void OnSignal() {
    while (const std::optional<int> signal = signals_->Read()) {
      if (*signal == SIGWINCH) {
        SendWindowSize();
      } else if (*signal != SIGCHLD) {
        events_.End(ExitReason::kStopped, fmt::format("{} received", sys::SignalName(*signal)));
      }
    }
  }

  void SendWindowSize() {
    winsize size{};
    if (!machine_ || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
    uint32_t port = 0;
    for (const config::SerialOptions& serial : config_.serial) {
      if (serial.hardware != config::SerialHardware::kVirtioConsole) continue;
      if (serial.type == config::SerialType::kStdout) {
        const Status sent = machine_->devices().SendControl(
            "console", 0,
            devices::SetWindowSize{.port = port, .columns = size.ws_col, .rows = size.ws_row});
        if (!sent.has_value()) LOG_DEBUG("window size: {}", sent.error().ToString());
      }
      ++port;
    }
  }

  void OnGuestSuspend() {
    if (!machine_) return;
    const Status suspended = machine_->Suspend();
    if (!suspended.has_value()) LOG_ERROR("suspending: {}", suspended.error().ToString());
  }

  control::Response Handle(const control::Request& request) {
    if (std::holds_alternative<control::Exit>(request)) {
      events_.End(ExitReason::kStopped, "stopped by the control socket");
      return control::Ok{};
    }
    // A client may connect while the machine is being built.
    if (!machine_) return control::Err{EAGAIN};
    if (std::holds_alternative<control::Suspend>(request)) return Answer(machine_->Suspend());
    if (std::holds_alternative<control::Resume>(request)) return Answer(machine_->Resume());
    if (std::holds_alternative<control::Powerbtn>(request)) {
      machine_->PressPowerButton();
      return control::Ok{};
    }
    if (std::holds_alternative<control::Ps>(request)) return machine_->Describe();
    if (std::holds_alternative<control::Net>(request)) return machine_->devices().DescribeNets();
    if (const auto* change = std::get_if<control::NetForward>(&request)) {
      return Answer(machine_->devices().ChangeForward(
          change->net_index, {.add = change->add, .forward = change->forward}));
    }
    if (const auto* disk = std::get_if<control::DiskCommand>(&request)) return Resize(*disk);
    if (std::holds_alternative<control::BalloonCommand>(request)) {
      return control::ErrorText{"the VM has no balloon: this version lacks the device"};
    }
    return control::Err{ENOTSUP};
  }

  control::Response Resize(const control::DiskCommand& disk) {
    const auto& resize = std::get<control::DiskResize>(disk.command);
    return Answer(machine_->devices().SendControl("block", disk.disk_index,
                                                  devices::ResizeDisk{.bytes = resize.new_size}));
  }

  static control::Response Answer(const Status& status) {
    if (status.has_value()) return control::Ok{};
    LOG_WARN("{}", status.error().ToString());
    return control::ErrorText{status.error().ToString()};
  }

  static std::string_view NameOf(ExitReason reason) {
    switch (reason) {
      case ExitReason::kStopped:
        return "stopped";
      case ExitReason::kPowerOff:
        return "power-off";
      case ExitReason::kReset:
        return "reset";
      case ExitReason::kCrash:
        return "crash";
      case ExitReason::kPanic:
        return "panic";
      case ExitReason::kWatchdog:
        return "watchdog";
    }
    return "?";
  }

  const config::VmConfig& config_;
  event::EventLoop& loop_;
  GuestEvents events_;
  std::optional<sys::SignalFd> signals_;
  event::Watch signal_watch_;
  std::unique_ptr<control::Server> control_;
  std::unique_ptr<Machine> machine_;
  chardev::RawTerminal terminal_;
};

}  // namespace

Result<ExitReason> RunVm(const config::VmConfig& config) {
  const std::unique_ptr<event::EventLoop> loop = TRY(event::EventLoop::Create());
  Runner runner(config, *loop);
  return runner.Run();
}

}  // namespace crosvm::vm
