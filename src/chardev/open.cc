#include "chardev/open.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "chardev/datagram_sink.h"
#include "chardev/fd_sink.h"
#include "chardev/fd_source.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::chardev {
namespace {

Status CheckOptions(const CharOptions& options) {
  const bool needs_path = options.type == CharType::kFile ||
                          options.type == CharType::kUnixDatagram ||
                          options.type == CharType::kUnixStream;
  if (needs_path && options.path.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{}: this type needs path=", options.name);
  }
  if (options.use_stdin && !options.input_path.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{}: give either stdin or input, not both",
                options.name);
  }
  if (options.type == CharType::kUnixStream && (options.use_stdin || !options.input_path.empty())) {
    return Fail(ErrorKind::kInvalidArgument,
                "{}: a stream socket is the input as well; leave out stdin and input",
                options.name);
  }
  return {};
}

Result<sys::UniqueFd> OpenInput(const std::string& path) {
  // Non-blocking, or opening a FIFO would wait for its writer.
  sys::UniqueFd input = TRY(sys::Open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK));
  const struct stat status = TRY(sys::Stat(input));
  if (!S_ISFIFO(status.st_mode)) return input;
  // A FIFO is at its end whenever nobody has it open for writing. Being a writer ourselves, we wait
  // for the next one.
  return sys::Open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
}

}  // namespace

Result<CharFiles> OpenCharFiles(const CharOptions& options) {
  TRY(CheckOptions(options));
  CharFiles files;
  files.type = options.type;
  files.path = options.path;
  files.name = options.name;
  switch (options.type) {
    case CharType::kFile:
      files.output =
          TRY_CONTEXT(sys::Open(options.path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0644), "{}",
                      options.name);
      break;
    case CharType::kStdout:
      files.output = TRY_CONTEXT(sys::BorrowedFd(STDOUT_FILENO).Dup(), "{}", options.name);
      break;
    case CharType::kUnixStream: {
      sys::UnixSocket socket = TRY_CONTEXT(
          sys::UnixSocket::Connect(options.path, sys::SocketType::kStream), "{}", options.name);
      files.output = socket.TakeFd();
      files.input = TRY(files.output.Dup());
      break;
    }
    case CharType::kSyslog:
    case CharType::kUnixDatagram:
      if (options.connect) {
        sys::UnixSocket socket = TRY_CONTEXT(
            sys::UnixSocket::Connect(options.type == CharType::kSyslog ? kSyslogPath : options.path,
                                     sys::SocketType::kDatagram),
            "{}", options.name);
        files.output = socket.TakeFd();
      }
      break;
    case CharType::kSink:
      break;
  }
  if (options.use_stdin) {
    files.input = TRY_CONTEXT(sys::BorrowedFd(STDIN_FILENO).Dup(), "{}", options.name);
  } else if (!options.input_path.empty()) {
    files.input = TRY_CONTEXT(OpenInput(options.input_path), "{}", options.name);
  }
  return files;
}

Result<CharStreams> MakeCharStreams(event::EventLoop& loop, CharFiles files) {
  CharStreams streams;
  switch (files.type) {
    case CharType::kFile:
    case CharType::kStdout:
    case CharType::kUnixStream:
      streams.sink = TRY(FdSink::Create(loop, std::move(files.output), files.name));
      break;
    case CharType::kSyslog:
    case CharType::kUnixDatagram: {
      DatagramOptions datagrams = files.type == CharType::kSyslog
                                      ? SyslogDatagram("crosvm", files.name)
                                      : DatagramOptions{.path = files.path, .name = files.name};
      if (files.output.valid()) {
        streams.sink = DatagramSink::Over(loop, std::move(files.output), std::move(datagrams));
      } else {
        streams.sink = TRY(DatagramSink::Create(loop, std::move(datagrams)));
      }
      break;
    }
    case CharType::kSink:
      streams.sink = std::make_unique<NullSink>();
      break;
  }
  if (files.input.valid()) {
    streams.source = TRY(FdSource::Create(loop, std::move(files.input), files.name));
  }
  return streams;
}

}  // namespace crosvm::chardev
