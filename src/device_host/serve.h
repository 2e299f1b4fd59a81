// Runs one device on a loop: the vhost-user server, and the control channel beside it. The same
// code in a jailed process, in a thread of the VMM and stand-alone.
#pragma once

#include <memory>

#include "base/result.h"
#include "codec/channel.h"
#include "devices/module/control.h"
#include "devices/module/module.h"
#include "event/event_loop.h"
#include "sys/socket.h"
#include "vhost_user/backend_server.h"

namespace crosvm::device_host {

using DeviceControlChannel = codec::Channel<devices::ControlReply, devices::ControlRequest>;

// Owns a device and its sockets. Lives on the loop's thread.
class DeviceServer {
 public:
  // `control` may be invalid (stand-alone). When the front-end closes or breaks the protocol, or
  // the control channel closes, the device finishes the requests that it has, and the loop is
  // stopped.
  static Result<std::unique_ptr<DeviceServer>> Create(event::EventLoop& loop,
                                                      std::unique_ptr<virtio::Device> device,
                                                      sys::UnixSocket vhost_user,
                                                      sys::UnixSocket control);
  ~DeviceServer();

  // Ends the service from this side in the same way.
  void Close(Error why);

  const virtio::Device& device() const { return *device_; }
  // Why the server has ended, once the loop has stopped.
  const Status& status() const { return status_; }
  std::unique_ptr<virtio::Device> TakeDevice() &&;

 private:
  DeviceServer(event::EventLoop& loop, std::unique_ptr<virtio::Device> device);
  void OnControl();

  event::EventLoop& loop_;
  std::unique_ptr<virtio::Device> device_;
  std::unique_ptr<vhost_user::BackendServer> server_;
  DeviceControlChannel control_;
  event::Watch control_watch_;
  Status status_;
};

}  // namespace crosvm::device_host
