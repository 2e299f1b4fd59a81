#include "sys/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "sys/file.h"

namespace crosvm::sys {
namespace {

constexpr const char* kTunDevice = "/dev/net/tun";
constexpr short kFlags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

Result<UniqueFd> OpenTunDevice() {
  const int fd = RetryEintr([] { return open(kTunDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC); });
  if (fd >= 0) return UniqueFd(fd);
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
    return FailErrno(
        "opening {}: this host's kernel has no tap interfaces; try `modprobe tun`, or use --net "
        "user",
        kTunDevice);
  }
  if (errno == EACCES || errno == EPERM) {
    return FailErrno(
        "opening {}: this user may not; as root: chmod 666 {} (as most systems have it; it gives "
        "no rights by itself)",
        kTunDevice, kTunDevice);
  }
  return FailErrno("opening {}", kTunDevice);
}

Result<ifreq> RequestFor(const std::string& name, short flags) {
  ifreq request{};
  if (name.empty() || name.size() >= sizeof(request.ifr_name)) {
    return Fail(ErrorKind::kInvalidArgument, "tap interface {}: a name has 1 to {} characters",
                name, sizeof(request.ifr_name) - 1);
  }
  memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = flags;
  return request;
}

std::string NameIn(const ifreq& request) {
  return std::string(request.ifr_name, strnlen(request.ifr_name, sizeof(request.ifr_name)));
}

Status PrepareQueue(const UniqueFd& fd) {
  int header = kTapHeaderBytes;
  if (ioctl(fd.get(), TUNSETVNETHDRSZ, &header) != 0)
    return FailErrno("setting the size of the tap's header");
  int little_endian = 1;
  // Kernels that cannot choose (big-endian hosts without the option) refuse; little-endian ones
  // have nothing to choose.
  if (ioctl(fd.get(), TUNSETVNETLE, &little_endian) != 0 && errno != EINVAL) {
    return FailErrno("setting the byte order of the tap's header");
  }
  return SetNonBlocking(fd, true);
}

Result<UniqueFd> OpenQueue(const std::string& name, short flags, std::string* real_name) {
  UniqueFd fd = TRY(OpenTunDevice());
  ifreq request = TRY(RequestFor(name, flags));
  if (ioctl(fd.get(), TUNSETIFF, &request) != 0) return FailErrno("tap interface {}", name);
  *real_name = NameIn(request);
  TRY(PrepareQueue(fd));
  return fd;
}

Status CheckQueueCount(uint16_t queues) {
  if (queues >= 1 && queues <= kMaxTapQueues) return {};
  return Fail(ErrorKind::kInvalidArgument, "a tap of {} queues; 1 to {} are possible", queues,
              kMaxTapQueues);
}

// Opens further queues until there are `queues`.
Status OpenMoreQueues(TapInterface& tap, uint16_t queues) {
  while (tap.queues.size() < queues) {
    std::string name;
    tap.queues.push_back(
        TRY_CONTEXT(OpenQueue(tap.name, static_cast<short>(kFlags | IFF_MULTI_QUEUE), &name),
                    "opening queue {}", tap.queues.size()));
  }
  return {};
}

// An IPv4 datagram socket is what interface ioctls are asked on.
Result<UniqueFd> ControlSocket() {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return FailErrno("making a socket for interface settings");
  return fd;
}

Status SetInterfaceAddress(const UniqueFd& control, const std::string& name, unsigned long command,
                           const std::array<uint8_t, 4>& address, std::string_view what) {
  ifreq request = TRY(RequestFor(name, 0));
  sockaddr_in in{};
  in.sin_family = AF_INET;
  memcpy(&in.sin_addr, address.data(), address.size());
  memcpy(&request.ifr_addr, &in, sizeof(in));
  if (ioctl(control.get(), command, &request) != 0)
    return FailErrno("setting the {} of {}", what, name);
  return {};
}

}  // namespace

Result<TapInterface> MakeTap(const std::string& name, uint16_t queues) {
  TRY(CheckQueueCount(queues));
  if (if_nametoindex(name.c_str()) != 0) {
    return Fail(ErrorKind::kAlreadyExists,
                "a network interface {} exists already; choose another name, or attach to it by "
                "tap-name={}",
                name, name);
  }
  const short flags = static_cast<short>(queues > 1 ? kFlags | IFF_MULTI_QUEUE : kFlags);
  TapInterface tap;
  Result<UniqueFd> first = OpenQueue(name, flags, &tap.name);
  if (!first.has_value()) {
    if (first.error().sys_errno() == EPERM) {
      return Fail(
          ErrorKind::kPermissionDenied,
          "making a tap interface needs CAP_NET_ADMIN; use --net user, which needs nothing, or "
          "have "
          "an administrator run `ip tuntap add mode tap user $USER name crosvm0` and use --net "
          "tap-name=crosvm0");
    }
    if (first.error().sys_errno() == EBUSY) {
      return Fail(ErrorKind::kAlreadyExists,
                  "a network interface {} exists already; choose another name", name);
    }
    return std::unexpected(std::move(first.error()));
  }
  tap.queues.push_back(std::move(*first));
  TRY(OpenMoreQueues(tap, queues));
  return tap;
}

Result<TapInterface> AttachTap(const std::string& name, uint16_t queues) {
  TRY(CheckQueueCount(queues));
  TRY(RequestFor(name, 0));
  if (if_nametoindex(name.c_str()) == 0) {
    return Fail(ErrorKind::kNotFound,
                "there is no network interface {}; make it as root: ip tuntap add mode tap user "
                "$USER name {}{}",
                name, name, queues > 1 ? " multi_queue" : "");
  }
  TapInterface tap;
  const short multi = static_cast<short>(kFlags | IFF_MULTI_QUEUE);
  Result<UniqueFd> first = OpenQueue(name, queues > 1 ? multi : kFlags, &tap.name);
  // The flag has to be the interface's own.
  if (!first.has_value() && first.error().sys_errno() == EINVAL && queues == 1) {
    first = OpenQueue(name, multi, &tap.name);
  }
  if (!first.has_value()) {
    switch (first.error().sys_errno()) {
      case EPERM:
        return Fail(ErrorKind::kPermissionDenied,
                    "tap interface {} belongs to another user; as root: ip link del {} && ip "
                    "tuntap add mode tap user "
                    "$USER name {}",
                    name, name, name);
      case EBUSY:
        return Fail(ErrorKind::kBusy,
                    "tap interface {} is in use by another process; stop it, or use another tap",
                    name);
      case EINVAL:
        return Fail(ErrorKind::kInvalidArgument,
                    "interface {} is no tap{}; see `ip -d link show {}`", name,
                    queues > 1 ? ", or has one queue only (make it with multi_queue)" : "", name);
      default:
        return std::unexpected(std::move(first.error()));
    }
  }
  tap.queues.push_back(std::move(*first));
  TRY(OpenMoreQueues(tap, queues));
  return tap;
}

Result<TapInterface> AdoptTap(UniqueFd queue, uint16_t queues) {
  TRY(CheckQueueCount(queues));
  ifreq request{};
  if (ioctl(queue.get(), TUNGETIFF, &request) != 0) {
    return FailErrno("descriptor {} is no tap interface", queue.get());
  }
  const int flags = static_cast<uint16_t>(request.ifr_flags);
  std::string missing;
  const auto require = [&](int flag, std::string_view name) {
    if ((flags & flag) == 0) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
  };
  require(IFF_TAP, "IFF_TAP");
  require(IFF_NO_PI, "IFF_NO_PI");
  require(IFF_VNET_HDR, "IFF_VNET_HDR");
  if (queues > 1) require(IFF_MULTI_QUEUE, "IFF_MULTI_QUEUE");
  if (!missing.empty()) {
    return Fail(
        ErrorKind::kInvalidArgument,
        "the tap of descriptor {} was opened without {}; open it with these flags (TUNSETIFF)",
        queue.get(), missing);
  }
  TapInterface tap;
  tap.name = NameIn(request);
  TRY(PrepareQueue(queue));
  tap.queues.push_back(std::move(queue));
  TRY(OpenMoreQueues(tap, queues));
  return tap;
}

Status ConfigureTap(const std::string& name, const TapAddress& address) {
  const UniqueFd control = TRY(ControlSocket());
  TRY(SetInterfaceAddress(control, name, SIOCSIFADDR, address.ip, "address"));
  TRY(SetInterfaceAddress(control, name, SIOCSIFNETMASK, address.netmask, "netmask"));
  if (address.mac) {
    ifreq request = TRY(RequestFor(name, 0));
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, address.mac->data(), address.mac->size());
    if (ioctl(control.get(), SIOCSIFHWADDR, &request) != 0)
      return FailErrno("setting the MAC address of {}", name);
  }
  ifreq request = TRY(RequestFor(name, 0));
  if (ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
    return FailErrno("reading the state of {}", name);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP | IFF_RUNNING);
  if (ioctl(control.get(), SIOCSIFFLAGS, &request) != 0) return FailErrno("bringing {} up", name);
  return {};
}

Result<uint32_t> TapMtu(const std::string& name) {
  const UniqueFd control = TRY(ControlSocket());
  ifreq request = TRY(RequestFor(name, 0));
  if (ioctl(control.get(), SIOCGIFMTU, &request) != 0)
    return FailErrno("reading the MTU of {}", name);
  return static_cast<uint32_t>(request.ifr_mtu);
}

Status SetTapOffloads(BorrowedFd queue, unsigned offloads) {
  if (ioctl(queue.get(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) != 0) {
    return FailErrno("setting a tap's offloads to {:#x}", offloads);
  }
  return {};
}

Status SetTapQueueAttached(BorrowedFd queue, bool attached) {
  ifreq request{};
  request.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  if (ioctl(queue.get(), TUNSETQUEUE, &request) != 0) {
    return FailErrno("{} a tap's queue", attached ? "attaching" : "detaching");
  }
  return {};
}

}  // namespace crosvm::sys
