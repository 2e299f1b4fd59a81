#include "vhost/vhost_file.h"

// The legacy helpers of virtio_ring.h are not valid C++.
#define VIRTIO_RING_NO_LEGACY 1

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <cstring>
#include <vector>

#include "sys/file.h"

namespace crosvm::vhost {
namespace {

// The address at which this process maps a guest address; the transport has checked the range.
Result<uint64_t> HostAddress(const memory::GuestMemory& memory, memory::GuestAddr address) {
  for (const memory::RegionInfo& region : memory.regions()) {
    const uint64_t start = region.start.value();
    if (address.value() >= start && address.value() - start < region.size) {
      return region.host_address + (address.value() - start);
    }
  }
  return Fail(ErrorKind::kInvalidArgument, "a ring at {:#x} is outside memory", address.value());
}

class KernelVhostFile final : public VhostFile {
 public:
  explicit KernelVhostFile(sys::UniqueFd fd) : fd_(std::move(fd)) {}

  Result<uint64_t> GetFeatures() override {
    uint64_t features = 0;
    TRY(Call(VHOST_GET_FEATURES, &features, "reading its features"));
    return features;
  }

  Status SetFeatures(uint64_t features) override {
    return Call(VHOST_SET_FEATURES, &features, "setting its features");
  }

  Status SetMemory(const memory::GuestMemory& memory) override {
    const auto regions = memory.regions();
    std::vector<uint8_t> table(sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region));
    const vhost_memory header{.nregions = static_cast<uint32_t>(regions.size()), .padding = 0};
    memcpy(table.data(), &header, sizeof(header));
    size_t offset = sizeof(header);
    for (const memory::RegionInfo& region : regions) {
      const vhost_memory_region entry{.guest_phys_addr = region.start.value(),
                                      .memory_size = region.size,
                                      .userspace_addr = region.host_address,
                                      .flags_padding = 0};
      memcpy(table.data() + offset, &entry, sizeof(entry));
      offset += sizeof(entry);
    }
    return Call(VHOST_SET_MEM_TABLE, table.data(), "giving it guest memory");
  }

  Status SetRing(const memory::GuestMemory& memory, const virtio::QueueActivation& queue) override {
    const uint32_t index = queue.index;
    vhost_vring_state state{.index = index, .num = queue.size};
    TRY(Call(VHOST_SET_VRING_NUM, &state, "setting a ring's size"));
    state.num = queue.position.next_avail;
    TRY(Call(VHOST_SET_VRING_BASE, &state, "setting a ring's position"));
    vhost_vring_addr address{};
    address.index = index;
    address.desc_user_addr = TRY(HostAddress(memory, queue.addresses.descriptors));
    address.used_user_addr = TRY(HostAddress(memory, queue.addresses.device));
    address.avail_user_addr = TRY(HostAddress(memory, queue.addresses.driver));
    TRY(Call(VHOST_SET_VRING_ADDR, &address, "setting a ring's addresses"));
    vhost_vring_file file{.index = index, .fd = queue.call->fd().get()};
    TRY(Call(VHOST_SET_VRING_CALL, &file, "setting a ring's interrupt"));
    file.fd = queue.kick->fd().get();
    return Call(VHOST_SET_VRING_KICK, &file, "setting a ring's doorbell");
  }

  Result<uint16_t> TakeRing(uint16_t index) override {
    vhost_vring_state state{.index = index, .num = 0};
    TRY(Call(VHOST_GET_VRING_BASE, &state, "reading a ring's position"));
    vhost_vring_file none{.index = index, .fd = VHOST_FILE_UNBIND};
    TRY(Call(VHOST_SET_VRING_KICK, &none, "taking a ring's doorbell"));
    TRY(Call(VHOST_SET_VRING_CALL, &none, "taking a ring's interrupt"));
    return static_cast<uint16_t>(state.num);
  }

  Status SetNetBackend(uint16_t index, sys::BorrowedFd tap) override {
    vhost_vring_file file{.index = index, .fd = tap.valid() ? tap.get() : VHOST_FILE_UNBIND};
    return Call(VHOST_NET_SET_BACKEND, &file, "connecting a ring with the tap");
  }

  Status SetGuestCid(uint64_t cid) override {
    return Call(VHOST_VSOCK_SET_GUEST_CID, &cid, "setting the context id");
  }

  Status SetRunning(bool running) override {
    int value = running ? 1 : 0;
    return Call(VHOST_VSOCK_SET_RUNNING, &value, running ? "starting it" : "stopping it");
  }

 private:
  Status Call(unsigned long request, void* argument, const char* doing) const {
    if (sys::RetryEintr([&] { return ioctl(fd_.get(), request, argument); }) == -1) {
      return FailErrno("{}", doing);
    }
    return {};
  }

  sys::UniqueFd fd_;
};

}  // namespace

Result<std::unique_ptr<VhostFile>> OpenVhost(const std::string& path, std::string_view option,
                                             std::string_view remedy) {
  Result<sys::UniqueFd> fd = sys::Open(path, O_RDWR);
  if (!fd.has_value()) {
    const int err = fd.error().sys_errno();
    if (err == ENOENT || err == ENODEV || err == ENXIO) {
      return Fail(ErrorKind::kNotFound,
                  "{}: this host has no {}; load its module (as root: modprobe {}), or {}", option,
                  path, path.ends_with("net") ? "vhost_net" : "vhost_vsock", remedy);
    }
    if (err == EACCES || err == EPERM) {
      return Fail(ErrorKind::kPermissionDenied,
                  "{}: no permission for {}; become a member of its group (kvm), or {}", option,
                  path, remedy);
    }
    return std::unexpected(std::move(fd).error().Context(option));
  }
  if (ioctl(fd->get(), VHOST_SET_OWNER) == -1) {
    return FailErrno("{}: {} is not a vhost device, or does not start", option, path);
  }
  return std::make_unique<KernelVhostFile>(std::move(*fd));
}

}  // namespace crosvm::vhost
