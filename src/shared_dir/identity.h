// Who does what in a shared directory: the guest's user and group for what it creates, and the maps
// between the guest's numbers and the host's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jail/spawn.h"

namespace crosvm::shared_dir {

// "INSIDE OUTSIDE COUNT[,INSIDE OUTSIDE COUNT…]": the lines of a user namespace's map
// (user_namespaces(7)). Inside 0 must be in it: it is what the device process runs as. At most 340
// lines, which do not overlap.
Result<std::vector<jail::IdMap>> ParseIdMap(std::string_view text);
// What holds when no map was given. Root: every id that this process has itself, unchanged. An
// ordinary user: the guest's root is the caller, and there is nobody else.
Result<std::vector<jail::IdMap>> DefaultUserMap();
Result<std::vector<jail::IdMap>> DefaultGroupMap();

// The user of a guest on whose behalf something is created.
struct Caller {
  uid_t user = 0;
  gid_t group = 0;
  mode_t umask = 0;  // applied by the host, which knows of default ACLs
};

// A thread that works on a share calls this first, once, with jail::OpenSelfFds(): it gets a
// working directory and an umask of its own (the thread's, from then on), and the working directory
// is /proc/self/fd, where extended attributes need it. Before the seccomp filter.
Status EnterWorkerThread(sys::BorrowedFd self_fds);

// For the life of the object the calling thread creates files as the caller. Ids that do not exist
// on the host side (not mapped, or no right to change) are left as they are: the file then belongs
// to whom the device process runs as. Capabilities stay.
class ScopedCaller {
 public:
  explicit ScopedCaller(const Caller& caller);
  ~ScopedCaller();
  ScopedCaller(const ScopedCaller&) = delete;
  ScopedCaller& operator=(const ScopedCaller&) = delete;

 private:
  uid_t user_back_ = 0;
  gid_t group_back_ = 0;
  bool user_changed_ = false;
  bool group_changed_ = false;
};

// Whether the calling thread's writes, truncations, new files and lists of access rights keep the
// set-user-id and set-group-id bits (CAP_FSETID). Holds until the next call, so that whatever may
// clear such bits says it first. A run of equal calls costs nothing.
void KeepSetIdBits(bool keep);

}  // namespace crosvm::shared_dir
