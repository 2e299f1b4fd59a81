// A back-end that asks for anything on its channel once it is connected: the input is a list of
// messages, each {request, kind of file, length, bytes}. The handshake is played by the fuzzer.
#include <fcntl.h>

#include "base/check.h"
#include "event/test_loop.h"
#include "hypervisor/fake/fake_vm.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "vhost_user/frontend.h"

namespace {

using namespace crosvm;
using vhost_user::BytesOf;
using vhost_user::Request;
using vhost_user::U64;

constexpr uint64_t kWindow = 1U << 16;

// The answers that Connect waits for, sent before it asks.
void SendHandshake(const sys::UnixSocket& socket) {
  const auto answer = [&](Request request, std::span<const uint8_t> payload) {
    CHECK(vhost_user::SendMessage(socket, static_cast<uint32_t>(request), vhost_user::kFlagReply,
                                  payload)
              .has_value());
  };
  constexpr uint64_t kProtocol =
      vhost_user::kProtocolReplyAck | vhost_user::kProtocolBackendReq | vhost_user::kProtocolShmem;
  vhost_user::ShmemConfig config{};
  config.count = 1u;
  config.sizes[0] = kWindow;
  answer(Request::kGetFeatures, BytesOf(U64{vhost_user::kFeatureProtocol}));
  answer(Request::kGetProtocolFeatures, BytesOf(U64{kProtocol}));
  answer(Request::kSetOwner, BytesOf(U64{uint64_t{0}}));
  answer(Request::kGetShmemConfig, BytesOf(config));
  answer(Request::kSetBackendReqFd, BytesOf(U64{uint64_t{0}}));
}

// The channel that came with SET_BACKEND_REQ_FD, the last message of the handshake.
sys::UnixSocket TakeChannel(const sys::UnixSocket& socket) {
  vhost_user::MessageReader reader;
  while (true) {
    auto message = reader.Read(socket);
    CHECK(message.has_value() && message->has_value());
    if (!(*message)->fds.empty()) return sys::UnixSocket(std::move((*message)->fds[0]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sys::UniqueFd file = *sys::CreateSealedMemfd("fuzz", 0x10000);
  static const sys::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::span<const uint8_t> input(data, size);
  hypervisor::FakeVm vm;
  event::TestLoop loop;
  auto [front, back] = *sys::UnixSocket::Pair(sys::SocketType::kStream);
  SendHandshake(back);
  auto frontend = *vhost_user::Frontend::Connect(
      loop, std::move(front),
      {.name = "fuzz", .info = {.queue_sizes = {16}}, .max_shared_memory = kWindow});
  const auto memory = *virtio::SharedMemory::Create(vm, "fuzz", frontend->info().shared_memory);
  frontend->SetSharedMemory(memory);
  const sys::UnixSocket channel = TakeChannel(back);
  CHECK(sys::SetNonBlocking(channel.fd(), true).has_value());
  while (input.size() >= 3) {
    const uint32_t request = input[0] % 16;
    const uint8_t kind = input[1];
    const size_t length = std::min<size_t>(input[2], input.size() - 3);
    std::vector<uint8_t> payload(input.begin() + 3, input.begin() + 3 + static_cast<long>(length));
    input = input.subspan(3 + length);
    // Mostly page numbers, so that some are good.
    if ((kind & 0x40) != 0 && payload.size() == sizeof(vhost_user::ShmemMapping)) {
      vhost_user::ShmemMapping mapping;
      std::memcpy(&mapping, payload.data(), sizeof(mapping));
      mapping.region &= 1;
      mapping.offset = (mapping.offset & 31) * 4096;
      mapping.length = (mapping.length & 7) * 4096;
      mapping.file_offset = (mapping.file_offset & 31) * 4096;
      mapping.flags = mapping.flags & 3;
      payload.assign(BytesOf(mapping).begin(), BytesOf(mapping).end());
    }
    std::vector<sys::BorrowedFd> fds(kind & 3, (kind & 4) != 0 ? null : file);
    (void)vhost_user::SendMessage(channel, request, kind & 8, payload, fds);
    loop.RunUntilIdle();
    CHECK(memory->mapping_count() <= kWindow / 4096);
  }
  return 0;
}
