#include "devices/fs/fs_module.h"

#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/key_value.h"
#include "config/shared_dir_options.h"
#include "devices/fs/fs_device.h"
#include "devices/fs/server.h"
#include "policies/fs.h"
#include "shared_dir/prepare.h"
#include "shared_dir/share.h"
#include "sys/memfd.h"

namespace crosvm::devices::fs {
namespace {

// What travels from Prepare to Create. The memory and the sockets are the same in every process
// that follows one that died.
struct FsStart {
  codec::FdSlot root;
  codec::FdSlot nodes;
  codec::FdSlot session;
  codec::FdSlot unnamed_in;
  codec::FdSlot unnamed_out;
  std::string tag;
  Cache cache = Cache::kAuto;
  uint64_t timeout = 5;
  bool writeback = false;
  bool rewrite_security_xattrs = false;
  bool ascii_casefold = false;
  bool ro = false;
  bool posix_acl = false;
  uint32_t max_nodes = 0;
  uint32_t max_open = 0;
  uint32_t max_descriptors = 0;
  uint32_t queues = 1;
  uint32_t threads = 1;
  uint64_t dax_window = 0;

  static constexpr auto Describe() {
    return Fields(
        Field("root", &FsStart::root).Required(), Field("nodes", &FsStart::nodes).Required(),
        Field("session", &FsStart::session).Required(),
        Field("unnamed_in", &FsStart::unnamed_in).Required(),
        Field("unnamed_out", &FsStart::unnamed_out).Required(), Field("tag", &FsStart::tag),
        Field("cache", &FsStart::cache), Field("timeout", &FsStart::timeout),
        Field("writeback", &FsStart::writeback),
        Field("rewrite_security_xattrs", &FsStart::rewrite_security_xattrs),
        Field("ascii_casefold", &FsStart::ascii_casefold), Field("ro", &FsStart::ro),
        Field("posix_acl", &FsStart::posix_acl), Field("max_nodes", &FsStart::max_nodes),
        Field("max_open", &FsStart::max_open), Field("max_descriptors", &FsStart::max_descriptors),
        Field("queues", &FsStart::queues), Field("threads", &FsStart::threads),
        Field("dax_window", &FsStart::dax_window));
  }
};

Result<PreparedDevice> Prepare(std::string_view text) {
  const config::SharedDirOptions options = TRY(codec::ParseKeyValue<config::SharedDirOptions>(
      text, {.separator = config::kSharedDirSeparator}));
  if (options.tag.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "the tag is missing, by which the guest mounts {}",
                options.path);
  }
  TRY(config::CheckDaxWindow(options));
  shared_dir::PreparedShare share = TRY(shared_dir::PrepareShare({.path = options.path,
                                                                  .uidmap = options.uidmap,
                                                                  .gidmap = options.gidmap,
                                                                  .max_open = options.max_open}));
  sys::UniqueFd session =
      TRY(sys::CreateSealedMemfd("crosvm-fs-session", SessionState::Bytes(share.max_open)));
  auto [unnamed_in, unnamed_out] = TRY(shared_dir::UnnamedStore::MakeSockets());

  PreparedDevice prepared;
  if (options.dax == config::FsDax::kAlways) {
    prepared.shared_memory = uint64_t{options.dax_window} << 20;
  }
  FsStart start{.root = prepared.fds.Put(std::move(share.root)),
                .nodes = prepared.fds.Put(std::move(share.state)),
                .session = prepared.fds.Put(std::move(session)),
                .unnamed_in = prepared.fds.Put(unnamed_in.TakeFd()),
                .unnamed_out = prepared.fds.Put(unnamed_out.TakeFd()),
                .tag = options.tag,
                .cache = options.cache,
                .timeout = options.timeout,
                .writeback = options.writeback,
                .rewrite_security_xattrs = options.rewrite_security_xattrs,
                .ascii_casefold = options.ascii_casefold,
                .ro = options.ro,
                .posix_acl = options.posix_acl,
                .max_nodes = share.max_nodes,
                .max_open = share.max_open,
                .max_descriptors = share.max_descriptors,
                .queues = options.queues,
                .threads = options.threads != 0 ? options.threads : shared_dir::DefaultThreads(),
                .dax_window = prepared.shared_memory};
  prepared.start = codec::ToCbor(start);
  prepared.jail.root_path = std::move(share.root_path);
  prepared.jail.root = start.root;
  prepared.jail.root_writable = !options.ro;
  prepared.jail.uid_map = std::move(share.uid_map);
  prepared.jail.gid_map = std::move(share.gid_map);
  prepared.jail.keep_capabilities = std::move(share.keep_capabilities);
  prepared.jail.max_open_files = share.max_open_files;
  prepared.jail.self_fds = true;
  return prepared;
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  const FsStart start = TRY(codec::FromCbor<FsStart>(prepared.start, prepared.fds.size()));
  sys::UniqueFd root = TRY(prepared.fds.Take(start.root));
  const sys::UniqueFd nodes = TRY(prepared.fds.Take(start.nodes));
  const sys::UniqueFd session = TRY(prepared.fds.Take(start.session));
  sys::UnixSocket unnamed_in(TRY(prepared.fds.Take(start.unnamed_in)));
  sys::UnixSocket unnamed_out(TRY(prepared.fds.Take(start.unnamed_out)));
  std::unique_ptr<shared_dir::Share> share =
      TRY(shared_dir::OpenShare(std::move(root), context.self_fds, nodes,
                                {.max_nodes = start.max_nodes,
                                 .max_descriptors = start.max_descriptors,
                                 .read_only = start.ro,
                                 .rewrite_security_xattrs = start.rewrite_security_xattrs,
                                 .ascii_casefold = start.ascii_casefold}));
  std::unique_ptr<Server> server =
      TRY(Server::Create(std::move(share), session, std::move(unnamed_in), std::move(unnamed_out),
                         {.cache = start.cache,
                          .timeout = start.timeout,
                          .writeback = start.writeback,
                          .posix_acl = start.posix_acl,
                          .max_open = start.max_open,
                          .dax_window = start.dax_window}));
  return FsDevice::Create(context.loop, std::move(server),
                          {.tag = start.tag,
                           .request_queues = start.queues,
                           .workers = start.threads,
                           .dax_window = start.dax_window});
}

}  // namespace

const DeviceModule kFsModule = {
    .name = "fs",
    .summary = "a directory of the host (virtio-fs)",
    .option_help =
        "PATH:TAG[:cache=never|auto|always][:timeout=SECONDS][:writeback=BOOL][:ro]"
        "[:uidmap=MAP][:gidmap=MAP][:posix_acl][:rewrite-security-xattrs=BOOL]"
        "[:ascii_casefold=BOOL][:max-open=N][:queues=N][:threads=N][:dax=never|always]"
        "[:dax-window=MIB]",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kFs,
};

}  // namespace crosvm::devices::fs
