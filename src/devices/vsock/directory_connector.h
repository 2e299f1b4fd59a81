// The host's ports as Unix sockets: port P is the socket `P` in one directory.
#pragma once

#include <string>

#include "devices/vsock/connector.h"

namespace crosvm::devices::vsock {

class DirectoryConnector final : public Connector {
 public:
  // In the jail the directory is the root, and nothing else can be named. In a thread of the VMM,
  // or where the host refused that layer, it is reached through its descriptor.
  static Result<DirectoryConnector> Create(sys::UniqueFd directory);

  Result<sys::UniqueFd> Connect(uint32_t port) override;

 private:
  DirectoryConnector(sys::UniqueFd directory, std::string prefix)
      : directory_(std::move(directory)), prefix_(std::move(prefix)) {}

  sys::UniqueFd directory_;
  std::string prefix_;
};

}  // namespace crosvm::devices::vsock
