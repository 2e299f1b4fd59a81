// `crosvm net`: the network interfaces of a running VM, and their port forwards.
#include "cli/commands.h"
#include "codec/json.h"
#include "codec/key_value.h"
#include "config/net_user.h"
#include "control/client.h"

namespace crosvm::cli {
namespace {

constexpr std::chrono::seconds kTimeout{10};

std::string Table(const control::NetList& list) {
  std::string text =
      fmt::format("{:<14} {:<8} {:<6} {:<18} {:>6} {:>5} {:>12} {:>12} {:>10}\n", "NAME", "KIND",
                  "LINK", "MAC", "MTU", "PAIRS", "RECEIVED", "SENT", "DROPPED");
  for (const control::NetInterface& net : list.interfaces) {
    uint64_t received = 0;
    uint64_t sent = 0;
    uint64_t dropped = 0;
    for (const control::NetPair& pair : net.pairs) {
      received += pair.rx_frames;
      sent += pair.tx_frames;
      dropped += pair.rx_dropped + pair.rx_filtered + pair.tx_dropped;
    }
    text += fmt::format(
        "{:<14} {:<8} {:<6} {:<18} {:>6} {:>5} {:>12} {:>12} {:>10}\n", net.name, net.kind,
        net.link, net.mac.empty() ? "-" : net.mac, net.mtu == 0 ? "-" : fmt::format("{}", net.mtu),
        net.pairs.empty() ? "-" : fmt::format("{}/{}", net.pairs_in_use, net.pairs.size()),
        received, sent, dropped);
    for (const std::string& forward : net.forwards) text += fmt::format("  forward {}\n", forward);
  }
  return list.interfaces.empty() ? "the VM has no network interface\n" : text;
}

}  // namespace

Result<int> NetCommand(const Invocation& invocation) {
  const std::span<const std::string_view> words = invocation.arguments.positionals;
  control::Request request = control::Net{};
  if (words.size() > 1) {
    if ((words[0] != "forward" && words[0] != "unforward") || words.size() != 4) {
      return Fail(ErrorKind::kInvalidArgument,
                  "besides the list there is `crosvm net forward|unforward INDEX FORWARD SOCKET`");
    }
    const uint64_t index = TRY_CONTEXT(codec::ParseNumber(words[1]), "INDEX");
    // Checked here too, so that a typing error needs no VM.
    const config::HostForward forward = TRY(config::HostForward::Parse(words[2]));
    request = control::NetForward{
        .net_index = index, .add = words[0] == "forward", .forward = forward.ToString()};
  }
  control::Client client = TRY(control::Client::Connect(std::string(words.back())));
  const control::Response response = TRY(client.Call(request, kTimeout));
  TRY(control::ToStatus(response));
  if (words.size() > 1) return kExitOk;
  const auto* const list = std::get_if<control::NetList>(&response);
  if (list == nullptr)
    return Fail(ErrorKind::kProtocol, "the VM's answer is no list of network interfaces");
  invocation.Print(invocation.Has("json") ? codec::ToJson(*list, 2) + "\n" : Table(*list));
  return kExitOk;
}

}  // namespace crosvm::cli
