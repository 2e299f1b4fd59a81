// Opens the tap that a `--net` names, with the user's rights: in the VMM, for the net process and
// for vhost-net.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "config/net_options.h"
#include "devices/net/rx_filter.h"
#include "sys/tap.h"

namespace crosvm::devices::net {

struct OpenedTap {
  sys::TapInterface tap;
  Mac mac{};              // the guest's: the user's choice, or made up
  uint16_t mtu = 0;       // 0: not known
  uint64_t features = 0;  // VIRTIO_NET_F_* of offloads that it can do
};

// `options` are checked (config::CheckNet) and not `user`.
Result<OpenedTap> OpenTap(const config::NetOptions& options);

}  // namespace crosvm::devices::net
