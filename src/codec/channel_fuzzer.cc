// One packet: the first byte is the number of descriptors that came with it.
#include "base/check.h"
#include "codec/channel.h"
#include "codec/test_types.h"

using namespace crosvm::codec;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t fds = data[0] % 33;
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  if (const auto message = CborForm::Read<test_types::Command>(bytes, fds)) {
    if (const auto* attach = std::get_if<test_types::Attach>(&*message)) {
      CHECK(attach->image.index < fds);
      CHECK(!attach->log || (attach->log->index < fds && *attach->log != attach->image));
    }
  }
  (void)JsonForm::Read<test_types::Command>(bytes, fds);
  return 0;
}
