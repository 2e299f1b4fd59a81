#include "shared_dir/node_table.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "sys/memfd.h"

namespace crosvm::shared_dir {
namespace {

constexpr uint64_t kMagic = 0x31656572'74646f6eULL;
constexpr size_t kHeaderBytes = 4096;
constexpr size_t kInlineName = 64;
constexpr size_t kMoreName = 116;
constexpr size_t kRecordBytes = 128;

enum RecordState : uint8_t { kFree = 0, kLive = 1, kMore = 2 };

struct Header {
  uint64_t magic;
  FileKey root;
  uint32_t fresh[NodeTable::kShards];
};
static_assert(sizeof(Header) <= kHeaderBytes);

// A name longer than fits a record goes on in further records.
struct MoreName {
  char text[kMoreName];
  uint32_t next;
  uint32_t generation;  // where Record has it, and its
  uint8_t reserved[3];
  uint8_t state;
};
static_assert(sizeof(MoreName) == kRecordBytes);

uint32_t RoundUp(uint32_t capacity) {
  constexpr auto kStep = static_cast<uint32_t>(NodeTable::kShards);
  return std::max(kStep, (capacity + kStep - 1) / kStep * kStep);
}

// Stable over processes: a successor finds nodes in the same shards.
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

uint64_t HashOf(const FileKey& key) {
  return Mix(key.inode + Mix(key.device));
}

}  // namespace

struct NodeTable::Record {
  uint64_t device;
  uint64_t inode;
  int64_t birth;
  uint64_t references;
  uint64_t parent;
  uint32_t more;  // slot of the rest of the name; 0: none
  uint16_t type;
  uint8_t name_length;
  NameState name_state;
  char name[kInlineName];
  uint64_t held;        // a node on which this one has a reference; 0: none
  uint32_t generation;  // counts the nodes that the record was
  uint8_t reserved2[3];
  uint8_t state;

  FileKey key() const { return {.device = device, .inode = inode, .birth = birth, .type = type}; }
};

int CheckName(std::string_view name) {
  if (name.empty()) return ENOENT;
  if (name.size() > kMaxName) return ENAMETOOLONG;
  if (name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return EINVAL;
  }
  return 0;
}

size_t NodeTable::KeyHash::operator()(const FileKey& key) const {
  return HashOf(key);
}

uint64_t NodeTable::StateBytes(uint32_t capacity) {
  return kHeaderBytes + uint64_t{RoundUp(capacity)} * kRecordBytes;
}

Result<std::unique_ptr<NodeTable>> NodeTable::Create(sys::BorrowedFd state, uint32_t capacity,
                                                     const FileKey& root) {
  static_assert(sizeof(Record) == kRecordBytes);
  static_assert(offsetof(Record, generation) == offsetof(MoreName, generation) &&
                offsetof(Record, state) == offsetof(MoreName, state));
  const uint64_t bytes = StateBytes(capacity);
  if (!sys::IsShrinkSealed(state, bytes)) {
    return Fail(ErrorKind::kInvalidArgument, "the memory of a shared directory is no sealed memfd");
  }
  sys::MappedRegion region =
      TRY(sys::MappedRegion::Shared(state, 0, bytes, sys::MapAccess::kReadWrite));
  // SAFETY: the mapping begins with the header and is page-aligned.
  auto& header = *reinterpret_cast<Header*>(region.data());
  const bool known = header.magic == kMagic && header.root == root;
  if (!known) {
    header.magic = kMagic;
    header.root = root;
    std::fill(std::begin(header.fresh), std::end(header.fresh), 0);
  }
  std::unique_ptr<NodeTable> table(new NodeTable(std::move(region), RoundUp(capacity)));
  table->Recover();
  Record& record = table->At(0);
  Shard& shard = table->shards_[0];
  MutexLock lock(shard.mutex);
  if (shard.fresh == 0) shard.fresh = 1;
  record = Record{};
  record.device = root.device;
  record.inode = root.inode;
  record.birth = root.birth;
  record.type = root.type;
  record.references = 1;
  record.state = kLive;
  return table;
}

NodeTable::NodeTable(sys::MappedRegion region, uint32_t capacity)
    : region_(std::move(region)), capacity_(capacity) {
}

NodeTable::Record& NodeTable::At(uint32_t slot) const {
  CHECK(slot < capacity_);
  // SAFETY: in bounds by the check; records are aligned as the mapping and their size are.
  return *reinterpret_cast<Record*>(region_.data() + kHeaderBytes + size_t{slot} * kRecordBytes);
}

NodeTable::Shard& NodeTable::ShardOfKey(const FileKey& key) {
  return shards_[(HashOf(key) >> 32) % kShards];
}

NodeId NodeTable::IdOf(const Record& record, uint32_t slot) {
  return (uint64_t{record.generation} << 32) | (uint64_t{slot} + 1);
}

NodeTable::Record* NodeTable::Validate(NodeId node) const {
  const auto number = static_cast<uint32_t>(node);
  if (number == 0 || number > capacity_) return nullptr;
  Record& record = At(number - 1);
  return record.state == kLive && IdOf(record, number - 1) == node ? &record : nullptr;
}

// --- recovery ------------------------------------------------------------------------------------

// TRUST: the records were written by a predecessor; what goes on from here is consistent, and names
// are names of one component.
void NodeTable::Recover() {
  // SAFETY: as in Create().
  const auto& header = *reinterpret_cast<const Header*>(region_.data());
  for (uint32_t index = 0; index < kShards; ++index) {
    Shard& shard = shards_[index];
    MutexLock lock(shard.mutex);
    shard.fresh = std::min(header.fresh[index], capacity_ / static_cast<uint32_t>(kShards));
    std::vector<bool> used(shard.fresh);
    for (uint32_t row = 0; row < shard.fresh; ++row) {
      const uint32_t slot = row * static_cast<uint32_t>(kShards) + index;
      if (slot == 0) continue;
      RecoverRecord(shard, slot, used);
    }
    for (uint32_t row = 0; row < shard.fresh; ++row) {
      const uint32_t slot = row * static_cast<uint32_t>(kShards) + index;
      if (slot == 0 || used[row]) continue;
      At(slot).state = kFree;
      shard.free.push_back(slot);
    }
  }
}

void NodeTable::RecoverRecord(Shard& shard, uint32_t slot, std::vector<bool>& used) {
  Record& record = At(slot);
  if (record.state != kLive || record.references == 0 || record.parent == 0 ||
      &ShardOfKey(record.key()) != &shard) {
    return;
  }
  // The predecessor died while it wrote the name: whoever finds the file next writes it again.
  if (record.name_length == 0) record.more = 0;
  size_t left = record.name_length > kInlineName ? record.name_length - kInlineName : 0;
  std::array<uint32_t, (kMaxName - kInlineName + kMoreName - 1) / kMoreName> chain;
  size_t links = 0;
  uint32_t more = record.more;
  while (left > 0) {
    // A part that another name has too would be freed twice, and be somebody else's in between.
    if (more == 0 || more >= capacity_ || more % kShards != slot % kShards ||
        more / kShards >= shard.fresh || used[more / kShards] || At(more).state != kMore ||
        std::find(chain.begin(), chain.begin() + links, more) != chain.begin() + links) {
      return;
    }
    chain[links++] = more;
    left -= std::min(left, kMoreName);
    // SAFETY: both kinds of record have the same size, and their state at the same place.
    more = reinterpret_cast<const MoreName&>(At(more)).next;
  }
  if (more != 0) return;
  NodePlace place;
  ReadName(record, place);
  if (record.name_length != 0 && CheckName(place.name()) != 0) return;
  if (record.name_state > NameState::kRemoved) record.name_state = NameState::kThere;
  if (!shard.by_key.emplace(record.key(), slot).second) return;
  ++shard.live;
  used[slot / kShards] = true;
  for (size_t i = 0; i < links; ++i) used[chain[i] / kShards] = true;
}

// --- records -------------------------------------------------------------------------------------

std::optional<uint32_t> NodeTable::Allocate(Shard& shard) {
  if (!shard.free.empty()) {
    const uint32_t slot = shard.free.back();
    shard.free.pop_back();
    return slot;
  }
  if (shard.fresh >= capacity_ / kShards) return std::nullopt;
  const auto index = static_cast<uint32_t>(&shard - shards_.data());
  const uint32_t slot = shard.fresh++ * static_cast<uint32_t>(kShards) + index;
  At(slot).state = kFree;
  // SAFETY: as in Create().
  reinterpret_cast<Header*>(region_.data())->fresh[index] = shard.fresh;
  return slot;
}

void NodeTable::Release(Shard& shard, uint32_t slot) {
  Record& record = At(slot);
  record.state = kFree;
  ++record.generation;
  shard.free.push_back(slot);
}

void NodeTable::FreeName(Shard& shard, Record& record) {
  record.name_length = 0;
  // ORDERING: as in Intern(): a successor takes no name of which a part is gone.
  std::atomic_signal_fence(std::memory_order_release);
  for (uint32_t more = std::exchange(record.more, 0); more != 0;) {
    // SAFETY: both kinds of record have the same size.
    auto& rest = reinterpret_cast<MoreName&>(At(more));
    const uint32_t next = rest.next;
    rest.state = kFree;
    shard.free.push_back(more);
    more = next;
  }
}

void NodeTable::ReadName(const Record& record, NodePlace& place) const {
  place.name_length = record.name_length;
  size_t done = std::min<size_t>(record.name_length, kInlineName);
  memcpy(place.name_bytes.data(), record.name, done);
  for (uint32_t more = record.more; more != 0 && done < record.name_length;) {
    // SAFETY: both kinds of record have the same size.
    const auto& rest = reinterpret_cast<const MoreName&>(At(more));
    const size_t piece = std::min(record.name_length - done, kMoreName);
    memcpy(place.name_bytes.data() + done, rest.text, piece);
    done += piece;
    more = rest.next;
  }
}

bool NodeTable::HasName(const Record& record, NodeId parent, std::string_view name) const {
  if (record.parent != parent || record.name_length != name.size()) return false;
  const std::string_view first = name.substr(0, kInlineName);
  if (memcmp(record.name, first.data(), first.size()) != 0) return false;
  if (first.size() == name.size()) return true;
  NodePlace place;
  ReadName(record, place);
  return place.name() == name;
}

bool NodeTable::SetPlace(Shard& shard, Record& record, NodeId parent, std::string_view name) {
  FreeName(shard, record);
  const std::string_view first = name.substr(0, kInlineName);
  memcpy(record.name, first.data(), first.size());
  uint32_t* link = &record.more;
  for (std::string_view rest = name.substr(first.size()); !rest.empty();) {
    const std::optional<uint32_t> slot = Allocate(shard);
    if (!slot) return false;
    // SAFETY: as above.
    auto& more = reinterpret_cast<MoreName&>(At(*slot));
    const std::string_view piece = rest.substr(0, kMoreName);
    memcpy(more.text, piece.data(), piece.size());
    more.next = 0;
    more.state = kMore;
    *link = *slot;
    link = &more.next;
    rest.remove_prefix(piece.size());
  }
  record.parent = parent;
  // ORDERING: as in Intern(): a successor finds the whole place, or none.
  std::atomic_signal_fence(std::memory_order_release);
  record.name_length = static_cast<uint8_t>(name.size());
  return true;
}

OrErrno<NodeId> NodeTable::Intern(const FileKey& key, NodeId parent, std::string_view name) {
  CHECK(CheckName(name) == 0);
  Shard& shard = ShardOfKey(key);
  MutexLock lock(shard.mutex);
  const auto [entry, is_new] = shard.by_key.try_emplace(key, 0);
  if (!is_new) {
    Record& record = At(entry->second);
    ++record.references;
    const NodeId id = IdOf(record, entry->second);
    // The name it was found under now is the one that is sure to be there.
    if (!HasName(record, parent, name) && entry->second != 0) {
      (void)SetPlace(shard, record, parent, name);
    }
    record.name_state = NameState::kThere;
    return id;
  }
  const std::optional<uint32_t> slot = Allocate(shard);
  if (!slot) {
    shard.by_key.erase(entry);
    return Refuse(ENFILE);
  }
  Record& record = At(*slot);
  record.more = 0;
  if (!SetPlace(shard, record, parent, name)) {
    FreeName(shard, record);
    Release(shard, *slot);
    shard.by_key.erase(entry);
    return Refuse(ENFILE);
  }
  entry->second = *slot;
  record.device = key.device;
  record.inode = key.inode;
  record.birth = key.birth;
  record.type = key.type;
  record.name_state = NameState::kThere;
  record.held = 0;
  record.references = 1;
  // A successor takes only what is complete. ORDERING: against this process' death alone, so the
  // compiler's order is all that matters.
  std::atomic_signal_fence(std::memory_order_release);
  record.state = kLive;
  ++shard.live;
  return IdOf(record, *slot);
}

std::optional<NodeId> NodeTable::Find(const FileKey& key) {
  if (key == At(0).key()) return kRootNode;
  Shard& shard = ShardOfKey(key);
  MutexLock lock(shard.mutex);
  const auto entry = shard.by_key.find(key);
  if (entry == shard.by_key.end()) return std::nullopt;
  return IdOf(At(entry->second), entry->second);
}

OrErrno<NodePlace> NodeTable::Place(NodeId node) {
  Shard& shard = shards_[ShardOf(node)];
  MutexLock lock(shard.mutex);
  const Record* const record = Validate(node);
  if (record == nullptr) return Refuse(ESTALE);
  NodePlace place;
  place.key = record->key();
  place.state = record->name_state;
  place.parent = record->parent;
  ReadName(*record, place);
  return place;
}

void NodeTable::Moved(const FileKey& key, NodeId parent, std::string_view name) {
  Shard& shard = ShardOfKey(key);
  MutexLock lock(shard.mutex);
  const auto entry = shard.by_key.find(key);
  if (entry == shard.by_key.end() || entry->second == 0) return;
  Record& record = At(entry->second);
  if (!HasName(record, parent, name)) (void)SetPlace(shard, record, parent, name);
  record.name_state = NameState::kThere;
}

void NodeTable::SetNameState(NodeId node, NodeId parent, std::string_view name, NameState state) {
  Shard& shard = shards_[ShardOf(node)];
  MutexLock lock(shard.mutex);
  Record* const record = Validate(node);
  if (record != nullptr && HasName(*record, parent, name)) record->name_state = state;
}

std::optional<NodeId> NodeTable::Forget(NodeId node, uint64_t references) {
  if (node == kRootNode) return std::nullopt;
  Shard& shard = shards_[ShardOf(node)];
  MutexLock lock(shard.mutex);
  Record* const record = Validate(node);
  if (record == nullptr) return std::nullopt;
  record->references -= std::min(record->references, references);
  if (record->references > 0) return std::nullopt;
  const uint32_t slot = static_cast<uint32_t>(node) - 1;
  const NodeId held = record->held;
  shard.by_key.erase(record->key());
  FreeName(shard, *record);
  Release(shard, slot);
  --shard.live;
  return held;
}

NodeId NodeTable::Hold(NodeId node, NodeId parent, NodeId held) {
  Shard& shard = shards_[ShardOf(node)];
  MutexLock lock(shard.mutex);
  Record* const record = Validate(node);
  if (record == nullptr || record->parent != parent) return held;
  return std::exchange(record->held, held);
}

OkOrErrno NodeTable::Reference(NodeId node) {
  Shard& shard = shards_[ShardOf(node)];
  MutexLock lock(shard.mutex);
  Record* const record = Validate(node);
  if (record == nullptr) return Refuse(ESTALE);
  ++record->references;
  return {};
}

void NodeTable::Clear() {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    std::vector<uint32_t> slots;
    slots.reserve(shard.by_key.size());
    for (const auto& [key, slot] : shard.by_key) slots.push_back(slot);
    for (const uint32_t slot : slots) {
      FreeName(shard, At(slot));
      Release(shard, slot);
    }
    shard.by_key.clear();
    shard.live = 0;
  }
}

uint64_t NodeTable::size() const {
  uint64_t count = 1;
  for (const Shard& shard : shards_) {
    MutexLock lock(const_cast<Mutex&>(shard.mutex));
    count += shard.live;
  }
  return count;
}

}  // namespace crosvm::shared_dir
