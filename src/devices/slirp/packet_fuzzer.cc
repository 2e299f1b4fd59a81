// Frames of any shape through the parser, the filter and our own answers; then into libslirp, on a
// loop whose time passes, when the filter passes them. Nothing is allowed but the network's own
// services, so no frame makes a socket.
#include <algorithm>

#include "devices/slirp/filter.h"
#include "devices/slirp/packet.h"
#include "devices/slirp/stack.h"
#include "event/test_loop.h"

namespace {

using namespace crosvm;
using namespace crosvm::devices::slirp;

struct Network {
  event::TestLoop loop;
  std::unique_ptr<Stack> stack;
};

Network& TheNetwork() {
  static Network* const network = [] {
    auto* const made = new Network;
    made->stack = *Stack::Create(made->loop, [](std::span<const uint8_t>) {}, [] {});
    return made;
  }();
  return *network;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Network& network = TheNetwork();
  static Filter filter({.restricted = true, .allow = {}, .host_loopback = false});
  std::span<const uint8_t> input(data, size);
  // Frames one after the other, each with its length in two bytes.
  while (input.size() >= 2) {
    const size_t length = std::min<size_t>(input[0] * size_t{256} + input[1], input.size() - 2);
    // A copy of its own, so that a byte too far is seen.
    const std::vector<uint8_t> frame(input.begin() + 2,
                                     input.begin() + 2 + static_cast<ptrdiff_t>(length));
    input = input.subspan(2 + length);
    const std::optional<Packet> packet = ParseFrame(frame);
    if (!packet) continue;
    switch (filter.Judge(*packet, network.loop.Now())) {
      case Verdict::kPass:
        network.stack->Input(frame);
        break;
      case Verdict::kDns: {
        const std::vector<uint8_t> reply = MakeUdpReply(*packet, packet->payload);
        const std::optional<Packet> back = ParseFrame(reply);
        if (!back || back->destination_port != packet->source_port) __builtin_trap();
        break;
      }
      case Verdict::kRefuse:
        (void)MakeProhibited(*packet);
        break;
      case Verdict::kDrop:
        break;
    }
    filter.NoteDatagram(*packet, network.loop.Now());
  }
  network.loop.AdvanceTime(std::chrono::milliseconds(600));
  return 0;
}
