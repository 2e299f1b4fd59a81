#include "event/async_file.h"

#include "base/log.h"
#include "event/pool_file.h"
#include "event/uring_file.h"

namespace crosvm::event {

Result<std::unique_ptr<AsyncFile>> OpenAsyncFile(EventLoop& loop, sys::UniqueFd file,
                                                 const AsyncFileOptions& options) {
  if (options.engine != IoEngine::kPool) {
    // The ring keeps the file by itself.
    auto uring = UringFile::Open(loop, file, options);
    if (uring.has_value() || options.engine == IoEngine::kUring) return uring;
    LOG_DEBUG("files go through threads: {}", uring.error().ToString());
  }
  return PoolFile::Open(loop, std::move(file), options);
}

}  // namespace crosvm::event
