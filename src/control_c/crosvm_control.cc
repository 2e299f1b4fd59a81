// The C face of control::Client.
#include "control_c/crosvm_control.h"

#include <chrono>
#include <string>

#include "control/client.h"

namespace control = crosvm::control;
using crosvm::ErrorKind;
using crosvm::Fail;
using crosvm::Result;

namespace {

constexpr std::chrono::seconds kTimeout(10);
thread_local std::string last_error;

bool Failed(std::string why) {
  last_error = std::move(why);
  return false;
}

// The answer to a request, or the reason that there is none.
Result<control::Response> Call(const char* socket_path, const control::Request& request) {
  if (socket_path == nullptr) return Fail(ErrorKind::kInvalidArgument, "no socket is named");
  control::Client client = TRY(control::Client::Connect(socket_path));
  control::Response response = TRY(client.Call(request, kTimeout));
  TRY(control::ToStatus(response));
  return response;
}

bool Send(const char* socket_path, const control::Request& request) {
  const Result<control::Response> response = Call(socket_path, request);
  return response.has_value() || Failed(response.error().ToString());
}

int64_t OrAbsent(const std::optional<uint64_t>& value) {
  return value && *value <= INT64_MAX ? static_cast<int64_t>(*value) : -1;
}

}  // namespace

bool crosvm_client_stop_vm(const char* socket_path) {
  return Send(socket_path, control::Exit{});
}

bool crosvm_client_suspend_vm(const char* socket_path) {
  return Send(socket_path, control::Suspend{});
}

bool crosvm_client_resume_vm(const char* socket_path) {
  return Send(socket_path, control::Resume{});
}

bool crosvm_client_powerbtn_vm(const char* socket_path) {
  return Send(socket_path, control::Powerbtn{});
}

bool crosvm_client_resize_disk(const char* socket_path, uint64_t disk_index, uint64_t new_size) {
  return Send(socket_path, control::DiskCommand{disk_index, control::DiskResize{new_size}});
}

bool crosvm_client_balloon_vms(const char* socket_path, uint64_t num_bytes) {
  return Send(socket_path, control::BalloonCommand{control::BalloonAdjust{num_bytes}});
}

bool crosvm_client_balloon_stats(const char* socket_path, struct crosvm_balloon_stats* stats,
                                 uint64_t* actual) {
  const Result<control::Response> response =
      Call(socket_path, control::BalloonCommand{control::BalloonQuery{}});
  if (!response.has_value()) return Failed(response.error().ToString());
  const auto* const report = std::get_if<control::BalloonReport>(&*response);
  if (report == nullptr) return Failed("the VM's answer has no statistics");
  if (actual != nullptr) *actual = report->balloon_actual;
  if (stats == nullptr) return true;
  const control::BalloonStats& from = report->stats;
  *stats = {.swap_in = OrAbsent(from.swap_in),
            .swap_out = OrAbsent(from.swap_out),
            .major_faults = OrAbsent(from.major_faults),
            .minor_faults = OrAbsent(from.minor_faults),
            .free_memory = OrAbsent(from.free_memory),
            .total_memory = OrAbsent(from.total_memory),
            .available_memory = OrAbsent(from.available_memory),
            .disk_caches = OrAbsent(from.disk_caches),
            .hugetlb_allocations = OrAbsent(from.hugetlb_allocations),
            .hugetlb_failures = OrAbsent(from.hugetlb_failures)};
  return true;
}

const char* crosvm_client_last_error(void) {
  return last_error.c_str();
}
