// Requests that change what names there are.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <utility>

#include "devices/p9/p9_server.h"

namespace crosvm::devices::p9 {

using shared_dir::Found;
using shared_dir::KnownName;
using shared_dir::kRootNode;

namespace {

// Of a Tlcreate; O_CREAT goes without saying.
constexpr uint32_t kCreateFlags = O_ACCMODE | O_TRUNC | O_EXCL | O_SYNC | O_DSYNC;

}  // namespace

OkOrErrno Server::Lcreate(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint32_t flags = call.in.U32();
  const uint32_t mode = call.in.U32();
  const uint32_t group = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  if (fid->open()) {
    // The predecessor made the file, of whose answer the client does not know.
    if (!call.request.replayed) return Refuse(EBUSY);
    call.out.Id(QidOf(TRY(share_.Stat(fid->node())))).U32(0);
    return {};
  }
  int kept = static_cast<int>(flags & kCreateFlags);
  // The file may be there because the predecessor made it.
  if (call.request.replayed) kept &= ~O_EXCL;
  Budget::Lease lease = TRY(open_budget_.Lend());
  if ((kept & O_TRUNC) != 0) shared_dir::KeepSetIdBits(fid->user() == 0);
  shared_dir::Created created =
      TRY(share_.Create(CallerOf(*fid, group), fid->node(), name, kept, mode & 07777));
  // From here on the fid is the file, no longer the directory.
  auto file = std::make_shared<Fid>(share_, open_budget_, created.found.node, fid->user());
  file->SetOpen(std::move(created.file), std::move(lease), kept & ~(O_TRUNC | O_EXCL));
  TRY(fids_->Replace(number, std::move(file)));
  call.out.Id(QidOf(created.found.attributes)).U32(0);
  return {};
}

OkOrErrno Server::AnswerMade(Call& call, OrErrno<Found> made, NodeId parent,
                             std::string_view name) {
  if (!made.has_value() && made.error().value == EEXIST && call.request.replayed) {
    made = share_.Lookup(parent, name);
  }
  const Found found = TRY(std::move(made));
  share_.Forget(found.node, 1);
  call.out.Id(QidOf(found.attributes));
  return {};
}

OkOrErrno Server::Mkdir(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint32_t mode = call.in.U32();
  const uint32_t group = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  return AnswerMade(call,
                    share_.MakeDirectory(CallerOf(*fid, group), fid->node(), name, mode & 07777),
                    fid->node(), name);
}

OkOrErrno Server::Mknod(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint32_t mode = call.in.U32();
  const uint32_t major = call.in.U32();
  const uint32_t minor = call.in.U32();
  const uint32_t group = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  return AnswerMade(call,
                    share_.MakeNode(CallerOf(*fid, group), fid->node(), name,
                                    mode & (S_IFMT | 07777), makedev(major, minor)),
                    fid->node(), name);
}

OkOrErrno Server::Symlink(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const std::string_view target = call.in.String();
  const uint32_t group = call.in.U32();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  return AnswerMade(call,
                    share_.MakeLink(CallerOf(*fid, group), fid->node(), name, std::string(target)),
                    fid->node(), name);
}

OkOrErrno Server::Link(Call& call) {
  const uint32_t directory_number = call.in.U32();
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> directory = TRY(FidOf(directory_number));
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const OrErrno<Found> made = share_.HardLink(fid->node(), directory->node(), name);
  if (!made.has_value()) {
    if (made.error().value == EEXIST && call.request.replayed) return {};
    return std::unexpected(made.error());
  }
  share_.Forget(made->node, 1);
  return {};
}

OkOrErrno Server::Move(Call& call, NodeId from, std::string_view name, NodeId to,
                       std::string_view new_name) {
  const std::optional<KnownName> known = BeforeNameGoes(to, new_name);
  const OkOrErrno moved = share_.Rename(from, name, to, new_name, 0);
  if (moved.has_value() && known) {
    // Of two names of one file both stay.
    const std::optional<KnownName> now = share_.KnownUnder(to, new_name);
    if (!now || now->node != known->node) AfterNameWent(*known, to, new_name);
  }
  if (!moved.has_value() && moved.error().value == ENOENT && call.request.replayed &&
      share_.RenameHappened(from, name, to, new_name)) {
    return {};
  }
  return moved;
}

OkOrErrno Server::Rename(Call& call) {
  const uint32_t number = call.in.U32();
  const uint32_t directory_number = call.in.U32();
  const std::string_view name = call.in.String();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  const std::shared_ptr<Fid> directory = TRY(FidOf(directory_number));
  if (fid->node() == kRootNode) return Refuse(EBUSY);
  const shared_dir::NodePlace place = TRY(share_.nodes().Place(fid->node()));
  return Move(call, place.parent == 0 ? kRootNode : place.parent, place.name(), directory->node(),
              name);
}

OkOrErrno Server::Renameat(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint32_t new_number = call.in.U32();
  const std::string_view new_name = call.in.String();
  if (!call.in.ok()) return Refuse(EINVAL);
  const std::shared_ptr<Fid> from = TRY(FidOf(number));
  const std::shared_ptr<Fid> to = TRY(FidOf(new_number));
  return Move(call, from->node(), name, to->node(), new_name);
}

std::optional<KnownName> Server::BeforeNameGoes(NodeId parent, std::string_view name) {
  if (share_.options().read_only) return std::nullopt;
  const std::optional<KnownName> known = share_.KnownUnder(parent, name);
  if (known && known->open) fids_->KeepUnnamed(known->node);
  // Fids that came by another of its names shall still find it.
  if (known && !known->last) (void)share_.Locate(known->node);
  return known;
}

void Server::AfterNameWent(const KnownName& known, NodeId parent, std::string_view name) {
  share_.ForgetName(known, parent, name);
  // Opened beside this request, before it could see that the name goes.
  if (share_.IsOpen(known.node)) fids_->KeepUnnamed(known.node);
}

OkOrErrno Server::Unlink(Call& call, NodeId parent, std::string_view name, bool directory) {
  std::optional<KnownName> known;
  if (!directory) known = BeforeNameGoes(parent, name);
  const OkOrErrno removed =
      directory ? share_.RemoveDirectory(parent, name) : share_.Unlink(parent, name);
  if (removed.has_value() && known) AfterNameWent(*known, parent, name);
  if (!removed.has_value() && removed.error().value == ENOENT && call.request.replayed) return {};
  return removed;
}

OkOrErrno Server::Unlinkat(Call& call) {
  const uint32_t number = call.in.U32();
  const std::string_view name = call.in.String();
  const uint32_t flags = call.in.U32();
  if (!call.in.ok() || (flags & ~uint32_t{AT_REMOVEDIR}) != 0) return Refuse(EINVAL);
  const std::shared_ptr<Fid> fid = TRY(FidOf(number));
  return Unlink(call, fid->node(), name, (flags & AT_REMOVEDIR) != 0);
}

}  // namespace crosvm::devices::p9
