// A back-end that answers anything: the input is what it sends, and then it closes. Well-formed
// headers are made for half of the inputs, so that the fuzzer gets past the handshake.
#include <sys/socket.h>

#include "event/test_loop.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "vhost_user/frontend.h"
#include "virtio/testing/driver.h"

namespace {

using namespace crosvm;
using vhost_user::Request;

// The answers that Connect and Activate wait for, with values from the input.
void SendAnswers(const sys::UnixSocket& socket, std::span<const uint8_t> input) {
  static const sys::UniqueFd file = *sys::CreateSealedMemfd("fuzz", 0x10000);
  while (input.size() >= 10) {
    const uint32_t request = input[0];
    const uint8_t kind = input[1];
    const size_t length = std::min<size_t>(kind & 0x1f, input.size() - 2);
    std::vector<sys::BorrowedFd> fds;
    if ((kind & 0x20) != 0) fds.push_back(file);
    (void)vhost_user::SendMessage(socket, request, vhost_user::kFlagReply, input.subspan(2, length),
                                  fds);
    input = input.subspan(2 + length);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > 4096) return 0;
  static const memory::GuestMemory memory = virtio::testing::Driver::MakeMemory(1 << 20);
  event::TestLoop loop;
  auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
  // What does not fit the socket is not sent.
  (void)sys::SetNonBlocking(back.fd(), true);
  const std::span<const uint8_t> input(data + 1, size - 1);
  if ((data[0] & 1) != 0) {
    SendAnswers(back, input);
  } else if (!input.empty()) {
    (void)back.SendAll(input);
  }
  if (shutdown(back.fd().get(), SHUT_WR) != 0) return 0;
  auto frontend =
      vhost_user::Frontend::Connect(loop, std::move(front),
                                    {.name = "fuzz",
                                     .info = {.queue_sizes = {16, 16}, .config_size = 8},
                                     .max_shared_memory = 1U << 20});
  if (!frontend) return 0;
  virtio::testing::Driver driver(memory, {.area_size = 1 << 18});
  const virtio::QueueActivation queues[] = {{.index = 0,
                                             .size = 16,
                                             .addresses = driver.addresses(),
                                             .position = {},
                                             .kick = &driver.kick(),
                                             .call = &driver.call()}};
  uint8_t config[4];
  (void)(*frontend)->ReadConfig(0, config);
  (void)(*frontend)->Activate(memory, (*frontend)->info().features & driver.features(), queues);
  (void)(*frontend)->Suspend();
  (void)(*frontend)->Activate(memory, (*frontend)->info().features & driver.features(), queues);
  (void)(*frontend)->StopQueue(0);
  (void)(*frontend)->Deactivate();
  loop.RunUntilIdle();
  return 0;
}
