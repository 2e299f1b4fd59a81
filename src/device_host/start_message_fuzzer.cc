// What the two sides of a device's start and control channels make of any packet: the child of
// DeviceStart, the VMM of DeviceReady and of the control replies of a device that was taken over.
#include <fcntl.h>

#include "codec/channel.h"
#include "device_host/serve.h"
#include "device_host/start_message.h"
#include "devices/module/control.h"
#include "sys/socket.h"

namespace {

using namespace crosvm;

// Nothing of our own is in the way of the parser: a real packet, with descriptors, over a real
// socket.
template <typename Receive>
void Try(std::span<const uint8_t> bytes, size_t fds) {
  static const sys::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  auto [ours, theirs] = *sys::UnixSocket::Pair(sys::SocketType::kSeqPacket);
  const std::vector<sys::BorrowedFd> list(fds, sys::BorrowedFd(null));
  if (!theirs.Send(bytes, list).has_value()) return;
  codec::Channel<devices::Ping, Receive> channel(std::move(ours));
  auto message = channel.Receive();
  if (!message.has_value()) return;
  // What is accepted survives the way back.
  const std::vector<uint8_t> again = codec::ToCbor(message->message);
  if (!codec::FromCbor<Receive>(again, message->fds.size()).has_value()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 32768) return 0;
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  const size_t fds = (data[0] >> 3) % 8;
  switch (data[0] & 3) {
    case 0:
      Try<device_host::DeviceStart>(bytes, fds);
      break;
    case 1:
      Try<device_host::DeviceReady>(bytes, fds);
      break;
    case 2:
      Try<devices::ControlReply>(bytes, fds);
      break;
    default:
      Try<devices::ControlRequest>(bytes, fds);
      break;
  }
  return 0;
}
