#include "devices/net/open_tap.h"

#include "base/log.h"
#include "devices/net/net_user.h"
#include "devices/net/tap_port.h"

namespace crosvm::devices::net {
namespace {

// A name pattern of the reference's.
constexpr const char* kNewTapName = "vmtap%d";

Result<sys::TapInterface> OpenInterface(const config::NetOptions& options) {
  if (!options.tap_name.empty()) return sys::AttachTap(options.tap_name, options.vq_pairs);
  if (options.tap_fd) {
    // TRUST: the user says that this descriptor was passed to us; a copy is taken, so that two
    // options that name the same one do not close it twice.
    sys::UniqueFd queue =
        TRY_CONTEXT(sys::BorrowedFd(*options.tap_fd).Dup(), "tap-fd={}", *options.tap_fd);
    return sys::AdoptTap(std::move(queue), options.vq_pairs);
  }
  sys::TapInterface tap = TRY(sys::MakeTap(kNewTapName, options.vq_pairs));
  sys::TapAddress address{
      .ip = options.host_ip->bytes, .netmask = options.netmask->bytes, .mac = {}};
  if (options.host_mac) address.mac = options.host_mac->bytes;
  TRY(sys::ConfigureTap(tap.name, address));
  return tap;
}

}  // namespace

Result<OpenedTap> OpenTap(const config::NetOptions& options) {
  OpenedTap opened;
  opened.tap = TRY(OpenInterface(options));
  LOG_DEBUG("tap interface {}", opened.tap.name);
  opened.mac = options.mac ? options.mac->bytes : MakeMac();
  opened.features = ProbeTapFeatures(opened.tap.queues[0]);
  // Of a tap in another network namespace nothing is known; the driver then takes its usual MTU.
  const Result<uint32_t> mtu = sys::TapMtu(opened.tap.name);
  if (mtu.has_value() && *mtu <= UINT16_MAX) opened.mtu = static_cast<uint16_t>(*mtu);
  return opened;
}

}  // namespace crosvm::devices::net
