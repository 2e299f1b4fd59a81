#include "control/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "sys/file.h"

namespace crosvm::control {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

// The number behind `key` at the start of a line; 0 without one.
uint64_t Number(const std::string& text, std::string_view key) {
  const size_t at = ("\n" + text).find("\n" + std::string(key));
  return at == std::string::npos ? 0 : strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

std::optional<uint32_t> CountEntries(const std::string& path) {
  const std::unique_ptr<DIR, CloseDir> dir(opendir(path.c_str()));
  if (dir == nullptr) return std::nullopt;
  uint32_t count = 0;
  while (const dirent* const entry = readdir(dir.get())) {
    if (entry->d_name[0] != '.') ++count;
  }
  return count;
}

// Sizes of a gigabyte of guest memory must not make a table wide.
std::string Size(uint64_t kib) {
  if (kib < 10240) return fmt::format("{}K", kib);
  return fmt::format("{}M", (kib + 512) / 1024);
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text.empty() ? "none" : text;
}

}  // namespace

std::optional<ProcessUsage> ReadUsage(pid_t pid) {
  const std::string proc = fmt::format("/proc/{}", pid);
  const Result<std::string> memory = sys::ReadFileToString(proc + "/smaps_rollup");
  const std::optional<uint32_t> descriptors = CountEntries(proc + "/fd");
  const std::optional<uint32_t> threads = CountEntries(proc + "/task");
  if (!memory.has_value() || !descriptors || !threads) return std::nullopt;
  ProcessUsage usage = {
      .pss_kib = Number(*memory, "Pss:"),
      .uss_kib = Number(*memory, "Private_Clean:") + Number(*memory, "Private_Dirty:"),
      .threads = *threads,
      .descriptors = *descriptors,
      .namespaces = {}};
  constexpr std::array<const char*, 7> kNamespaces = {"user", "pid", "mnt",   "net",
                                                      "ipc",  "uts", "cgroup"};
  for (const char* const name : kNamespaces) {
    struct stat own{};
    struct stat theirs{};
    if (stat(fmt::format("/proc/self/ns/{}", name).c_str(), &own) != 0) continue;
    if (stat(fmt::format("{}/ns/{}", proc, name).c_str(), &theirs) != 0) continue;
    if (own.st_ino != theirs.st_ino) usage.namespaces.emplace_back(name);
  }
  return usage;
}

std::string ProcessTable(const ProcessList& list) {
  std::string text =
      fmt::format("VM {}, {} vCPU{}\n", list.vm_state, list.vcpus, list.vcpus == 1 ? "" : "s");
  text += fmt::format("{:<16} {:<8} {:>8} {:<10} {:>8} {:>7} {:>7} {:>7} {:>4} {:>3} {:>6} {}\n",
                      "NAME", "ROLE", "PID", "STATE", "RESTARTS", "PSS", "USS", "THREADS", "FDS",
                      "NS", "CALLS", "JAIL");
  for (const ProcessInfo& process : list.processes) {
    const std::optional<ProcessUsage>& usage = process.usage;
    const auto cell = [&](const auto& value) {
      return usage ? fmt::format("{}", value(*usage)) : std::string("-");
    };
    text += fmt::format(
        "{:<16} {:<8} {:>8} {:<10} {:>8} {:>7} {:>7} {:>7} {:>4} {:>3} {:>6} {}\n", process.name,
        process.role, process.pid == 0 ? "-" : std::to_string(process.pid), process.state,
        process.restarts, cell([](const ProcessUsage& u) { return Size(u.pss_kib); }),
        cell([](const ProcessUsage& u) { return Size(u.uss_kib); }),
        cell([](const ProcessUsage& u) { return u.threads; }),
        cell([](const ProcessUsage& u) { return u.descriptors; }),
        cell([](const ProcessUsage& u) { return u.namespaces.size(); }),
        process.allowed_calls == 0 ? "-" : std::to_string(process.allowed_calls),
        Joined(process.layers));
  }
  return text;
}

}  // namespace crosvm::control
