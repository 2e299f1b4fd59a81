/*
 * libcrosvm_control: commands for running VMs over their control socket (`crosvm run --socket
 * PATH`), for programs in C and whatever calls C. See example.c.
 *
 * Every function connects anew, sends one request and waits for its answer, at most ten seconds.
 * Safe from every thread. `socket_path` ends with NUL. False (or -1) means that it did not happen;
 * crosvm_client_last_error() says why.
 */
#ifndef CROSVM_CONTROL_H_
#define CROSVM_CONTROL_H_

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CROSVM_CONTROL_EXPORT __attribute__((visibility("default")))

/* Ends the VM at once; the guest is not asked. */
CROSVM_CONTROL_EXPORT bool crosvm_client_stop_vm(const char* socket_path);
/* Stops the virtual processors, until crosvm_client_resume_vm(). */
CROSVM_CONTROL_EXPORT bool crosvm_client_suspend_vm(const char* socket_path);
CROSVM_CONTROL_EXPORT bool crosvm_client_resume_vm(const char* socket_path);
/* Presses the power button: the guest shuts down if it wants to. */
CROSVM_CONTROL_EXPORT bool crosvm_client_powerbtn_vm(const char* socket_path);
/* Gives a disk (counted from 0 in the order of the command line) a new size in bytes. */
CROSVM_CONTROL_EXPORT bool crosvm_client_resize_disk(const char* socket_path, uint64_t disk_index,
                                                     uint64_t new_size);
/* Takes that many bytes of memory from the guest. Fails for a VM without a balloon. */
CROSVM_CONTROL_EXPORT bool crosvm_client_balloon_vms(const char* socket_path, uint64_t num_bytes);

/* What the guest says of its memory; -1: it does not. */
struct crosvm_balloon_stats {
  int64_t swap_in;
  int64_t swap_out;
  int64_t major_faults;
  int64_t minor_faults;
  int64_t free_memory;
  int64_t total_memory;
  int64_t available_memory;
  int64_t disk_caches;
  int64_t hugetlb_allocations;
  int64_t hugetlb_failures;
};
/* `actual`: the balloon's size in bytes. Either may be NULL. */
CROSVM_CONTROL_EXPORT bool crosvm_client_balloon_stats(const char* socket_path,
                                                       struct crosvm_balloon_stats* stats,
                                                       uint64_t* actual);

/* The reason of the calling thread's last failure, "" before one. Valid until its next call. */
CROSVM_CONTROL_EXPORT const char* crosvm_client_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* CROSVM_CONTROL_H_ */
