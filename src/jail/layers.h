// The layers of a jail, so that a report can say which are in force.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace crosvm::jail {

enum class Layer : uint8_t {
  kUserNamespace,
  kPidNamespace,
  kMountNamespace,
  kNetNamespace,
  kIpcNamespace,
  kUtsNamespace,
  kCgroupNamespace,
  kPivotRoot,       // the root is an empty read-only tmpfs, or the shared directory
  kUnprivilegedId,  // the process is not the user who started the VM's root
  kCapabilities,    // none left, bounding set emptied, securebits locked
  kNoNewPrivs,
  kRlimits,
  kLandlock,
  kSeccomp,
};

inline constexpr std::array<std::string_view, 14> kLayerNames = {
    "user", "pid", "mount",        "net",          "ipc",     "uts",      "cgroup",
    "root", "id",  "capabilities", "no_new_privs", "rlimits", "landlock", "seccomp"};

class Layers {
 public:
  constexpr Layers() = default;
  constexpr explicit Layers(uint32_t bits) : bits_(bits) {}

  constexpr bool Has(Layer layer) const { return (bits_ & Bit(layer)) != 0; }
  constexpr void Add(Layer layer) { bits_ |= Bit(layer); }
  constexpr void Remove(Layer layer) { bits_ &= ~Bit(layer); }
  constexpr uint32_t bits() const { return bits_; }
  constexpr Layers Without(Layers other) const { return Layers(bits_ & ~other.bits_); }
  friend constexpr bool operator==(Layers, Layers) = default;

  // Everything this build knows.
  static constexpr Layers All() { return Layers((uint32_t{1} << kLayerNames.size()) - 1); }

  // {"user", "pid", "mount"}
  std::vector<std::string> Names() const;
  // "user,pid,mount", or "none".
  std::string ToString() const;

 private:
  static constexpr uint32_t Bit(Layer layer) { return uint32_t{1} << static_cast<uint8_t>(layer); }
  uint32_t bits_ = 0;
};

}  // namespace crosvm::jail
