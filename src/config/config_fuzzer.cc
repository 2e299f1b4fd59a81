#include "base/check.h"
#include "config/vm_config.h"

using namespace crosvm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);  // SAFETY: characters
  config::VmConfig vm;
  if (!config::LoadConfigText(text, "input", vm) || !config::Validate(vm)) return 0;
  (void)config::DeviceKernelParameters(vm);
  // What is valid stays valid, and survives being written and read.
  config::VmConfig copy;
  CHECK(config::LoadConfigText(config::DumpConfig(vm), "dump", copy).has_value());
  CHECK(config::Validate(copy).has_value());
  return 0;
}
