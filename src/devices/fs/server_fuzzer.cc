// Sequences of FUSE requests of a hostile kernel. The input is a list of requests: a byte for the
// opcode, one for the node, one for the length of the arguments, one for the room of the answer,
// then the arguments.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "devices/fs/server.h"
#include "hypervisor/fake/fake_vm.h"
#include "jail/self_fds.h"
#include "memory/guest_memory.h"
#include "sys/file.h"
#include "sys/memfd.h"
#include "virtio/shared_memory.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint32_t kMaxOpen = 32;

constexpr uint64_t kWindow = 1U << 20;

// The VMM's end, without the way to it.
class Window final : public virtio::SharedMemoryMapper {
 public:
  explicit Window(hypervisor::Vm& vm)
      : memory_(*virtio::SharedMemory::Create(vm, "fuzz", {{.id = 0, .size = kWindow}})) {}
  Status Map(const virtio::SharedMemoryRange& range, sys::BorrowedFd file, uint64_t file_offset,
             bool writable) override {
    CHECK(range.region == 0 && range.offset + range.length <= kWindow);
    return memory_->Map(range, file, file_offset, writable);
  }
  Status Unmap(const virtio::SharedMemoryRange& range) override {
    CHECK(range.region == 0 && range.offset + range.length <= kWindow);
    return memory_->Unmap(range);
  }

 private:
  const std::shared_ptr<virtio::SharedMemory> memory_;
};

struct Target {
  std::string directory;
  memory::GuestMemory memory;
  hypervisor::FakeVm vm;
  std::shared_ptr<Window> window = std::make_shared<Window>(vm);
  std::unique_ptr<Server> server;
  Server::Worker worker;

  Target() {
    char path[] = "/tmp/crosvm-fs-fuzzer-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory = path;
    memory = *memory::GuestMemory::Create(
        std::vector<memory::RegionLayout>{{.start = memory::GuestAddr(0), .size = 1U << 20}});
    Make();
  }
  ~Target() {
    CHECK(chdir("/") == 0);
    const std::string command = "rm -rf " + directory;
    (void)!system(command.c_str());
  }
  void Make() {
    const sys::UniqueFd nodes = *shared_dir::Share::MakeState(256);
    const sys::UniqueFd session = *sys::CreateSealedMemfd("s", SessionState::Bytes(kMaxOpen));
    sys::UniqueFd self = *jail::OpenSelfFds();
    CHECK(shared_dir::EnterWorkerThread(self).has_value());
    auto share =
        *shared_dir::Share::Create(*sys::Open(directory, O_PATH | O_DIRECTORY), std::move(self),
                                   nodes, {.max_nodes = 256, .max_descriptors = 64});
    auto sockets = *shared_dir::UnnamedStore::MakeSockets();
    server =
        *Server::Create(std::move(share), session, std::move(sockets.first),
                        std::move(sockets.second), {.max_open = kMaxOpen, .dax_window = kWindow});
    server->SetWindow(window);
  }
};

void Run(Target& target, const uint8_t* data, size_t size) {
  static uint64_t unique = 0;
  for (int requests = 0; size >= 4 && requests < 64; ++requests) {
    fuse_in_header header{};
    header.opcode = data[0];
    // The nodes that a short run gets to know, and some that it does not.
    header.nodeid = data[1] % 80 + 1U;
    header.unique = ++unique;
    const size_t length = std::min<size_t>(size - 4, data[2]);
    const uint32_t room = data[3] * 64U;
    data += 4;
    size -= 4;
    std::vector<uint8_t> message(sizeof(header) + length);
    memcpy(message.data(), &header, sizeof(header));
    memcpy(message.data() + sizeof(header), data, length);
    // Large sizes are cut, so that the disk is not what is tested.
    if (header.opcode == FUSE_SETATTR || header.opcode == FUSE_FALLOCATE ||
        header.opcode == FUSE_WRITE) {
      for (size_t at = sizeof(header) + 10; at < message.size(); ++at) {
        if (at % 8 >= 2) message[at] = 0;
      }
    }
    // Pages, so that some are good.
    if (header.opcode == FUSE_SETUPMAPPING && message.size() >= sizeof(header) + 40) {
      for (const size_t field : {size_t{8}, size_t{16}, size_t{32}}) {
        uint64_t value = 0;
        memcpy(&value, message.data() + sizeof(header) + field, sizeof(value));
        value = (value & 15) * 4096;
        memcpy(message.data() + sizeof(header) + field, &value, sizeof(value));
      }
    }
    data += length;
    size -= length;
    CHECK(target.memory.WriteBytes(memory::GuestAddr(0), message));
    const memory::GuestSlice readable[] = {
        *target.memory.Slice(memory::GuestAddr(0), message.size())};
    const memory::GuestSlice writable[] = {*target.memory.Slice(memory::GuestAddr(0x10000), room)};
    const uint32_t written =
        target.server->Handle(readable, writable, target.worker, (header.unique & 15) == 0);
    CHECK(written <= room);
    CHECK(target.server->share().nodes().size() <= 256);
  }
}

}  // namespace
}  // namespace crosvm::devices::fs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static crosvm::devices::fs::Target target;
  static int runs = 0;
  // So that what earlier inputs made does not grow without end.
  if (++runs % 256 == 0) {
    const std::string command = "rm -rf " + target.directory + "/*";
    (void)!system(command.c_str());
    target.server->Forget();
  }
  crosvm::devices::fs::Run(target, data, size);
  return 0;
}
