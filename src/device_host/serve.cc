#include "device_host/serve.h"

#include "base/log.h"
#include "sys/file.h"

namespace crosvm::device_host {

DeviceServer::DeviceServer(event::EventLoop& loop, std::unique_ptr<virtio::Device> device)
    : loop_(loop), device_(std::move(device)) {
}

DeviceServer::~DeviceServer() = default;

Result<std::unique_ptr<DeviceServer>> DeviceServer::Create(event::EventLoop& loop,
                                                           std::unique_ptr<virtio::Device> device,
                                                           sys::UnixSocket vhost_user,
                                                           sys::UnixSocket control) {
  std::unique_ptr<DeviceServer> self(new DeviceServer(loop, std::move(device)));
  DeviceServer* const raw = self.get();
  // With a control channel it is driven by our own VMM, which seals guest memory, and starts a
  // successor where it has given this one up. A foreign front-end does neither.
  self->server_ = TRY(vhost_user::BackendServer::Create(
      loop, *self->device_, std::move(vhost_user),
      {.require_seals = control.valid(), .reset_at_end = !control.valid()}, [raw](Error why) {
        if (why.kind() != ErrorKind::kDisconnected) raw->status_ = std::unexpected(std::move(why));
        raw->loop_.Stop();
      }));
  if (control.valid()) {
    TRY(sys::SetNonBlocking(control.fd(), true));
    self->control_ = DeviceControlChannel(std::move(control));
    self->control_watch_ = TRY(loop.AddWatch(self->control_.fd(), event::Interest::kRead,
                                             [raw](event::Ready) { raw->OnControl(); }));
  }
  return self;
}

void DeviceServer::Close(Error why) {
  control_watch_.Reset();
  server_->Close(std::move(why));
}

std::unique_ptr<virtio::Device> DeviceServer::TakeDevice() && {
  server_.reset();
  return std::move(device_);
}

void DeviceServer::OnControl() {
  Result<codec::Incoming<devices::ControlRequest>> request = control_.Receive();
  if (!request.has_value()) {
    if (request.error().kind() == ErrorKind::kBusy) return;
    // The VMM holds the other end for as long as it wants this device.
    Close(std::move(request).error());
    return;
  }
  devices::ControlReply reply;
  if (!std::holds_alternative<devices::Ping>(request->message)) {
    auto* const controllable = dynamic_cast<devices::Controllable*>(device_.get());
    const Status handled =
        controllable != nullptr
            ? controllable->HandleQuery(request->message, reply)
            : Status(Fail(ErrorKind::kUnsupported, "this device takes no control messages"));
    if (!handled.has_value()) reply.error = handled.error().ToString();
  }
  const Status sent = control_.Send(reply);
  if (!sent.has_value()) LOG_DEBUG("control reply: {}", sent.error().ToString());
}

}  // namespace crosvm::device_host
