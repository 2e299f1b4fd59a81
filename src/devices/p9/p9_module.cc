#include "devices/p9/p9_module.h"

#include "codec/cbor.h"
#include "codec/fd_table.h"
#include "codec/key_value.h"
#include "config/shared_dir_options.h"
#include "devices/p9/p9_device.h"
#include "devices/p9/p9_server.h"
#include "policies/p9.h"
#include "shared_dir/prepare.h"
#include "shared_dir/share.h"
#include "sys/memfd.h"

namespace crosvm::devices::p9 {
namespace {

// What travels from Prepare to Create. The memory is the same in every process that follows one
// that died.
struct P9Start {
  codec::FdSlot root;
  codec::FdSlot nodes;
  codec::FdSlot fids;
  codec::FdSlot unnamed_in;
  codec::FdSlot unnamed_out;
  std::string tag;
  bool rewrite_security_xattrs = false;
  bool ascii_casefold = false;
  bool ro = false;
  uint32_t max_nodes = 0;
  uint32_t max_open = 0;
  uint32_t max_descriptors = 0;
  uint32_t threads = 1;

  static constexpr auto Describe() {
    return Fields(
        Field("root", &P9Start::root).Required(), Field("nodes", &P9Start::nodes).Required(),
        Field("fids", &P9Start::fids).Required(),
        Field("unnamed_in", &P9Start::unnamed_in).Required(),
        Field("unnamed_out", &P9Start::unnamed_out).Required(), Field("tag", &P9Start::tag),
        Field("rewrite_security_xattrs", &P9Start::rewrite_security_xattrs),
        Field("ascii_casefold", &P9Start::ascii_casefold), Field("ro", &P9Start::ro),
        Field("max_nodes", &P9Start::max_nodes), Field("max_open", &P9Start::max_open),
        Field("max_descriptors", &P9Start::max_descriptors),
        Field("threads", &P9Start::threads).Range(1, 64));
  }
};

Result<PreparedDevice> Prepare(std::string_view text) {
  config::SharedDirOptions options = TRY(codec::ParseKeyValue<config::SharedDirOptions>(
      text, {.separator = config::kSharedDirSeparator}));
  options.type = config::SharedDirType::k9p;
  TRY(config::CheckSharedDir(options));
  shared_dir::PreparedShare share = TRY(shared_dir::PrepareShare({.path = options.path,
                                                                  .uidmap = options.uidmap,
                                                                  .gidmap = options.gidmap,
                                                                  .max_open = options.max_open}));
  sys::UniqueFd fids = TRY(sys::CreateSealedMemfd("crosvm-9p-fids", FidTable::StateBytes()));
  auto [unnamed_in, unnamed_out] = TRY(shared_dir::UnnamedStore::MakeSockets());

  PreparedDevice prepared;
  P9Start start{.root = prepared.fds.Put(std::move(share.root)),
                .nodes = prepared.fds.Put(std::move(share.state)),
                .fids = prepared.fds.Put(std::move(fids)),
                .unnamed_in = prepared.fds.Put(unnamed_in.TakeFd()),
                .unnamed_out = prepared.fds.Put(unnamed_out.TakeFd()),
                .tag = options.tag,
                .rewrite_security_xattrs = options.rewrite_security_xattrs,
                .ascii_casefold = options.ascii_casefold,
                .ro = options.ro,
                .max_nodes = share.max_nodes,
                .max_open = share.max_open,
                .max_descriptors = share.max_descriptors,
                .threads = options.threads != 0 ? options.threads : shared_dir::DefaultThreads()};
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
  const P9Start start = TRY(codec::FromCbor<P9Start>(prepared.start, prepared.fds.size()));
  sys::UniqueFd root = TRY(prepared.fds.Take(start.root));
  const sys::UniqueFd nodes = TRY(prepared.fds.Take(start.nodes));
  const sys::UniqueFd fids = TRY(prepared.fds.Take(start.fids));
  sys::UnixSocket unnamed_in(TRY(prepared.fds.Take(start.unnamed_in)));
  sys::UnixSocket unnamed_out(TRY(prepared.fds.Take(start.unnamed_out)));
  std::unique_ptr<shared_dir::Share> share =
      TRY(shared_dir::OpenShare(std::move(root), context.self_fds, nodes,
                                {.max_nodes = start.max_nodes,
                                 .max_descriptors = start.max_descriptors,
                                 .read_only = start.ro,
                                 .rewrite_security_xattrs = start.rewrite_security_xattrs,
                                 .ascii_casefold = start.ascii_casefold,
                                 .hold_parents = true}));
  std::unique_ptr<Server> server = TRY(
      Server::Create(*share, fids, std::move(unnamed_in), std::move(unnamed_out), start.max_open));
  return P9Device::Create(context.loop, std::move(share), std::move(server),
                          {.tag = start.tag, .threads = start.threads});
}

}  // namespace

const DeviceModule kP9Module = {
    .name = "9p",
    .summary = "a directory of the host (9P2000.L over virtio)",
    .option_help =
        "PATH:TAG[:ro][:uidmap=MAP][:gidmap=MAP][:rewrite-security-xattrs=BOOL]"
        "[:ascii_casefold=BOOL][:max-open=N][:threads=N]",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kP9,
};

}  // namespace crosvm::devices::p9
