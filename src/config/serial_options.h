// A serial port or a virtio console: `--serial`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/describe.h"

namespace crosvm::config {

enum class SerialType : uint8_t { kFile, kStdout, kSink, kSyslog, kUnix, kUnixStream };
constexpr auto DescribeEnum(SerialType) {
  return EnumNames<SerialType>({{SerialType::kFile, "file"},
                                {SerialType::kFile, "File"},
                                {SerialType::kStdout, "stdout"},
                                {SerialType::kStdout, "Stdout"},
                                {SerialType::kSink, "sink"},
                                {SerialType::kSink, "Sink"},
                                {SerialType::kSyslog, "syslog"},
                                {SerialType::kSyslog, "Syslog"},
                                {SerialType::kUnix, "unix"},
                                {SerialType::kUnix, "UnixSocket"},
                                {SerialType::kUnixStream, "unix-stream"}});
}

enum class SerialHardware : uint8_t { kSerial, kVirtioConsole };
constexpr auto DescribeEnum(SerialHardware) {
  return EnumNames<SerialHardware>(
      {{SerialHardware::kSerial, "serial"}, {SerialHardware::kVirtioConsole, "virtio-console"}});
}

struct SerialOptions {
  SerialType type = SerialType::kStdout;
  SerialHardware hardware = SerialHardware::kSerial;
  uint8_t num = 1;
  std::string path;
  std::string input;
  bool console = false;
  bool earlycon = false;
  bool use_stdin = false;

  bool operator==(const SerialOptions&) const = default;
  static constexpr auto Describe() {
    return Fields(
        Field("type", &SerialOptions::type, "where output goes").Required(),
        Field("hardware", &SerialOptions::hardware, "what the guest sees"),
        Field("num", &SerialOptions::num, "port number; serial ports have 1 to 4").Range(1, 255),
        Field("path", &SerialOptions::path, "the file, or the socket to send to"),
        Field("input", &SerialOptions::input, "file or FIFO to read input from"),
        Field("console", &SerialOptions::console, "the kernel's console"),
        Field("earlycon", &SerialOptions::earlycon, "the kernel's early console"),
        Field("stdin", &SerialOptions::use_stdin, "input comes from standard input"));
  }
};

// Of which a VM can have one only.
inline bool IsSamePort(const SerialOptions& a, const SerialOptions& b) {
  return a.hardware == b.hardware && a.num == b.num;
}

}  // namespace crosvm::config
