// For tests: something done on one thread just as another is about to make a system call, as two
// requests may fall.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <functional>
#include <future>
#include <thread>

#include "base/check.h"
#include "sys/fd.h"

namespace crosvm::shared_dir::testing {

// Runs `work` on a thread of its own. Before its first system call of that number it waits until
// `meanwhile` was run here.
inline void RunUpToCall(int call, const std::function<void()>& work,
                        const std::function<void()>& meanwhile) {
  std::promise<int> listener;
  std::thread worker([&] {
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = std::size(filter), .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    const long fd =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    CHECK(fd >= 0);
    listener.set_value(static_cast<int>(fd));
    work();
  });
  const sys::UniqueFd calls(listener.get_future().get());
  bool first = true;
  while (true) {
    pollfd waiting{.fd = calls.get(), .events = POLLIN, .revents = 0};
    CHECK(sys::RetryEintr([&] { return poll(&waiting, 1, -1); }) == 1);
    if ((waiting.revents & POLLIN) == 0) break;  // the thread has ended
    seccomp_notif stopped{};
    CHECK(ioctl(calls.get(), SECCOMP_IOCTL_NOTIF_RECV, &stopped) == 0);
    if (std::exchange(first, false)) meanwhile();
    seccomp_notif_resp goes_on{};
    goes_on.id = stopped.id;
    goes_on.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    CHECK(ioctl(calls.get(), SECCOMP_IOCTL_NOTIF_SEND, &goes_on) == 0);
  }
  CHECK(!first);
  worker.join();
}

}  // namespace crosvm::shared_dir::testing
