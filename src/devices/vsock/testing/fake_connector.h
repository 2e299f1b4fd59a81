// The host's ports for tests: each connection's other end is kept.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "devices/vsock/connector.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace crosvm::devices::vsock::testing {

class FakeConnector final : public Connector {
 public:
  // The test's end; outlives the connector.
  struct Host {
    std::set<uint32_t> listening;
    int busy = 0;  // so many connections find the listener's queue full
    std::map<uint32_t, std::vector<sys::UnixSocket>> accepted;  // by port
    size_t asked = 0;
    bool nonblocking = true;  // our ends
  };
  explicit FakeConnector(Host& host) : host_(host) {}

  Result<sys::UniqueFd> Connect(uint32_t port) override {
    ++host_.asked;
    if (!host_.listening.contains(port)) return Fail(ErrorKind::kNotFound, "no port {}", port);
    if (host_.busy > 0) {
      --host_.busy;
      return Fail(ErrorKind::kBusy, "port {}", port);
    }
    auto [ours, theirs] = TRY(sys::UnixSocket::Pair(sys::SocketType::kStream));
    TRY(sys::SetNonBlocking(theirs.fd(), true));
    if (host_.nonblocking) TRY(sys::SetNonBlocking(ours.fd(), true));
    host_.accepted[port].push_back(std::move(ours));
    return theirs.TakeFd();
  }

 private:
  Host& host_;
};

}  // namespace crosvm::devices::vsock::testing
