// What a guest that speaks raw FUSE could try to get out of its directory, to be somebody else or
// to bring the server down; each attempt is refused or stays inside.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "devices/fs/fuse_driver.h"
#include "shared_dir/testing/long_name_mount.h"

namespace crosvm::devices::fs {
namespace {

constexpr uint64_t kRoot = FUSE_ROOT_ID;

// A share `inside` beside a `secret` that is not in it.
class EscapeTest : public ::testing::Test {
 protected:
  EscapeTest() {
    EXPECT_EQ(mkdir((dir_ / "inside").c_str(), 0755), 0);
    EXPECT_EQ(mkdir((dir_ / "outside").c_str(), 0755), 0);
    dir_.Write("secret", "secret");
    dir_.Write("outside/file", "secret");
    dir_.Write("inside/file", "inside");
    fuse_ = std::make_unique<FuseDriver>(dir_ / "inside");
  }

  // Every request that takes a name, with that name.
  std::vector<std::pair<std::string, int>> TryName(std::string_view name) {
    std::vector<std::pair<std::string, int>> errors;
    const auto note = [&](const char* what, int error) { errors.emplace_back(what, error); };
    FuseDriver& f = *fuse_;
    note("lookup", f.Send(FUSE_LOOKUP, kRoot, Text(name)).error);
    note("create", f.Create(kRoot, name).error);
    note("mkdir", f.Send(FUSE_MKDIR, kRoot, Struct(fuse_mkdir_in{}).Text(name)).error);
    note("symlink", f.Send(FUSE_SYMLINK, kRoot, Text(name).Text("target")).error);
    fuse_mknod_in mknod_in{};
    mknod_in.mode = S_IFREG | 0600;
    note("mknod", f.Send(FUSE_MKNOD, kRoot, Struct(mknod_in).Text(name)).error);
    note("unlink", f.Send(FUSE_UNLINK, kRoot, Text(name)).error);
    note("rmdir", f.Send(FUSE_RMDIR, kRoot, Text(name)).error);
    const fuse_rename_in to{.newdir = kRoot};
    note("rename from", f.Send(FUSE_RENAME, kRoot, Struct(to).Text(name).Text("x")).error);
    note("rename to", f.Send(FUSE_RENAME, kRoot, Struct(to).Text("file").Text(name)).error);
    const uint64_t file = f.Lookup(kRoot, "file");
    note("link",
         f.Send(FUSE_LINK, kRoot, Struct(fuse_link_in{.oldnodeid = file}).Text(name)).error);
    return errors;
  }

  TestDirectory dir_;
  std::unique_ptr<FuseDriver> fuse_;
};

TEST_F(EscapeTest, NamesThatAreNoNames) {
  const struct {
    std::string name;
    int error;
  } cases[] = {
      {"..", EINVAL},
      {".", EINVAL},
      {"../secret", EINVAL},
      {"/etc/passwd", EINVAL},
      {"file/../../secret", EINVAL},
      {"", ENOENT},
      {std::string(256, 'n'), ENAMETOOLONG},
      {std::string(60000, 'n'), ENAMETOOLONG},
  };
  for (const auto& [name, error] : cases) {
    for (const auto& [what, got] : TryName(name)) {
      EXPECT_EQ(got, error) << what << " of " << name.substr(0, 30);
    }
  }
  EXPECT_EQ(dir_.Read("secret"), "secret");
  EXPECT_EQ(dir_.Read("inside/file"), "inside");
}

TEST_F(EscapeTest, LinksAreNotFollowed) {
  ASSERT_EQ(symlink("../secret", (dir_ / "inside/relative").c_str()), 0);
  ASSERT_EQ(symlink((dir_ / "secret").c_str(), (dir_ / "inside/absolute").c_str()), 0);
  ASSERT_EQ(symlink("..", (dir_ / "inside/up").c_str()), 0);
  ASSERT_EQ(symlink("/proc/self/root", (dir_ / "inside/magic").c_str()), 0);
  for (const char* name : {"relative", "absolute", "up", "magic"}) {
    const uint64_t node = fuse_->Lookup(kRoot, name);
    EXPECT_EQ(fuse_->Open(node, O_RDONLY).error, ELOOP) << name;
    EXPECT_EQ(fuse_->Open(node, 0, FUSE_OPENDIR).error, ENOTDIR) << name;
    EXPECT_EQ(fuse_->LookupError(node, "secret"), ENOTDIR) << name;
    EXPECT_EQ(fuse_->Create(kRoot, name, O_RDWR).error, ELOOP) << name;
    EXPECT_NE(fuse_->Create(node, "new").error, 0) << name;
    fuse_setattr_in change{};
    change.valid = FATTR_SIZE;
    EXPECT_EQ(fuse_->Send(FUSE_SETATTR, node, Struct(change)).error, EINVAL) << name;
    change.valid = FATTR_MODE;
    change.mode = 0777;
    EXPECT_NE(fuse_->Send(FUSE_SETATTR, node, Struct(change)).error, 0) << name;
  }
  EXPECT_EQ(dir_.Read("secret"), "secret");
  struct stat status{};
  ASSERT_EQ(stat((dir_ / "secret").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

TEST_F(EscapeTest, NodesAndHandlesThatWereNeverGiven) {
  const uint64_t file = fuse_->Lookup(kRoot, "file");
  // By its inode number, the file itself can be any of the low numbers.
  const uint64_t low = file == 2 ? 3 : 2;
  for (const uint64_t node : {uint64_t{0}, low, file + 1, file + 64, file + (uint64_t{1} << 32),
                              UINT64_MAX, uint64_t{UINT32_MAX}, kRoot + (uint64_t{1} << 32)}) {
    EXPECT_EQ(fuse_->GetAttr(node).error, ESTALE) << node;
    EXPECT_EQ(fuse_->LookupError(node, "file"), ESTALE) << node;
    EXPECT_EQ(fuse_->Open(node).error, ESTALE) << node;
    fuse_->Forget(node, UINT64_MAX);
  }
  const auto open = fuse_->Open(file);
  for (const uint64_t handle : {uint64_t{0}, open.handle + 1, open.handle ^ (uint64_t{1} << 32),
                                UINT64_MAX, uint64_t{UINT32_MAX}}) {
    EXPECT_EQ(fuse_->Read(file, handle, 0, 10).error, EBADF) << handle;
    fuse_->Release(file, handle);
  }
  EXPECT_EQ(fuse_->Read(file, open.handle, 0, 10).text(), "inside");
  // More forgetting than there was looking up.
  fuse_->Release(file, open.handle);
  fuse_->Forget(file, UINT64_MAX);
  EXPECT_EQ(fuse_->GetAttr(file).error, ESTALE);
  fuse_->Forget(kRoot, UINT64_MAX);
  EXPECT_EQ(fuse_->GetAttr(kRoot).error, 0);
}

TEST_F(EscapeTest, OneHandleIsNotAnotherNodes) {
  ASSERT_EQ(mkdir((dir_ / "inside/sub").c_str(), 0755), 0);
  const uint64_t sub = fuse_->Lookup(kRoot, "sub");
  const auto directory = fuse_->Open(kRoot, 0, FUSE_OPENDIR);
  const uint64_t file = fuse_->Lookup(kRoot, "file");
  const auto open = fuse_->Open(file);
  EXPECT_EQ(fuse_->Read(sub, directory.handle, 0, 4096, FUSE_READDIRPLUS).error, ENOTDIR);
  EXPECT_EQ(fuse_->Read(file, open.handle, 0, 4096, FUSE_READDIR).error, ENOTDIR);
  EXPECT_EQ(fuse_->Read(kRoot, directory.handle, 0, 4096).error, EISDIR);
}

TEST_F(EscapeTest, RenamesAroundTheRoot) {
  ASSERT_EQ(mkdir((dir_ / "inside/sub").c_str(), 0755), 0);
  const uint64_t sub = fuse_->Lookup(kRoot, "sub");
  const auto rename = [&](uint64_t from, std::string_view name, uint64_t to,
                          std::string_view new_name) {
    return fuse_
        ->Send(FUSE_RENAME, from, Struct(fuse_rename_in{.newdir = to}).Text(name).Text(new_name))
        .error;
  };
  EXPECT_EQ(rename(kRoot, "sub", sub, "below"), EINVAL);
  EXPECT_EQ(rename(sub, "..", kRoot, "x"), EINVAL);
  EXPECT_EQ(rename(kRoot, ".", sub, "x"), EINVAL);
  EXPECT_EQ(rename(kRoot, "file", 12345, "x"), ESTALE);
  EXPECT_EQ(fuse_->GetAttr(kRoot).error, 0);
}

TEST_F(EscapeTest, DevicesAndOtherSpecialFiles) {
  for (const uint32_t mode :
       {S_IFBLK | 0666, S_IFCHR | 0666, S_IFDIR | 0777, S_IFLNK | 0777, 0666}) {
    fuse_mknod_in in{};
    in.mode = mode;
    in.rdev = makedev(1, 3);
    EXPECT_EQ(fuse_->Send(FUSE_MKNOD, kRoot, Struct(in).Text("device")).error, EPERM) << mode;
  }
  // What the host has in the directory is seen and not opened; a FIFO would keep a worker waiting.
  ASSERT_EQ(mkfifo((dir_ / "inside/fifo").c_str(), 0666), 0);
  const uint64_t fifo = fuse_->Lookup(kRoot, "fifo");
  EXPECT_EQ(fuse_->Open(fifo, O_RDONLY).error, ENXIO);
  EXPECT_EQ(fuse_->Open(fifo, O_RDWR).error, ENXIO);
  EXPECT_NE(fuse_->Create(kRoot, "fifo", O_WRONLY).error, 0);
  if (mknod((dir_ / "inside/null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0) {
    EXPECT_EQ(fuse_->Open(fuse_->Lookup(kRoot, "null"), O_RDWR).error, ENXIO);
  }
}

TEST_F(EscapeTest, AFileThatTurnsIntoAFifoOrALink) {
  const uint64_t file = fuse_->Lookup(kRoot, "file");
  ASSERT_EQ(unlink((dir_ / "inside/file").c_str()), 0);
  ASSERT_EQ(mkfifo((dir_ / "inside/file").c_str(), 0666), 0);
  EXPECT_EQ(fuse_->Open(file, O_RDONLY).error, ESTALE);
  EXPECT_EQ(fuse_->GetAttr(file).error, ESTALE);
  ASSERT_EQ(unlink((dir_ / "inside/file").c_str()), 0);
  ASSERT_EQ(symlink("../secret", (dir_ / "inside/file").c_str()), 0);
  EXPECT_EQ(fuse_->Open(file, O_RDWR | O_TRUNC).error, ESTALE);
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE;
  EXPECT_EQ(fuse_->Send(FUSE_SETATTR, file, Struct(change)).error, ESTALE);
  EXPECT_EQ(dir_.Read("secret"), "secret");
}

// Somebody on the host swaps a directory for a link to the outside, again and again.
TEST_F(EscapeTest, RacingLinks) {
  const std::string swapped = dir_ / "inside/swap";
  ASSERT_EQ(mkdir(swapped.c_str(), 0755), 0);
  dir_.Write("inside/swap/file", "inside");
  ASSERT_EQ(symlink("../outside", (dir_ / "inside/link").c_str()), 0);
  std::atomic<bool> stop{false};
  std::thread racer([&] {
    // ORDERING: a flag that ends a test.
    while (!stop.load(std::memory_order_relaxed)) {
      (void)renameat2(AT_FDCWD, swapped.c_str(), AT_FDCWD, (dir_ / "inside/link").c_str(),
                      RENAME_EXCHANGE);
    }
  });
  int reads = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto sub = fuse_->Send(FUSE_LOOKUP, kRoot, Text("swap"));
    if (sub.error != 0) continue;
    const uint64_t node = sub.As<fuse_entry_out>().nodeid;
    const auto found = fuse_->Send(FUSE_LOOKUP, node, Text("file"));
    if (found.error == 0) {
      const uint64_t file = found.As<fuse_entry_out>().nodeid;
      const auto open = fuse_->Open(file, O_RDONLY);
      if (open.error == 0) {
        EXPECT_EQ(fuse_->Read(file, open.handle, 0, 100).text(), "inside");
        ++reads;
        fuse_->Release(file, open.handle);
      }
      fuse_->Forget(file, 1);
    }
    fuse_->Forget(node, 1);
  }
  stop = true;
  racer.join();
  EXPECT_GT(reads, 0);
}

TEST_F(EscapeTest, SetIdFilesNeedTheirOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to act as other users";
  // Another user's request makes files of that user, whatever mode it asks for.
  ASSERT_EQ(chmod((dir_ / "inside").c_str(), 0777), 0);
  fuse_->BeUser(1000, 1000);
  const auto file = fuse_->Create(kRoot, "suid", O_RDWR, 06755);
  ASSERT_EQ(file.error, 0);
  struct stat status{};
  ASSERT_EQ(stat((dir_ / "inside/suid").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 1000u);
}

TEST_F(EscapeTest, Hostile_ShortAndLongRequests) {
  for (uint32_t opcode = 0; opcode <= 60; ++opcode) {
    if (opcode == FUSE_INIT || opcode == FUSE_DESTROY) continue;
    for (const size_t length : {0u, 1u, 7u, 8u, 15u, 24u, 40u, 47u, 63u}) {
      for (const uint32_t room : {0u, 1u, 15u, 16u, 17u, 100u}) {
        fuse_->Send(opcode, kRoot, std::move(Bytes().Raw(std::string(length, '\xff'))), room);
      }
    }
  }
  fuse_->SendRaw(std::move(Bytes().Raw("short")));
  EXPECT_EQ(fuse_
                ->Send(FUSE_GETXATTR, kRoot,
                       Struct(fuse_getxattr_in{.size = UINT32_MAX, .padding = 0}).Text("user.x"))
                .error,
            ENODATA);
  EXPECT_EQ(fuse_->GetAttr(kRoot).error, 0);
}

TEST_F(EscapeTest, Hostile_NumbersAtTheirEnds) {
  const uint64_t file = fuse_->Lookup(kRoot, "file");
  const auto open = fuse_->Open(file, O_RDWR);
  for (const uint64_t at : {UINT64_MAX, uint64_t{INT64_MAX}, uint64_t{INT64_MAX} + 1}) {
    EXPECT_NE(fuse_->Write(file, open.handle, at, "x").error, 0);
    EXPECT_NE(fuse_->Read(file, open.handle, at, 10).error, 0);
    fuse_setattr_in change{};
    change.valid = FATTR_SIZE;
    change.size = at;
    // The largest of all sizes is one on some file systems of the host (tmpfs).
    if (at > INT64_MAX) {
      EXPECT_NE(fuse_->Send(FUSE_SETATTR, file, Struct(change)).error, 0);
    }
    fuse_fallocate_in allocate{};
    allocate.fh = open.handle;
    allocate.offset = at;
    allocate.length = at;
    EXPECT_NE(fuse_->Send(FUSE_FALLOCATE, file, Struct(allocate)).error, 0);
  }
  // The count of a batch is the guest's, its entries are not there.
  EXPECT_EQ(fuse_
                ->Send(FUSE_BATCH_FORGET, 0,
                       Struct(fuse_batch_forget_in{.count = UINT32_MAX, .dummy = 0}))
                .written,
            0u);
  EXPECT_EQ(dir_.Read("inside/file"), "inside");
  // A chain whose parts overlap has them all.
  fuse_->Release(file, open.handle);
  for (const uint32_t count : {kMaxForgets + 1, kMaxForgets}) {
    Bytes batch = Struct(fuse_batch_forget_in{.count = count, .dummy = 0});
    for (uint32_t i = 0; i < count; ++i) {
      batch.Struct(fuse_forget_one{.nodeid = file, .nlookup = UINT64_MAX});
    }
    fuse_->Send(FUSE_BATCH_FORGET, 0, batch);
    EXPECT_EQ(fuse_->GetAttr(file).error, count > kMaxForgets ? 0 : ESTALE);
  }
}

// As NTFS has them, which a guest may have brought the host to mount.
TEST_F(EscapeTest, Hostile_NamesThatAreTooLongAreLeftOut) {
  using shared_dir::testing::LongNameMount;
  if (!LongNameMount::Possible()) GTEST_SKIP() << "needs root and /dev/fuse";
  ASSERT_EQ(mkdir((dir_ / "inside/mnt").c_str(), 0755), 0);
  const LongNameMount mount(dir_ / "inside/mnt");
  const uint64_t node = fuse_->Lookup(kRoot, "mnt");
  const auto directory = fuse_->Open(node, 0, FUSE_OPENDIR);
  for (const bool plus : {false, true}) {
    const uint32_t opcode = plus ? FUSE_READDIRPLUS : FUSE_READDIR;
    const size_t before_entry = plus ? sizeof(fuse_entry_out) : 0;
    // Also with so little room that one entry fills it, and long ones alone stand behind.
    for (const size_t room : {size_t{65536}, before_entry + 48}) {
      std::vector<std::string> names;
      for (uint64_t offset = 0;;) {
        const auto answer =
            fuse_->Read(node, directory.handle, offset, static_cast<uint32_t>(room), opcode);
        ASSERT_EQ(answer.error, 0);
        if (answer.data.empty()) break;
        for (size_t at = 0; at < answer.data.size();) {
          const auto entry = answer.As<fuse_dirent>(at + before_entry);
          at += before_entry + FUSE_NAME_OFFSET;
          names.emplace_back(answer.data.data() + at, entry.namelen);
          at += FUSE_REC_ALIGN(FUSE_NAME_OFFSET + entry.namelen) - FUSE_NAME_OFFSET;
          offset = entry.off;
        }
      }
      EXPECT_EQ(names, (std::vector<std::string>{"before", "after"})) << room;
    }
  }
  fuse_->Release(node, directory.handle);
}

TEST_F(EscapeTest, ADirectoryThatIsRemovedUnderIt) {
  ASSERT_EQ(mkdir((dir_ / "gone").c_str(), 0755), 0);
  FuseDriver fuse(dir_ / "gone");
  ASSERT_EQ(rmdir((dir_ / "gone").c_str()), 0);
  EXPECT_EQ(fuse.LookupError(kRoot, "x"), ENOENT);
  EXPECT_EQ(fuse.Create(kRoot, "x").error, ENOENT);
  EXPECT_EQ(fuse.GetAttr(kRoot).error, 0);
}

}  // namespace
}  // namespace crosvm::devices::fs
