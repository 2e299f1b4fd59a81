#include "devices/rng/rng_module.h"

#include "devices/rng/rng_device.h"
#include "policies/rng.h"

namespace crosvm::devices::rng {
namespace {

Result<PreparedDevice> Prepare(std::string_view option) {
  if (!option.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "'{}': the entropy device takes no options", option);
  }
  return PreparedDevice{};
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice, const CreateContext& context) {
  return std::make_unique<RngDevice>(context.loop);
}

}  // namespace

const DeviceModule kRngModule = {
    .name = "rng",
    .summary = "entropy from the host (virtio-rng)",
    .option_help = "",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kRng,
};

}  // namespace crosvm::devices::rng
