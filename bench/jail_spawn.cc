// What it costs to start and jail device processes, without a VM: starts `count` entropy devices
// and prints {"wall_ms": …, "cpu_ms": …, "spawner_ms": …, "uss_kib": …, "pss_kib": …}, wall time
// until all are ready and CPU time of one device (of its process, and of the spawner and this one
// for it). The first device's start, which starts the spawner too, is not counted.
//
//   jail_spawn COUNT [direct]     direct: without a spawner, each device makes its own empty root
#include <sys/resource.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "control/usage.h"
#include "device_host/device_host.h"
#include "device_host/launch.h"
#include "devices/module/module.h"
#include "sys/file.h"

namespace {

using namespace crosvm;

// CPU time that a process has had, /proc/PID/schedstat.
double CpuMs(pid_t pid) {
  const Result<std::string> text = sys::ReadFileToString(fmt::format("/proc/{}/schedstat", pid));
  return text.has_value() ? static_cast<double>(strtoull(text->c_str(), nullptr, 10)) / 1e6 : 0;
}

double OwnCpuMs() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

Status Measure(size_t count, bool direct) {
  const devices::DeviceModule* const module = devices::FindModule("rng");
  if (module == nullptr) return Fail(ErrorKind::kNotFound, "no entropy device");
  const devices::PreparedDevice prepared = TRY(module->prepare(""));
  device_host::Spawners spawners({});
  const device_host::LaunchOptions options = {.label = "rng[0]",
                                              .spawners = direct ? nullptr : &spawners};
  const device_host::HostedDevice first = TRY(device_host::Launch(*module, prepared, options));
  const auto spawner_ms = [&] {
    double sum = 0;
    for (const pid_t pid : spawners.pids()) sum += CpuMs(pid);
    return sum;
  };

  const double cpu_before = OwnCpuMs() + spawner_ms();
  const auto start = std::chrono::steady_clock::now();
  std::vector<device_host::PendingDevice> pending;
  for (size_t i = 0; i < count; ++i) {
    pending.push_back(TRY(device_host::BeginLaunch(*module, prepared, options)));
  }
  std::vector<device_host::HostedDevice> devices;
  for (device_host::PendingDevice& device : pending) {
    devices.push_back(TRY(std::move(device).Finish()));
  }
  const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
  const double parents = OwnCpuMs() + spawner_ms() - cpu_before;
  double cpu = 0;
  uint64_t uss = 0;
  uint64_t pss = 0;
  for (const device_host::HostedDevice& device : devices) {
    cpu += CpuMs(device.process.pid());
    const std::optional<control::ProcessUsage> usage = control::ReadUsage(device.process.pid());
    uss += usage ? usage->uss_kib : 0;
    pss += usage ? usage->pss_kib : 0;
  }
  const auto each = static_cast<double>(count);
  printf(
      "{\"wall_ms\": %.3f, \"cpu_ms\": %.3f, \"spawner_ms\": %.3f, \"uss_kib\": %.0f, "
      "\"pss_kib\": %.0f, \"layers\": \"%s\"}\n",
      wall.count(), cpu / each, parents / each, static_cast<double>(uss) / each,
      static_cast<double>(pss) / each, devices.front().layers.ToString().c_str());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--device-process") return device_host::ChildMain(devices::AllModules());
  if (word == "--spawner-process") return device_host::SpawnerMain(argc, argv);
  const size_t count = strtoull(argc > 1 ? argv[1] : "0", nullptr, 10);
  if (count == 0 || count > 64) {
    fprintf(stderr, "usage: jail_spawn COUNT [direct], COUNT from 1 to 64\n");
    return 1;
  }
  const Status done = Measure(count, argc > 2 && std::string_view(argv[2]) == "direct");
  if (done.has_value()) return 0;
  fprintf(stderr, "jail_spawn: %s\n", done.error().ToString().c_str());
  return 1;
}
