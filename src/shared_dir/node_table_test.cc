// Which file is which node: references, names of every length, full tables, and what a successor
// takes over, a damaged table included.
#include "shared_dir/node_table.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>
#include <set>
#include <thread>

#include "sys/mapped_region.h"
#include "sys/memfd.h"

namespace crosvm::shared_dir {
namespace {

constexpr uint32_t kCapacity = 1024;
const FileKey kRootKey{.device = 1, .inode = 2, .birth = 3, .type = S_IFDIR};

FileKey Key(uint64_t inode) {
  return {.device = 1, .inode = inode, .birth = 7, .type = S_IFREG};
}

class NodeTableTest : public ::testing::Test {
 protected:
  NodeTableTest() {
    state_ = *sys::CreateSealedMemfd("test", NodeTable::StateBytes(kCapacity));
    Make();
  }
  void Make(const FileKey& root = kRootKey) {
    table_.reset();
    auto table = NodeTable::Create(state_, kCapacity, root);
    ASSERT_TRUE(table.has_value()) << table.error().ToString();
    table_ = std::move(*table);
  }
  // Inode numbers of files that share a shard; none of them is known afterwards.
  std::vector<uint64_t> KeysOfOneShard(size_t count) {
    std::vector<uint64_t> keys;
    for (uint64_t inode = 100; keys.size() < count; ++inode) {
      const NodeId node = *table_->Intern(Key(inode), kRootNode, "x");
      if (NodeTable::ShardOf(node) == 5) keys.push_back(inode);
      table_->Forget(node, 1);
    }
    return keys;
  }

  sys::UniqueFd state_;
  std::unique_ptr<NodeTable> table_;
};

TEST_F(NodeTableTest, AFileIsOneNode) {
  const NodeId node = *table_->Intern(Key(10), kRootNode, "a");
  EXPECT_NE(node, kRootNode);
  EXPECT_EQ(*table_->Intern(Key(10), kRootNode, "b"), node);
  EXPECT_EQ(table_->Place(node)->name(), "b");
  EXPECT_EQ(table_->Find(Key(10)), node);
  EXPECT_FALSE(table_->Forget(node, 1));
  EXPECT_TRUE(table_->Forget(node, 1));
  EXPECT_EQ(table_->Place(node).error().value, ESTALE);
  EXPECT_EQ(table_->Find(Key(10)), std::nullopt);
}

// Two requests that find a file in different places, the first of which comes late.
TEST_F(NodeTableTest, HoldsOnlyWhereItWasFoundLast) {
  const NodeId before = *table_->Intern(Key(10), kRootNode, "before");
  const NodeId after = *table_->Intern(Key(11), kRootNode, "after");
  const NodeId node = *table_->Intern(Key(12), before, "a");
  table_->Moved(Key(12), after, "b");
  EXPECT_EQ(table_->Hold(node, after, after), 0u);
  EXPECT_EQ(table_->Hold(node, before, before), before) << "what it came with goes back";
  EXPECT_EQ(table_->Hold(node, kRootNode, 0), 0u);
  EXPECT_EQ(table_->Forget(node, 1), after);
  EXPECT_EQ(table_->Hold(node, after, after), after);
}

TEST_F(NodeTableTest, ANumberThatWasReusedIsAnotherNode) {
  const NodeId first = *table_->Intern(Key(10), kRootNode, "a");
  FileKey later = Key(10);
  later.birth = 8;
  EXPECT_NE(*table_->Intern(later, kRootNode, "a"), first);
  later.type = S_IFDIR;
  EXPECT_NE(*table_->Intern(later, kRootNode, "a"), first);
}

TEST_F(NodeTableTest, NodeNumbersAreNotReusedAtOnce) {
  std::set<NodeId> seen;
  for (int i = 0; i < 100; ++i) {
    const NodeId node = *table_->Intern(Key(10), kRootNode, "a");
    EXPECT_TRUE(seen.insert(node).second);
    EXPECT_TRUE(table_->Forget(node, 1));
  }
}

// Nor when a record was part of a long name meanwhile.
TEST_F(NodeTableTest, NodeNumbersAreNotReusedAfterLongNames) {
  const std::vector<uint64_t> keys = KeysOfOneShard(8);
  std::mt19937 random(1);
  std::set<NodeId> seen;
  std::vector<NodeId> nodes(keys.size());
  for (int i = 0; i < 2000; ++i) {
    const size_t which = random() % keys.size();
    NodeId& node = nodes[which];
    if (node != 0) {
      EXPECT_TRUE(table_->Forget(node, 1));
      node = 0;
      continue;
    }
    const auto made =
        table_->Intern(Key(keys[which]), kRootNode, std::string(1 + random() % 255, 'n'));
    if (!made.has_value()) continue;
    node = *made;
    EXPECT_TRUE(seen.insert(node).second) << node;
  }
}

TEST_F(NodeTableTest, NamesOfEveryLength) {
  for (size_t length = 1; length <= kMaxName; ++length) {
    const std::string name(length, static_cast<char>('a' + length % 26));
    const NodeId node = *table_->Intern(Key(10), kRootNode, name);
    EXPECT_EQ(table_->Place(node)->name(), name);
    table_->Moved(Key(10), kRootNode, std::string(kMaxName + 1 - length, 'm'));
    EXPECT_EQ(table_->Place(node)->name(), std::string(kMaxName + 1 - length, 'm'));
  }
}

TEST_F(NodeTableTest, AFullTableRefusesAndRecovers) {
  std::vector<NodeId> nodes;
  const std::string long_name(200, 'l');
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 3 * kCapacity; ++i) {
    const auto node = table_->Intern(Key(100 + i), kRootNode, i % 3 == 0 ? long_name : "short");
    if (node.has_value()) {
      nodes.push_back(*node);
    } else {
      EXPECT_EQ(node.error().value, ENFILE);
      ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
  for (const NodeId node : nodes) EXPECT_TRUE(table_->Forget(node, 1));
  EXPECT_EQ(table_->size(), 1u);
  EXPECT_TRUE(table_->Intern(Key(1), kRootNode, long_name).has_value());
}

// As after a death while the name is written: with no room for the rest of it, it has none either.
TEST_F(NodeTableTest, ANodeWithoutANameStays) {
  const NodeId node = *table_->Intern(Key(10), kRootNode, "a");
  for (uint64_t i = 0; i < 3 * kCapacity; ++i) (void)table_->Intern(Key(100 + i), kRootNode, "x");
  for (int round = 0; round < 2; ++round) {
    table_->Moved(Key(10), kRootNode, std::string(200, 'l'));
    EXPECT_EQ(table_->Place(node)->name(), "");
    Make();
    ASSERT_TRUE(table_->Place(node).has_value());
    EXPECT_EQ(table_->Place(node)->name(), "");
    EXPECT_EQ(*table_->Intern(Key(10), kRootNode, "b"), node);
    EXPECT_EQ(table_->Place(node)->name(), "b");
  }
}

TEST_F(NodeTableTest, ASuccessorKnowsTheSame) {
  std::vector<std::pair<NodeId, std::string>> nodes;
  for (uint64_t i = 0; i < 200; ++i) {
    const std::string name(1 + i, 'n');
    nodes.emplace_back(*table_->Intern(Key(100 + i), kRootNode, name), name);
  }
  for (size_t i = 0; i < nodes.size(); i += 2) table_->Forget(nodes[i].first, 1);
  Make();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto place = table_->Place(nodes[i].first);
    EXPECT_EQ(place.has_value(), i % 2 == 1);
    if (place.has_value()) {
      EXPECT_EQ(place->name(), nodes[i].second);
    }
  }
  EXPECT_EQ(table_->size(), 101u);
  // What was free is free.
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_TRUE(table_->Intern(Key(5000 + i), kRootNode, "x").has_value());
  }
  // Another directory is another share.
  Make({.device = 9, .inode = 9, .birth = 9, .type = S_IFDIR});
  EXPECT_EQ(table_->size(), 1u);
}

TEST_F(NodeTableTest, Hostile_ADamagedTable) {
  for (uint64_t i = 0; i < 300; ++i) {
    (void)table_->Intern(Key(100 + i), kRootNode, std::string(1 + i % 255, 'n'));
  }
  const uint64_t bytes = NodeTable::StateBytes(kCapacity);
  sys::MappedRegion region =
      *sys::MappedRegion::Shared(state_, 0, bytes, sys::MapAccess::kReadWrite);
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 50; ++i) {
      // Behind the magic number, so that it is not simply taken for an empty one.
      region.data()[8 + random() % (bytes - 8)] = static_cast<uint8_t>(random());
    }
    Make();
    uint64_t live = 0;
    for (uint32_t number = 1; number <= kCapacity; ++number) {
      for (uint64_t generation = 0; generation < 2; ++generation) {
        const auto place = table_->Place(generation << 32 | number);
        if (!place.has_value() || number == 1) continue;
        ++live;
        EXPECT_EQ(CheckName(place->name()), 0);
      }
    }
    EXPECT_LE(live, table_->size());
    for (uint64_t i = 0; i < 20; ++i) {
      const auto node = table_->Intern(Key(random()), kRootNode, std::string(200, 'x'));
      if (node.has_value()) table_->Forget(*node, 1);
    }
    table_->Clear();
    EXPECT_EQ(table_->size(), 1u);
    for (uint64_t i = 0; i < 100; ++i) {
      (void)table_->Intern(Key(100 + i), kRootNode, std::string(1 + i, 'n'));
    }
  }
}

TEST_F(NodeTableTest, Hostile_TwoNamesThatShareAPart) {
  const std::vector<uint64_t> keys = KeysOfOneShard(4);
  const std::string name(200, 'n');
  const NodeId first = *table_->Intern(Key(keys[0]), kRootNode, name);
  const NodeId second = *table_->Intern(Key(keys[1]), kRootNode, name);
  const uint64_t bytes = NodeTable::StateBytes(kCapacity);
  sys::MappedRegion region =
      *sys::MappedRegion::Shared(state_, 0, bytes, sys::MapAccess::kReadWrite);
  // As node_table.cc lays them out.
  const auto more = [&](NodeId node) {
    return region.data() + 4096 + (static_cast<uint32_t>(node) - 1) * 128 + 40;
  };
  memcpy(more(second), more(first), sizeof(uint32_t));
  Make();
  EXPECT_NE(table_->Place(first).has_value(), table_->Place(second).has_value());
  // Nothing is handed out twice.
  table_->Forget(first, 1);
  table_->Forget(second, 1);
  std::vector<NodeId> nodes;
  for (size_t i = 0; i < keys.size(); ++i) {
    nodes.push_back(
        *table_->Intern(Key(keys[i]), kRootNode, std::string(200, static_cast<char>('a' + i))));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(table_->Place(nodes[i])->name(), std::string(200, static_cast<char>('a' + i)));
  }
}

TEST_F(NodeTableTest, ThreadsAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t i = 0; i < 5000; ++i) {
        const FileKey key = Key(i % 37 + (t % 2 == 0 ? 0 : 20));
        const auto node = table_->Intern(key, kRootNode, i % 2 == 0 ? "a" : std::string(150, 'b'));
        ASSERT_TRUE(node.has_value());
        const auto place = table_->Place(*node);
        ASSERT_TRUE(place.has_value());
        EXPECT_EQ(place->key, key);
        table_->Forget(*node, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table_->size(), 1u);
}

TEST(NodeTable, WantsSealedMemory) {
  const sys::UniqueFd small = *sys::CreateSealedMemfd("test", 4096);
  EXPECT_FALSE(NodeTable::Create(small, kCapacity, kRootKey).has_value());
}

TEST(NodeTable, Names) {
  EXPECT_EQ(CheckName("a"), 0);
  EXPECT_EQ(CheckName("..."), 0);
  EXPECT_EQ(CheckName(std::string(255, 'x')), 0);
  EXPECT_EQ(CheckName(std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(CheckName(""), ENOENT);
  for (const std::string_view bad :
       {std::string_view("."), std::string_view(".."), std::string_view("a/b"),
        std::string_view("/"), std::string_view("a\0b", 3)}) {
    EXPECT_EQ(CheckName(bad), EINVAL);
  }
}

}  // namespace
}  // namespace crosvm::shared_dir
