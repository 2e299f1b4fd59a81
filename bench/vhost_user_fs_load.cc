// A load generator for vhost-user-fs back-ends, ours or foreign: a number of clients, each of which
// has one FUSE request in flight, as as many processes of a guest would. Prints {"ops": …,
// "bandwidth": …}, a second.
//
//   vhost_user_fs_load --socket PATH --work metadata|randread|randwrite|read|write --clients N
//   --seconds S
//
// metadata: each client in turn looks up a name that is not there, creates the file, writes 4 KiB,
// closes, looks it up, asks for attributes, opens, reads, closes, renames, deletes and forgets it.
// The others: on one file of 64 MiB, 4 KiB at random places or 1 MiB after another.
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <poll.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/checked_math.h"
#include "base/endian.h"
#include "event/event_loop.h"
#include "memory/guest_memory.h"
#include "sys/event_fd.h"
#include "sys/socket.h"
#include "vhost_user/frontend.h"
#include "virtio/types.h"

namespace {

using namespace crosvm;
using memory::GuestAddr;
using Clock = std::chrono::steady_clock;

constexpr uint16_t kRingSize = 128;
constexpr uint64_t kAvail = 0x2000;
constexpr uint64_t kUsed = 0x3000;
constexpr uint64_t kBuffers = 0x100000;
constexpr uint32_t kMost = 1 << 20;
constexpr uint64_t kBufferBytes = 2 * (kMost + 0x10000);  // of a client: its request, its answer
constexpr uint64_t kFileBytes = 64 << 20;
constexpr int kStallMs = 20000;

enum class Work { kMetadata, kRandRead, kRandWrite, kRead, kWrite };

struct Options {
  std::string socket;
  Work work = Work::kMetadata;
  uint16_t clients = 4;
  unsigned seconds = 5;
};

struct Descriptor {
  Le64 address;
  Le32 length;
  Le16 flags;
  Le16 next;
};

template <typename T>
std::string Bytes(const T& value) {
  // SAFETY: a wire struct as bytes.
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// One process of the guest.
struct Client {
  uint16_t slot = 0;
  int step = 0;
  uint64_t round = 0;
  uint64_t node = 0;
  uint64_t handle = 0;
};

class Load {
 public:
  Load(const Options& options, memory::GuestMemory memory)
      : options_(options), memory_(std::move(memory)), clients_(options.clients) {
    for (uint16_t i = 0; i < options.clients; ++i) clients_[i].slot = i;
  }

  static constexpr virtio::RingAddresses kAddresses{
      .descriptors = GuestAddr(0), .driver = GuestAddr(kAvail), .device = GuestAddr(kUsed)};
  sys::EventFd kick = *sys::EventFd::Create();
  sys::EventFd call = *sys::EventFd::Create();

  bool Run() {
    if (!SetUp()) return false;
    const Clock::time_point start = Clock::now();
    const Clock::time_point end = start + std::chrono::seconds(options_.seconds);
    for (Client& client : clients_) Next(client);
    AskForInterrupt();
    Publish();
    while (Clock::now() < end) {
      if (!Wait()) return false;
      do {
        if (!Harvest(true)) return false;
        AskForInterrupt();
      } while (UsedIndex() != used_);
    }
    const std::chrono::duration<double> took = Clock::now() - start;
    const double ops = static_cast<double>(done_) / took.count();
    const bool large = options_.work == Work::kRead || options_.work == Work::kWrite;
    printf("{\"ops\": %.1f, \"bandwidth\": %.1f}\n", ops, ops * (large ? kMost : 4096));
    while (used_ != avail_) {
      if (!Wait() || !Harvest(false)) return false;
      AskForInterrupt();
    }
    return true;
  }

 private:
  uint64_t InAddress(uint16_t slot) const { return kBuffers + slot * kBufferBytes; }
  uint64_t OutAddress(uint16_t slot) const { return InAddress(slot) + kBufferBytes / 2; }

  void Submit(uint16_t slot, uint32_t opcode, uint64_t node, const std::string& arguments,
              uint32_t data = 0, uint32_t room = 4096) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof(header) + arguments.size()) + data;
    header.opcode = opcode;
    header.unique = ++unique_ * 2;
    header.nodeid = node;
    const std::string message = Bytes(header) + arguments;
    // SAFETY: bytes as bytes.
    (void)memory_.WriteBytes(GuestAddr(InAddress(slot)),
                             {reinterpret_cast<const uint8_t*>(message.data()), message.size()});
    // Header, arguments and data apart, and the answer's header and data, as Linux' driver has it.
    const auto first = static_cast<uint16_t>(slot * 4);
    const bool answered = room > 0;
    const auto describe = [&](int index, uint64_t address, uint64_t length, bool write, bool more) {
      const int flags = (write ? VRING_DESC_F_WRITE : 0) | (more ? VRING_DESC_F_NEXT : 0);
      (void)memory_.Write(GuestAddr(16 * static_cast<uint64_t>(first + index)),
                          Descriptor{Le64(address), Le32(static_cast<uint32_t>(length)),
                                     Le16(static_cast<uint16_t>(flags)),
                                     Le16(static_cast<uint16_t>(first + index + 1))});
    };
    const bool second = !arguments.empty() || data > 0;
    int used = 0;
    describe(used++, InAddress(slot), sizeof(header), false, second || answered);
    if (second) {
      describe(used++, InAddress(slot) + sizeof(header), arguments.size() + data, false, answered);
    }
    if (answered) {
      describe(used++, OutAddress(slot), sizeof(fuse_out_header), true, room > 16);
      if (room > 16) describe(used, OutAddress(slot) + 16, room - 16, true, false);
    }
    (void)memory_.Write(GuestAddr(kAvail + 4 + uint64_t{2} * (avail_ % kRingSize)), Le16(first));
    ++avail_;
  }

  template <typename T>
  T Answer(uint16_t slot, uint64_t offset = 0) const {
    return *memory_.Read<T>(GuestAddr(OutAddress(slot) + sizeof(fuse_out_header) + offset));
  }
  int Error(uint16_t slot) const {
    return -memory_.Read<fuse_out_header>(GuestAddr(OutAddress(slot)))->error;
  }

  // One request, waited for.
  bool Call(uint32_t opcode, uint64_t node, const std::string& arguments, uint32_t data = 0) {
    Submit(0, opcode, node, arguments, data);
    Publish();
    while (UsedIndex() == used_) {
      AskForInterrupt();
      if (UsedIndex() == used_ && !Wait()) return false;
    }
    ++used_;
    if (Error(0) == 0) return true;
    fprintf(stderr, "request %u failed: %s\n", opcode, strerror(Error(0)));
    return false;
  }

  bool SetUp() {
    fuse_init_in init{};
    init.major = 7;
    init.minor = 36;
    init.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_MAX_PAGES |
                 FUSE_PARALLEL_DIROPS | FUSE_ATOMIC_O_TRUNC | FUSE_DONT_MASK;
    if (!Call(FUSE_INIT, 0, Bytes(init))) return false;
    if (options_.work == Work::kMetadata) return true;
    const fuse_create_in create{
        .flags = O_RDWR | O_CREAT, .mode = 0644, .umask = 0, .open_flags = 0};
    if (!Call(FUSE_CREATE, 1, Bytes(create) + std::string("data", 5))) return false;
    file_ = Answer<fuse_entry_out>(0).nodeid;
    const uint64_t handle = Answer<fuse_open_out>(0, sizeof(fuse_entry_out)).fh;
    for (uint64_t at = 0; at < kFileBytes; at += kMost) {
      fuse_write_in write{};
      write.fh = handle;
      write.offset = at;
      write.size = kMost;
      if (!Call(FUSE_WRITE, file_, Bytes(write), kMost)) return false;
    }
    for (Client& client : clients_) client.handle = handle;
    return true;
  }

  std::string Name(const Client& client, const char* prefix) const {
    const std::string name =
        prefix + std::to_string(client.slot) + "-" + std::to_string(client.round);
    return {name.c_str(), name.size() + 1};
  }

  void Next(Client& client) {
    if (options_.work == Work::kMetadata) {
      NextName(client);
    } else {
      NextData(client);
    }
  }

  void NextName(Client& client) {
    const uint16_t slot = client.slot;
    const std::string name = Name(client, "f");
    fuse_write_in write{};
    write.fh = client.handle;
    write.size = 4096;
    fuse_read_in read{};
    read.fh = client.handle;
    read.size = 4096;
    fuse_release_in release{};
    release.fh = client.handle;
    switch (client.step) {
      case 0:
      case 4:
        return Submit(slot, FUSE_LOOKUP, 1, name);
      case 1:
        return Submit(
            slot, FUSE_CREATE, 1,
            Bytes(fuse_create_in{
                .flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0644, .umask = 022, .open_flags = 0}) +
                name);
      case 2:
        return Submit(slot, FUSE_WRITE, client.node, Bytes(write), 4096);
      case 3:
      case 8:
        return Submit(slot, FUSE_RELEASE, client.node, Bytes(release));
      case 5:
        return Submit(slot, FUSE_GETATTR, client.node, Bytes(fuse_getattr_in{}));
      case 6:
        return Submit(slot, FUSE_OPEN, client.node,
                      Bytes(fuse_open_in{.flags = O_RDONLY, .open_flags = 0}));
      case 7:
        return Submit(slot, FUSE_READ, client.node, Bytes(read), 0, 4096 + 16);
      case 9:
        return Submit(slot, FUSE_RENAME, 1,
                      Bytes(fuse_rename_in{.newdir = 1}) + name + Name(client, "g"));
      case 10:
        return Submit(slot, FUSE_UNLINK, 1, Name(client, "g"));
      default:
        return Submit(slot, FUSE_FORGET, client.node, Bytes(fuse_forget_in{.nlookup = 2}), 0, 0);
    }
  }

  void NextData(Client& client) {
    const bool large = options_.work == Work::kRead || options_.work == Work::kWrite;
    const uint32_t size = large ? kMost : 4096;
    const uint64_t blocks = kFileBytes / size;
    const uint64_t at = (large ? next_block_++ : random_()) % blocks * size;
    if (options_.work == Work::kRead || options_.work == Work::kRandRead) {
      fuse_read_in in{};
      in.fh = client.handle;
      in.offset = at;
      in.size = size;
      return Submit(client.slot, FUSE_READ, file_, Bytes(in), 0, size + 16);
    }
    fuse_write_in in{};
    in.fh = client.handle;
    in.offset = at;
    in.size = size;
    Submit(client.slot, FUSE_WRITE, file_, Bytes(in), size);
  }

  // What an answer means for its client. False: it is not as it should be.
  bool Take(Client& client) {
    if (options_.work != Work::kMetadata) return Error(client.slot) == 0;
    const bool forget = client.step == 11;
    if (!forget && Error(client.slot) != (client.step == 0 ? ENOENT : 0)) return false;
    if (client.step == 1) {
      client.node = Answer<fuse_entry_out>(client.slot).nodeid;
      client.handle = Answer<fuse_open_out>(client.slot, sizeof(fuse_entry_out)).fh;
    }
    if (client.step == 6) client.handle = Answer<fuse_open_out>(client.slot).fh;
    if (++client.step > 11) {
      client.step = 0;
      ++client.round;
    }
    return true;
  }

  void Publish() {
    // ORDERING: release, the ring entries before; then the device's wish after a full fence.
    memory_.Cell<uint16_t>(GuestAddr(kAvail + 2))->StoreRelease(avail_);
    memory::FullFence();
    const uint16_t event =
        memory_.Cell<uint16_t>(GuestAddr(kUsed + 4 + 8 * kRingSize))->LoadRelaxed();
    const bool wanted =
        static_cast<uint16_t>(avail_ - event - 1) < static_cast<uint16_t>(avail_ - published_);
    published_ = avail_;
    if (wanted) kick.Signal();
  }
  uint16_t UsedIndex() { return memory_.Cell<uint16_t>(GuestAddr(kUsed + 2))->LoadAcquire(); }
  void AskForInterrupt() {
    memory_.Cell<uint16_t>(GuestAddr(kAvail + 4 + 2 * kRingSize))->StoreRelaxed(used_);
    memory::FullFence();
  }
  bool Harvest(bool go_on) {
    for (const uint16_t end = UsedIndex(); used_ != end; ++used_) {
      const auto id = memory_.Read<Le32>(GuestAddr(kUsed + 4 + uint64_t{8} * (used_ % kRingSize)));
      const uint32_t slot = id->value() / 4;
      if (slot >= clients_.size() || !Take(clients_[slot])) {
        fprintf(stderr, "request of client %u, step %d: %s\n", slot, clients_[slot].step,
                strerror(Error(static_cast<uint16_t>(slot))));
        return false;
      }
      ++done_;
      if (go_on) Next(clients_[slot]);
    }
    if (avail_ != published_) Publish();
    return true;
  }
  bool Wait() {
    pollfd wait{.fd = call.fd().get(), .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, kStallMs) <= 0) {
      fprintf(stderr, "no interrupt for %d ms\n", kStallMs);
      return false;
    }
    call.Drain();
    return true;
  }

  const Options options_;
  const memory::GuestMemory memory_;
  std::vector<Client> clients_;
  std::mt19937_64 random_{1};
  uint64_t next_block_ = 0;
  uint64_t unique_ = 0;
  uint64_t file_ = 0;
  uint16_t avail_ = 0;
  uint16_t published_ = 0;
  uint16_t used_ = 0;
  uint64_t done_ = 0;
};

template <typename T>
bool ParseNumber(const std::string& text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out != 0;
}

std::optional<Options> Parse(int argc, char** argv) {
  constexpr std::array<const char*, 5> kWorks = {"metadata", "randread", "randwrite", "read",
                                                 "write"};
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    bool good = true;
    if (name == "--socket") {
      options.socket = value;
    } else if (name == "--work") {
      const auto found = std::find(kWorks.begin(), kWorks.end(), value);
      good = found != kWorks.end();
      options.work = static_cast<Work>(found - kWorks.begin());
    } else if (name == "--clients") {
      good = ParseNumber(value, options.clients) && options.clients <= kRingSize / 4;
    } else {
      good = name == "--seconds" && ParseNumber(value, options.seconds);
    }
    if (!good) return std::nullopt;
  }
  if (options.socket.empty() || argc % 2 == 0) return std::nullopt;
  return options;
}

Result<bool> Measure(const Options& options) {
  const std::unique_ptr<event::EventLoop> loop = TRY(event::EventLoop::Create());
  sys::UnixSocket socket = TRY(sys::UnixSocket::Connect(options.socket, sys::SocketType::kStream));
  vhost_user::FrontendOptions front;
  front.name = options.socket;
  front.info = {.device_id = VIRTIO_ID_FS,
                .queue_sizes = {kRingSize, kRingSize},
                .config_size = sizeof(virtio_fs_config)};
  const std::unique_ptr<vhost_user::Frontend> frontend =
      TRY(vhost_user::Frontend::Connect(*loop, std::move(socket), std::move(front)));
  const uint64_t size = kBuffers + options.clients * kBufferBytes;
  const memory::RegionLayout layout[] = {{GuestAddr(0), *AlignUp<uint64_t>(size, 2 << 20)}};
  const memory::GuestMemory memory = TRY(memory::GuestMemory::Create(layout));
  Load load(options, memory);
  const virtio::QueueActivation queue{.index = 1,
                                      .size = kRingSize,
                                      .addresses = Load::kAddresses,
                                      .position = {},
                                      .kick = &load.kick,
                                      .call = &load.call};
  const uint64_t features =
      virtio::FeatureBit(VIRTIO_F_VERSION_1) | virtio::FeatureBit(VIRTIO_RING_F_EVENT_IDX);
  TRY(frontend->Activate(memory, features & frontend->info().features, {&queue, 1}));
  const bool good = load.Run();
  TRY(frontend->Deactivate());
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = Parse(argc, argv);
  if (!options) {
    fprintf(stderr,
            "usage: %s --socket PATH --work metadata|randread|randwrite|read|write --clients N"
            " --seconds S\n",
            argv[0]);
    return 2;
  }
  const Result<bool> good = Measure(*options);
  if (!good.has_value()) {
    fprintf(stderr, "%s\n", good.error().ToString().c_str());
    return 1;
  }
  return *good ? 0 : 1;
}
