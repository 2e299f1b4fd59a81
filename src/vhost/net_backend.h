// vhost-net: a tap interface whose frames the host's kernel moves.
#pragma once

#include <array>
#include <functional>

#include "vhost/kernel_backend.h"

namespace crosvm::vhost {

struct NetOptions {
  std::string name;   // "vhost-net[0]"
  sys::UniqueFd tap;  // one queue, with headers of 12 bytes
  std::array<uint8_t, 6> mac{};
  uint16_t mtu = 0;           // told to the driver; 0: not
  uint64_t tap_features = 0;  // VIRTIO_NET_F_* of offloads that the tap can do
  // Tells the tap which of them the driver has taken; on any thread.
  std::function<void(uint64_t features)> set_offloads;
};

class NetBackend final : public KernelBackend {
 public:
  static Result<std::unique_ptr<NetBackend>> Create(std::unique_ptr<VhostFile> file,
                                                    NetOptions options);
  ~NetBackend() override;

 private:
  NetBackend(std::unique_ptr<VhostFile> file, NetOptions options, virtio::DeviceInfo info,
             std::vector<uint8_t> config, uint64_t kernel_features);
  Status StartData(uint64_t features) override;
  Status StopData() override;

  const sys::UniqueFd tap_;
  const std::function<void(uint64_t)> set_offloads_;
};

}  // namespace crosvm::vhost
