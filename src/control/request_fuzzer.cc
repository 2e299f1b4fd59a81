#include "base/check.h"
#include "codec/json.h"
#include "control/client.h"
#include "control/messages.h"

using namespace crosvm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: characters
  if (const auto request = codec::FromJson<control::Request>(text)) {
    CHECK(codec::FromJson<control::Request>(codec::ToJson(*request)).value() == *request);
  }
  if (const auto response = codec::FromJson<control::Response>(text)) {
    (void)control::ToStatus(*response);
  }
  return 0;
}
