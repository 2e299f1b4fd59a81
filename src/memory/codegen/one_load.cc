// Compiled to assembly by check_one_load.sh with each compiler, never linked. The guest's bytes are
// what the first argument points to, so each operand on that register is one load of guest memory.
#include "memory/guest_copy.h"

struct Header {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};

extern "C" {
int Handle0();
int Handle1();
int Handle2();
int Handle3();
int Handle4();
int Handle5();
}

static inline int Dispatch(const Header& header) {
  switch (header.type) {
    case 0:
      return Handle0();
    case 1:
      return Handle1() + 1;
    case 2:
      return Handle2() + 2;
    case 3:
      return Handle3() + 3;
    case 4:
      return Handle4() + 4;
    case 5:
      return Handle5() + 5;
    default:
      return -1;
  }
}

// As GuestMemory::Read<Header> with everything inlined, which is the worst case.
extern "C" int GuardedProbe(const uint8_t* guest) {
  Header header{};
  crosvm::memory::CopyFromGuest(&header, guest, sizeof(header));
  return Dispatch(header);
}

// The control: what happens without the barrier. g++ 12 loads twice, which shows that the check can
// see it.
extern "C" int NakedProbe(const uint8_t* guest) {
  Header header;
  __builtin_memcpy(&header, guest, sizeof(header));
  return Dispatch(header);
}
