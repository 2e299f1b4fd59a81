// The store of open files without a name is shared_dir's; the name is used throughout this folder.
#pragma once

#include "shared_dir/unnamed_store.h"

namespace crosvm::devices::fs {

using shared_dir::UnnamedStore;

}  // namespace crosvm::devices::fs
