/* Stops a VM for a moment:  crosvm_control_example /tmp/vm.sock */
#include <stdio.h>

#include "crosvm_control.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
    return 2;
  }
  if (!crosvm_client_suspend_vm(argv[1]) || !crosvm_client_resume_vm(argv[1])) {
    fprintf(stderr, "%s: %s\n", argv[1], crosvm_client_last_error());
    return 1;
  }
  puts("stopped and going on");
  return 0;
}
