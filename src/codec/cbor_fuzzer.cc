#include "base/check.h"
#include "codec/cbor.h"
#include "codec/test_types.h"

using namespace crosvm::codec;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (const auto value = ParseCbor({data, size})) {
    CHECK(ParseCbor(WriteCbor(*value)).value() == *value);
    (void)WriteJson(*value, 2);
  }
  (void)FromCbor<test_types::Disk>({data, size});
  return 0;
}
