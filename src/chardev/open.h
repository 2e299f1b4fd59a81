// The streams behind `--serial`: what each type opens. Opening (privileged, in the VMM) and using
// (maybe in a jailed device process) are apart, so that the second needs no file system.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "chardev/char_sink.h"
#include "chardev/char_source.h"
#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::chardev {

enum class CharType : uint8_t {
  kFile,
  kStdout,
  kSink,
  kSyslog,
  kUnixDatagram,  // `type=unix`: a datagram a line
  kUnixStream,    // both directions over one connected stream
};

struct CharOptions {
  CharType type = CharType::kSink;
  std::string path;        // kFile: created, appended to; kUnix*: the socket
  bool use_stdin = false;  // input from our standard input
  std::string input_path;  // input from a file or FIFO; not together with use_stdin
  std::string name;        // for messages and syslog: "serial 1"
  bool connect = false;    // now, for good: the streams are a process' that can connect to nothing
};

struct CharFiles {
  CharType type = CharType::kSink;
  std::string path;  // kUnixDatagram
  std::string name;
  sys::UniqueFd output;  // kFile, kStdout, kUnixStream; kSyslog and kUnixDatagram if connected
  sys::UniqueFd input;   // invalid: no input
};

// Opens what the options name. kInvalidArgument for a type without its path, or two inputs.
Result<CharFiles> OpenCharFiles(const CharOptions& options);

struct CharStreams {
  std::unique_ptr<CharSink> sink;      // never null
  std::unique_ptr<CharSource> source;  // null: no input
};

// On the loop's thread.
Result<CharStreams> MakeCharStreams(event::EventLoop& loop, CharFiles files);

}  // namespace crosvm::chardev
