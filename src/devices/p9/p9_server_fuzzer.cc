// Any bytes as a run of 9P messages, on a real directory. The input: for each message a byte of
// how it is sent, a 16-bit length, and its bytes from the type on; sizes are put right, so that the
// handlers are reached.
#include <cstdint>
#include <cstring>
#include <span>

#include "devices/p9/testing/session.h"

namespace crosvm::devices::p9 {
namespace {

// What a run leaves behind must not grow without bounds.
constexpr int kRunsPerDirectory = 256;

std::unique_ptr<testing::Session> MakeSession() {
  auto session = std::make_unique<testing::Session>();
  session->WriteFile("f", "content");
  CHECK(mkdir(session->Path("d").c_str(), 0755) == 0);
  CHECK(symlink("../..", session->Path("d/up").c_str()) == 0);
  return session;
}

void Run(std::span<const uint8_t> input) {
  static std::unique_ptr<testing::Session> session = MakeSession();
  static int runs = 0;
  if (++runs % kRunsPerDirectory == 0) session = MakeSession();
  session->Begin();
  while (input.size() >= 4) {
    const uint8_t how = input[0];
    const size_t length = std::min<size_t>(input.size() - 3, input[1] | (size_t{input[2]} << 8));
    std::vector<uint8_t> message(4);
    message.insert(message.end(), input.begin() + 3, input.begin() + 3 + length);
    input = input.subspan(3 + length);
    std::string data;
    if (message.size() > kWriteHeaderBytes && message[4] == static_cast<uint8_t>(Type::kWrite)) {
      data.assign(message.begin() + kWriteHeaderBytes, message.end());
      message.resize(kWriteHeaderBytes);
    }
    const Le32 size(static_cast<uint32_t>(message.size() + data.size()));
    memcpy(message.data(), &size, sizeof(size));
    // Mostly enough room for any answer.
    const uint64_t limit = (how & 0x40) != 0 ? how & 0x3f : 65536;
    session->Send(message, data, (how & 0x80) != 0, limit);
  }
}

}  // namespace
}  // namespace crosvm::devices::p9

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm;
  devices::p9::Run({data, size});
  return 0;
}
