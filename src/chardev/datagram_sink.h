// A sink that sends each line as one datagram to a Unix socket: log collectors, and syslog. Nothing
// here waits for the receiver: lines queue up while it is away (the newest are dropped once the
// queue is full) and go out when it is back. A jailed process, which can connect to nothing, has a
// socket that was connected for it; when its receiver is gone, so are the lines.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "chardev/char_sink.h"
#include "event/event_loop.h"
#include "sys/fd.h"

namespace crosvm::chardev {

struct DatagramOptions {
  std::string path;    // of the receiver's socket; may not exist yet; may be longer than sun_path
  std::string prefix;  // in front of each line; "%T" becomes the time as syslog wants it
  bool keep_newline = true;
  std::string name;  // for messages: "serial 1"
};

inline constexpr const char* kSyslogPath = "/dev/log";
// What syslog(3) would send with facility user and severity info.
DatagramOptions SyslogDatagram(std::string tag, std::string name);

class DatagramSink : public CharSink {
 public:
  static constexpr size_t kMaxLineBytes = 1024;
  static constexpr size_t kMaxQueuedLines = 64;
  static constexpr std::chrono::milliseconds kRetryInterval{100};

  // Opens the folder of `path` (kNotFound when there is none) so that the socket is found later
  // whatever becomes of the working directory.
  static Result<std::unique_ptr<DatagramSink>> Create(event::EventLoop& loop,
                                                      DatagramOptions options);
  // Over a socket that is connected; the path is for messages only.
  static std::unique_ptr<DatagramSink> Over(event::EventLoop& loop, sys::UniqueFd connected,
                                            DatagramOptions options);
  ~DatagramSink() override;

  // Always takes everything.
  size_t Write(std::span<const uint8_t> data) override;
  void OnRoom(std::function<void()>) override {}
  // An unfinished line goes out as it is.
  void Finish(std::chrono::milliseconds timeout) override;

 private:
  struct State;
  explicit DatagramSink(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace crosvm::chardev
