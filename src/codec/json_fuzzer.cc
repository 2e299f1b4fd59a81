#include "base/check.h"
#include "codec/json.h"
#include "codec/test_types.h"

using namespace crosvm::codec;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: characters
  if (const auto disk = FromJson<test_types::Disk>(text)) {
    CHECK(FromJson<test_types::Disk>(ToJson(*disk)).value() == *disk);
  }
  if (const auto command = FromJson<test_types::Command>(text, 2)) {
    CHECK(FromJson<test_types::Command>(ToJson(*command), 2).value() == *command);
  }
  return 0;
}
