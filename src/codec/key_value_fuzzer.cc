#include "codec/key_value.h"
#include "codec/test_types.h"

using namespace crosvm::codec;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: characters
  if (const auto disk = ParseKeyValue<test_types::Disk>(text)) (void)FormatKeyValue(*disk);
  (void)ParseKeyValue<test_types::Disk>(text, {.separator = ':'});
  return 0;
}
