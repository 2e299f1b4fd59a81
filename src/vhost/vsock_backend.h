// vhost-vsock: the guest's virtual sockets through the host kernel's AF_VSOCK.
#pragma once

#include "vhost/kernel_backend.h"

namespace crosvm::vhost {

class VsockBackend final : public KernelBackend {
 public:
  // Takes the context id on the host. kBusy when another VM has it.
  static Result<std::unique_ptr<VsockBackend>> Create(std::string name,
                                                      std::unique_ptr<VhostFile> file,
                                                      uint64_t cid);
  ~VsockBackend() override;

 private:
  using KernelBackend::KernelBackend;
  Status StartData(uint64_t features) override;
  Status StopData() override;
};

}  // namespace crosvm::vhost
