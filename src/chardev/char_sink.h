// Where the characters of a serial port or a console go. Used by platform/ in the VMM and by the
// console device in its process; the implementations are FdSink (terminal, file, stream socket) and
// DatagramSink (unix datagrams, syslog).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace crosvm::chardev {

// Made and destroyed on the thread of its EventLoop.
class CharSink {
 public:
  virtual ~CharSink() = default;

  // Takes the first bytes of `data` and returns how many: all of them, unless what was taken before
  // has not gone out yet and fills the buffer. Never blocks. Any thread.
  virtual size_t Write(std::span<const uint8_t> data) = 0;
  // `callback` is called on the loop's thread, without locks, once there is room again after a
  // Write() that did not take everything. Set before the first Write().
  virtual void OnRoom(std::function<void()> callback) = 0;
  // Gets out what was taken, for at most `timeout`. For the end of the VM; on the loop's thread.
  virtual void Finish(std::chrono::milliseconds timeout) = 0;
};

// Swallows everything.
class NullSink : public CharSink {
 public:
  size_t Write(std::span<const uint8_t> data) override { return data.size(); }
  void OnRoom(std::function<void()>) override {}
  void Finish(std::chrono::milliseconds) override {}
};

}  // namespace crosvm::chardev
