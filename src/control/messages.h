// The messages of the control socket: JSON text, one message a SOCK_SEQPACKET packet, compatible
// with the reference where it has the request ("Exit" → "Ok" or {"Err":22}). Requests of our own
// answer errors with a text:
// {"Error":{"message":…}}.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/describe.h"
#include "control/net_messages.h"

namespace crosvm::control {

// End the VM at once, without asking the guest.
struct Exit {
  static constexpr std::string_view kName = "Exit";
  bool operator==(const Exit&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
// Stop running vCPUs; the guest is not told.
struct Suspend {
  static constexpr std::string_view kName = "Suspend";
  bool operator==(const Suspend&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
struct Resume {
  static constexpr std::string_view kName = "Resume";
  bool operator==(const Resume&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
// Press the guest's power button: it shuts down if it wants to.
struct Powerbtn {
  static constexpr std::string_view kName = "Powerbtn";
  bool operator==(const Powerbtn&) const = default;
  static constexpr auto Describe() { return Fields(); }
};

struct BalloonAdjust {
  static constexpr std::string_view kName = "Adjust";
  uint64_t num_bytes = 0;
  bool operator==(const BalloonAdjust&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("num_bytes", &BalloonAdjust::num_bytes).Required());
  }
};
struct BalloonQuery {
  static constexpr std::string_view kName = "Stats";
  bool operator==(const BalloonQuery&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
struct BalloonCommand {
  static constexpr std::string_view kName = "BalloonCommand";
  static constexpr bool kTransparent = true;
  std::variant<BalloonAdjust, BalloonQuery> command;
  bool operator==(const BalloonCommand&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("command", &BalloonCommand::command).Required());
  }
};

struct DiskResize {
  static constexpr std::string_view kName = "Resize";
  uint64_t new_size = 0;  // bytes
  bool operator==(const DiskResize&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("new_size", &DiskResize::new_size).Required());
  }
};
struct DiskCommand {
  static constexpr std::string_view kName = "DiskCommand";
  uint64_t disk_index = 0;  // in the order of the command line
  std::variant<DiskResize> command;
  bool operator==(const DiskCommand&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("disk_index", &DiskCommand::disk_index).Required(),
                  Field("command", &DiskCommand::command).Required());
  }
};

// What processes and vCPUs the VM has.
struct Ps {
  static constexpr std::string_view kName = "Ps";
  bool operator==(const Ps&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
// After "Ok" this connection receives an Event packet for everything that happens.
struct Events {
  static constexpr std::string_view kName = "Events";
  bool operator==(const Events&) const = default;
  static constexpr auto Describe() { return Fields(); }
};

using Request = std::variant<Exit, Suspend, Resume, Powerbtn, BalloonCommand, DiskCommand, Ps,
                             Events, Net, NetForward>;

struct Ok {
  static constexpr std::string_view kName = "Ok";
  bool operator==(const Ok&) const = default;
  static constexpr auto Describe() { return Fields(); }
};
// A positive errno value.
struct Err {
  static constexpr std::string_view kName = "Err";
  static constexpr bool kTransparent = true;
  int32_t code = 0;
  bool operator==(const Err&) const = default;
  static constexpr auto Describe() { return Fields(Field("code", &Err::code).Required()); }
};
struct ErrorText {
  static constexpr std::string_view kName = "Error";
  std::string message;
  bool operator==(const ErrorText&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("message", &ErrorText::message).Required());
  }
};

// What the guest's balloon driver reports; a guest may leave any of them out.
struct BalloonStats {
  std::optional<uint64_t> swap_in, swap_out, major_faults, minor_faults, free_memory, total_memory,
      available_memory, disk_caches, hugetlb_allocations, hugetlb_failures;
  bool operator==(const BalloonStats&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("swap_in", &BalloonStats::swap_in),
                  Field("swap_out", &BalloonStats::swap_out),
                  Field("major_faults", &BalloonStats::major_faults),
                  Field("minor_faults", &BalloonStats::minor_faults),
                  Field("free_memory", &BalloonStats::free_memory),
                  Field("total_memory", &BalloonStats::total_memory),
                  Field("available_memory", &BalloonStats::available_memory),
                  Field("disk_caches", &BalloonStats::disk_caches),
                  Field("hugetlb_allocations", &BalloonStats::hugetlb_allocations),
                  Field("hugetlb_failures", &BalloonStats::hugetlb_failures));
  }
};
struct BalloonReport {
  static constexpr std::string_view kName = "BalloonStats";
  BalloonStats stats;
  uint64_t balloon_actual = 0;  // bytes
  bool operator==(const BalloonReport&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("stats", &BalloonReport::stats),
                  Field("balloon_actual", &BalloonReport::balloon_actual));
  }
};

// What the kernel tells of a process, as the one who asks sees it (usage.h); not sent by a VM.
struct ProcessUsage {
  uint64_t pss_kib = 0;  // memory, shared pages divided by their users; guest memory is part of it
  uint64_t uss_kib = 0;  // memory that nobody shares
  uint32_t threads = 0;
  uint32_t descriptors = 0;
  std::vector<std::string> namespaces;  // those that are not the asker's: "user", "net", …
  bool operator==(const ProcessUsage&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("pss_kib", &ProcessUsage::pss_kib), Field("uss_kib", &ProcessUsage::uss_kib),
        Field("threads", &ProcessUsage::threads), Field("descriptors", &ProcessUsage::descriptors),
        Field("namespaces", &ProcessUsage::namespaces));
  }
};

struct ProcessInfo {
  std::string name;  // "vmm", "spawner", "block[0]"
  std::string role;  // "vmm", "spawner", "device", "foreign" (a device that another process serves)
  int32_t pid = 0;   // 0: a thread of the VMM, or not ours
  std::string state;
  uint32_t restarts = 0;
  std::vector<std::string> layers;  // of the jail, those in force: "user", "seccomp", …
  uint32_t allowed_calls = 0;       // system calls of its policy; 0: not limited, or not known
  std::optional<ProcessUsage> usage;
  bool operator==(const ProcessInfo&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("name", &ProcessInfo::name), Field("role", &ProcessInfo::role),
                  Field("pid", &ProcessInfo::pid), Field("state", &ProcessInfo::state),
                  Field("restarts", &ProcessInfo::restarts), Field("layers", &ProcessInfo::layers),
                  Field("allowed_calls", &ProcessInfo::allowed_calls),
                  Field("usage", &ProcessInfo::usage));
  }
};
struct ProcessList {
  static constexpr std::string_view kName = "Ps";
  std::string vm_state;  // "running", "suspended"
  uint32_t vcpus = 0;
  std::vector<ProcessInfo> processes;
  bool operator==(const ProcessList&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("vm_state", &ProcessList::vm_state), Field("vcpus", &ProcessList::vcpus),
                  Field("processes", &ProcessList::processes));
  }
};

struct Event {
  static constexpr std::string_view kName = "Event";
  std::string kind;    // "device-died", "device-restarted", "suspended", "resumed", "exit", …
  std::string device;  // empty when it concerns the VM
  std::string text;
  bool operator==(const Event&) const = default;
  static constexpr auto Describe() {
    return Fields(Field("kind", &Event::kind).Required(), Field("device", &Event::device),
                  Field("text", &Event::text));
  }
};

using Response = std::variant<Ok, Err, ErrorText, BalloonReport, ProcessList, Event, NetList>;

}  // namespace crosvm::control
