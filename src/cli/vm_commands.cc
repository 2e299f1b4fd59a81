// The subcommands that talk to a running VM over its control socket.
#include "cli/commands.h"
#include "codec/json.h"
#include "codec/key_value.h"
#include "control/client.h"
#include "control/usage.h"

namespace crosvm::cli {
namespace {

using std::chrono::milliseconds;

// Of `--timeout` and `--wait`; a day is as good as for ever.
Result<milliseconds> Seconds(const Invocation& invocation, std::string_view option,
                             uint64_t missing) {
  uint64_t seconds = missing;
  const std::string_view text = invocation.ValueOf(option);
  if (!text.empty()) seconds = TRY_CONTEXT(codec::ParseNumber(text), "--{}", option);
  constexpr uint64_t kDay = 24 * 60 * 60;
  if (seconds == 0 || seconds > kDay) {
    return Fail(ErrorKind::kInvalidArgument, "--{} {}: from 1 to {} seconds", option, seconds,
                kDay);
  }
  return milliseconds(seconds * 1000);
}

Result<control::Client> Connect(const Invocation& invocation) {
  return control::Client::Connect(std::string(invocation.arguments.positionals.back()));
}

Result<control::Response> Call(const Invocation& invocation, const control::Request& request) {
  const milliseconds timeout = TRY(Seconds(invocation, "timeout", 10));
  control::Client client = TRY(Connect(invocation));
  return client.Call(request, timeout);
}

Result<int> Send(const Invocation& invocation, const control::Request& request) {
  const control::Response response = TRY(Call(invocation, request));
  TRY(control::ToStatus(response));
  return kExitOk;
}

}  // namespace

Result<int> StopCommand(const Invocation& invocation) {
  return Send(invocation, control::Exit{});
}
Result<int> SuspendCommand(const Invocation& invocation) {
  return Send(invocation, control::Suspend{});
}
Result<int> ResumeCommand(const Invocation& invocation) {
  return Send(invocation, control::Resume{});
}

Result<int> PowerbtnCommand(const Invocation& invocation) {
  const milliseconds timeout = TRY(Seconds(invocation, "timeout", 10));
  const milliseconds wait = TRY(Seconds(invocation, "wait", 1));
  control::Client client = TRY(Connect(invocation));
  TRY(client.Command(control::Powerbtn{}, timeout));
  if (invocation.Has("wait")) TRY(client.WaitForEnd(wait));
  return kExitOk;
}

Result<int> BalloonCommand(const Invocation& invocation) {
  const uint64_t size =
      TRY_CONTEXT(codec::ParseNumber(invocation.arguments.positionals[0], true), "SIZE");
  return Send(invocation, control::BalloonCommand{control::BalloonAdjust{size}});
}

Result<int> BalloonStatsCommand(const Invocation& invocation) {
  const control::Response response =
      TRY(Call(invocation, control::BalloonCommand{control::BalloonQuery{}}));
  TRY(control::ToStatus(response));
  invocation.Print(codec::ToJson(response, 2) + "\n");
  return std::holds_alternative<control::BalloonReport>(response) ? kExitOk : kExitError;
}

Result<int> DiskCommand(const Invocation& invocation) {
  const std::span<const std::string_view> words = invocation.arguments.positionals;
  if (words[0] != "resize") {
    return Fail(ErrorKind::kInvalidArgument, "\"{}\" cannot be done to a disk; resize can",
                words[0]);
  }
  const uint64_t index = TRY_CONTEXT(codec::ParseNumber(words[1]), "INDEX");
  const uint64_t size = TRY_CONTEXT(codec::ParseNumber(words[2], true), "SIZE");
  return Send(invocation, control::DiskCommand{index, control::DiskResize{size}});
}

Result<int> PsCommand(const Invocation& invocation) {
  const control::Response response = TRY(Call(invocation, control::Ps{}));
  TRY(control::ToStatus(response));
  const auto* answer = std::get_if<control::ProcessList>(&response);
  if (answer == nullptr) {
    return Fail(ErrorKind::kProtocol, "the VM's answer is no list of processes");
  }
  control::ProcessList list = *answer;
  for (control::ProcessInfo& process : list.processes) {
    if (process.pid > 0) process.usage = control::ReadUsage(process.pid);
  }
  invocation.Print(invocation.Has("json") ? codec::ToJson(list, 2) + "\n"
                                          : control::ProcessTable(list));
  return kExitOk;
}

Result<int> EventsCommand(const Invocation& invocation) {
  const milliseconds timeout = TRY(Seconds(invocation, "timeout", 10));
  control::Client client = TRY(Connect(invocation));
  TRY(client.Command(control::Events{}, timeout));
  while (true) {
    const Result<control::Event> event = client.NextEvent();
    if (event) {
      invocation.Print(codec::ToJson(*event) + "\n");
    } else if (event.error().kind() == ErrorKind::kDisconnected) {
      return kExitOk;
    } else {
      return std::unexpected(event.error().Clone());
    }
  }
}

}  // namespace crosvm::cli
