#include "vm/platform_devices.h"

#include <unistd.h>

#include "chardev/fd_sink.h"
#include "chardev/open.h"
#include "platform/cmos.h"
#include "platform/debug_ports.h"
#include "platform/reset_ports.h"

namespace crosvm::vm {
namespace {

using config::SerialOptions;
using config::SerialType;

chardev::CharType CharTypeOf(SerialType type) {
  switch (type) {
    case SerialType::kFile:
      return chardev::CharType::kFile;
    case SerialType::kStdout:
      return chardev::CharType::kStdout;
    case SerialType::kSink:
      return chardev::CharType::kSink;
    case SerialType::kSyslog:
      return chardev::CharType::kSyslog;
    case SerialType::kUnix:
      return chardev::CharType::kUnixDatagram;
    case SerialType::kUnixStream:
      return chardev::CharType::kUnixStream;
  }
  return chardev::CharType::kSink;
}

Result<chardev::CharStreams> OpenStreams(const SerialOptions& options, event::EventLoop& loop) {
  chardev::CharFiles files =
      TRY(chardev::OpenCharFiles({.type = CharTypeOf(options.type),
                                  .path = options.path,
                                  .use_stdin = options.use_stdin,
                                  .input_path = options.input,
                                  .name = fmt::format("serial {}", options.num)}));
  return chardev::MakeCharStreams(loop, std::move(files));
}

Status AddSerials(const config::VmConfig& config, event::EventLoop& loop, Interrupts& interrupts,
                  bus::Bus& io_bus, PlatformDevices& devices) {
  // COM1 and COM3 share an interrupt, COM2 and COM4 another.
  const std::shared_ptr<bus::InterruptLine> odd = TRY(interrupts.EdgeLine(x86_64::kSerials[0].irq));
  const std::shared_ptr<bus::InterruptLine> even =
      TRY(interrupts.EdgeLine(x86_64::kSerials[1].irq));
  for (const SerialOptions& options : config.serial) {
    if (options.hardware != config::SerialHardware::kSerial) continue;
    const size_t index = options.num - 1U;
    chardev::CharStreams streams =
        TRY_CONTEXT(OpenStreams(options, loop), "--serial num={}", options.num);
    auto serial = std::make_shared<platform::Serial>(
        fmt::format("serial {}", options.num), index % 2 == 0 ? odd : even, std::move(streams));
    TRY(io_bus.Insert(serial, x86_64::kSerials[index].port, platform::Serial::kLength));
    devices.serials.push_back(std::move(serial));
  }
  return {};
}

Status AddLegacy(const HostVm& host, event::EventLoop& loop, Interrupts& interrupts,
                 GuestEvents& events, bus::Bus& io_bus) {
  const std::shared_ptr<bus::InterruptLine> rtc = TRY(interrupts.EdgeLine(x86_64::kRtcIrq));
  const uint64_t above_4g = host.layout.high_ram_end - x86_64::k4Gib;
  TRY(io_bus.Insert(
      std::make_shared<platform::Cmos>(
          loop, rtc,
          platform::CmosOptions{.ram_below_4g = host.layout.low_ram_end, .ram_above_4g = above_4g}),
      x86_64::kRtcPort, platform::Cmos::kLength));
  using platform::I8042Port;
  TRY(io_bus.Insert(std::make_shared<I8042Port>(I8042Port::Port::kData, events), x86_64::kI8042Data,
                    I8042Port::kLength));
  return io_bus.Insert(std::make_shared<I8042Port>(I8042Port::Port::kCommand, events),
                       x86_64::kI8042Command, I8042Port::kLength);
}

Status AddDebugPorts(event::EventLoop& loop, GuestEvents& events, bus::Bus& io_bus) {
  sys::UniqueFd standard_error = TRY(sys::BorrowedFd(STDERR_FILENO).Dup());
  auto sink = TRY(chardev::FdSink::Create(loop, std::move(standard_error), "debugcon"));
  TRY(io_bus.Insert(std::make_shared<platform::DebugConsole>(std::move(sink)),
                    x86_64::kDebugconPort, platform::DebugConsole::kLength));
  return io_bus.Insert(std::make_shared<platform::PvPanic>(events), x86_64::kPvpanicPort,
                       platform::PvPanic::kLength);
}

}  // namespace

Result<PlatformDevices> AddPlatformDevices(const config::VmConfig& config, const HostVm& host,
                                           event::EventLoop& loop, Interrupts& interrupts,
                                           GuestEvents& events, bus::Bus& io_bus) {
  PlatformDevices devices;
  TRY(AddSerials(config, loop, interrupts, io_bus, devices));
  if (!config.no_legacy) TRY(AddLegacy(host, loop, interrupts, events, io_bus));
  TRY(AddDebugPorts(loop, events, io_bus));
  devices.acpi_pm = std::make_shared<platform::AcpiPm>(interrupts.LevelLine(x86_64::kSci), events);
  TRY(io_bus.Insert(devices.acpi_pm, x86_64::kAcpiPmBase, platform::AcpiPm::kLength));
  return devices;
}

}  // namespace crosvm::vm
