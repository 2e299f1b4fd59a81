// For tests: a file system of the host whose directory has a name of more than 255 bytes, as NTFS,
// exFAT and vfat can show them. Mounted by FUSE and served by a thread; needs root and /dev/fuse.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "sys/file.h"

namespace crosvm::shared_dir::testing {

class LongNameMount {
 public:
  static bool Possible() { return geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0; }

  // The entries of the directory, in this order.
  static std::vector<std::string> Names() {
    return {"before", std::string(300, 'l'), std::string(765, 'm'), "after"};
  }

  explicit LongNameMount(std::string place)
      : place_(std::move(place)), device_(*sys::Open("/dev/fuse", O_RDWR)) {
    const std::string data =
        fmt::format("fd={},rootmode=40000,user_id=0,group_id=0", device_.get());
    CHECK(mount("long", place_.c_str(), "fuse.long", 0, data.c_str()) == 0);
    server_ = std::thread([this] { Serve(); });
  }
  ~LongNameMount() {
    umount2(place_.c_str(), MNT_DETACH);
    server_.join();
  }
  LongNameMount(const LongNameMount&) = delete;
  LongNameMount& operator=(const LongNameMount&) = delete;

 private:
  static constexpr uint64_t kFileNode = 2;

  void Serve() {
    std::vector<char> request(1U << 18);
    while (true) {
      const ssize_t got = read(device_.get(), request.data(), request.size());
      if (got < 0 && errno == ENODEV) return;  // unmounted
      if (got < 0) continue;
      fuse_in_header header{};
      memcpy(&header, request.data(), sizeof(header));
      if (header.opcode == FUSE_FORGET || header.opcode == FUSE_BATCH_FORGET) continue;
      answer_.assign(sizeof(fuse_out_header), '\0');
      const int error = Answer(header, request.data() + sizeof(header));
      if (error != 0) answer_.resize(sizeof(fuse_out_header));
      const fuse_out_header out{
          .len = static_cast<uint32_t>(answer_.size()), .error = -error, .unique = header.unique};
      memcpy(answer_.data(), &out, sizeof(out));
      if (write(device_.get(), answer_.data(), answer_.size()) < 0) continue;
    }
  }

  template <typename T>
  int Put(const T& value) {
    // SAFETY: T is a trivially copyable wire struct.
    const auto* const bytes = reinterpret_cast<const char*>(&value);
    answer_.insert(answer_.end(), bytes, bytes + sizeof(T));
    return 0;
  }

  static fuse_attr Attributes(uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.nlink = 1;
    return attr;
  }

  int Answer(const fuse_in_header& header, const char* arguments) {
    switch (header.opcode) {
      case FUSE_INIT: {
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = 31;
        out.max_write = 65536;
        return Put(out);
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr = Attributes(header.nodeid);
        return Put(out);
      }
      case FUSE_LOOKUP: {
        fuse_entry_out out{};
        out.nodeid = kFileNode;
        out.attr = Attributes(kFileNode);
        return Put(out);
      }
      case FUSE_OPENDIR:
        return Put(fuse_open_out{});
      case FUSE_READDIR:
        return List(arguments);
      case FUSE_RELEASEDIR:
        return 0;
      default:
        return ENOSYS;
    }
  }

  int List(const char* arguments) {
    fuse_read_in in{};
    memcpy(&in, arguments, sizeof(in));
    const std::vector<std::string> names = Names();
    for (uint64_t i = in.offset; i < names.size(); ++i) {
      fuse_dirent entry{};
      entry.ino = 10 + i;
      entry.off = i + 1;
      entry.namelen = static_cast<uint32_t>(names[i].size());
      entry.type = S_IFREG >> 12;
      const size_t before = answer_.size();
      const size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + names[i].size());
      if (before + size > sizeof(fuse_out_header) + in.size) break;
      answer_.resize(before + size);
      memcpy(answer_.data() + before, &entry, FUSE_NAME_OFFSET);
      memcpy(answer_.data() + before + FUSE_NAME_OFFSET, names[i].data(), names[i].size());
    }
    return 0;
  }

  const std::string place_;
  const sys::UniqueFd device_;
  std::vector<char> answer_;
  std::thread server_;
};

}  // namespace crosvm::shared_dir::testing
