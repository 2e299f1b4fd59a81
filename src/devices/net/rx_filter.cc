#include "devices/net/rx_filter.h"

#include <algorithm>

namespace crosvm::devices::net {

bool RxFilter::Accepts(const Mac& destination) const {
  if (promiscuous) return true;
  const bool group = (destination[0] & 1) != 0;
  if (group) {
    const bool broadcast = std::all_of(destination.begin(), destination.end(),
                                       [](uint8_t byte) { return byte == 0xff; });
    if (broadcast) return !no_broadcast;
    if (no_multicast) return false;
    return all_multicast || multicast_overflow ||
           std::find(multicast.begin(), multicast.end(), destination) != multicast.end();
  }
  if (no_unicast) return false;
  return all_unicast || unicast_overflow || destination == own ||
         std::find(unicast.begin(), unicast.end(), destination) != unicast.end();
}

}  // namespace crosvm::devices::net
