// What a user may say of one port of a virtio-console: `type=stdout,stdin,name=log`. Several ports
// are separated by `;`.
#pragma once

#include <cstdint>
#include <string>

#include "base/describe.h"

namespace crosvm::devices::console {

enum class PortType : uint8_t { kSink, kStdout, kFile, kSyslog, kUnix, kUnixStream };
constexpr auto DescribeEnum(PortType) {
  return EnumNames<PortType>({{PortType::kSink, "sink"},
                              {PortType::kStdout, "stdout"},
                              {PortType::kFile, "file"},
                              {PortType::kSyslog, "syslog"},
                              {PortType::kUnix, "unix"},
                              {PortType::kUnixStream, "unix-stream"}});
}

struct PortOptions {
  PortType type = PortType::kSink;
  std::string path;
  std::string input;
  bool use_stdin = false;
  std::string name;

  static constexpr auto Describe() {
    return Fields(
        Field("type", &PortOptions::type, "where output goes"),
        Field("path", &PortOptions::path, "the file or socket of type=file or unix"),
        Field("input", &PortOptions::input, "a file or FIFO that input comes from"),
        Field("stdin", &PortOptions::use_stdin, "input comes from standard input"),
        Field("name", &PortOptions::name, "the port's name in the guest (several ports)"));
  }
};

}  // namespace crosvm::devices::console
