#include <gtest/gtest.h>

#include "codec/cbor.h"
#include "codec/json.h"
#include "codec/test_types.h"

namespace crosvm::codec {
namespace {

using namespace test_types;

template <typename T>
std::string ErrorOf(const Result<T>& result) {
  return result ? "no error" : result.error().ToString();
}

Disk FullDisk() {
  Disk disk;
  disk.path = "a \"quoted\"\npath";
  disk.ro = true;
  disk.queues = 4;
  disk.bias = -128;
  disk.id = "boot";
  disk.cache = Cache::kNever;
  disk.cpus = {0, 7};
  disk.start = Sector(UINT64_MAX);
  return disk;
}

TEST(Json, WritesTheShapesOfTheControlSocket) {
  EXPECT_EQ(ToJson<Command>(Exit{}), R"("Exit")");
  EXPECT_EQ(ToJson<Command>(Resize{.new_size = 5}), R"({"Resize":{"new_size":5}})");
  EXPECT_EQ(ToJson<Command>(Err{.code = -22}), R"({"Err":-22})");
}

TEST(Json, ReadsWhatItWrites) {
  const Disk disk = FullDisk();
  for (const int indent : {-1, 0, 2}) {
    EXPECT_EQ(FromJson<Disk>(ToJson(disk, indent)).value(), disk);
  }
  for (const Command& command : {Command(Exit{}), Command(Resize{9}), Command(Err{22})}) {
    EXPECT_EQ(FromJson<Command>(ToJson(command)).value(), command);
  }
}

TEST(Json, MissingFieldsKeepTheirDefaults) {
  const Disk disk = FromJson<Disk>(R"({"path":"x","id":null})").value();
  EXPECT_EQ(disk.block_size, 512u);
  EXPECT_FALSE(disk.id.has_value());
}

TEST(Json, DecodeIntoKeepsWhatIsNotNamed) {
  Disk disk = FullDisk();
  ASSERT_TRUE(DecodeInto(ParseJson(R"({"path":"y"})").value(), disk));
  EXPECT_EQ(disk.path, "y");
  EXPECT_EQ(disk.queues, 4);
}

TEST(Json, EveryNameOfAnEnumIsRead) {
  EXPECT_EQ(FromJson<Disk>(R"({"path":"x","cache":"none"})")->cache, Cache::kNever);
  EXPECT_NE(ToJson(*FromJson<Disk>(R"({"path":"x","cache":"none"})")).find("\"never\""),
            std::string::npos);
}

TEST(Json, CommentsOnlyWhereAllowed) {
  EXPECT_FALSE(ParseJson("/* x */ 1"));
  EXPECT_TRUE(ParseJson("/* x */ 1", JsonComments::kAllowed));
}

TEST(Json, ErrorsNameTheFieldAndTheReason) {
  EXPECT_EQ(ErrorOf(FromJson<Disk>(R"({"path":"x","que":1})")),
            "\"que\" is not known here; known are: path, ro, queues, block_size, bias, id, cache, "
            "cpus, start");
  EXPECT_EQ(ErrorOf(FromJson<Disk>("{}")), "\"path\" is missing");
  EXPECT_EQ(ErrorOf(FromJson<Disk>(R"({"path":"x","queues":0})")),
            "queues: 0 is out of range, 1 to 256");
  EXPECT_EQ(ErrorOf(FromJson<Disk>(R"({"path":"x","cache":"all"})")),
            "cache: \"all\" is none of never|auto");
  EXPECT_EQ(ErrorOf(FromJson<Disk>(R"({"path":"x","cpus":[1,-1]})")),
            "cpus: item 1: -1 is out of range, 0 to 4294967295");
  EXPECT_EQ(ErrorOf(FromJson<Command>(R"("Stop")")),
            "\"Stop\" is not known here; known are: Exit, Resize, Err, Attach");
}

TEST(Json, Hostile_WrongTypesAndRangesAreRefused) {
  for (const std::string_view text : {
           R"({"path":1})",
           R"({"path":"x","ro":1})",
           R"({"path":"x","queues":65536})",
           R"({"path":"x","queues":1.0})",
           R"({"path":"x","queues":1e3})",
           R"({"path":"x","queues":"1"})",
           R"({"path":"x","bias":128})",
           R"({"path":"x","bias":-129})",
           R"({"path":"x","start":18446744073709551616})",
           R"({"path":"x","id":"123456789012345678901"})",
           R"({"path":"x","cpus":[1,2,3,4,5]})",
           R"({"path":"x","cpus":{}})",
           R"({"path":"x","path":"y"})",
           R"([])",
           R"(null)",
           R"({"path":"x"} x)",
           R"({"path":"x")",
           "",
           "\xff",
           "{\"path\":\"\xc3\x28\"}",
       }) {
    EXPECT_FALSE(FromJson<Disk>(text)) << text;
  }
}

TEST(Json, Hostile_VariantsAreExact) {
  for (const std::string_view text :
       {R"("Resize")", R"({"Exit":{}})", R"({"Exit":null})", R"({})", R"({"Resize":{}})",
        R"({"Resize":{"new_size":1},"Exit":{}})", R"({"Resize":[1]})", R"({"Err":{}})", R"([])",
        R"({"Err":2147483648})", "7"}) {
    EXPECT_FALSE(FromJson<Command>(text)) << text;
  }
}

TEST(Json, Hostile_DepthIsBounded) {
  EXPECT_TRUE(ParseJson(std::string(kMaxDepth, '[') + std::string(kMaxDepth, ']')));
  EXPECT_FALSE(ParseJson(std::string(kMaxDepth + 1, '[') + std::string(kMaxDepth + 1, ']')));
  EXPECT_FALSE(ParseJson(std::string(1 << 20, '[')));
  std::vector<uint8_t> nested(1 << 20, 0x81);  // CBOR: lists of one
  EXPECT_FALSE(ParseCbor(nested));
  // Strings of pieces, each of pieces again: at the top, as a name, and as a value.
  for (const uint8_t opening : {uint8_t{0x5f}, uint8_t{0x7f}}) {
    std::vector<uint8_t> pieces(64 << 10, opening);
    EXPECT_FALSE(ParseCbor(pieces));
    pieces[0] = 0xa1;
    EXPECT_FALSE(ParseCbor(pieces));
    pieces[1] = 0x61;
    pieces[2] = opening;
    EXPECT_FALSE(ParseCbor(pieces));
    // Behind items of every kind and length.
    const std::vector<uint8_t> before = {0x9f, 0x18, 0xff, 0x39, 0xff, 0xff, 0x1a, 1,
                                         2,    3,    4,    0x1b, 1,    2,    3,    4,
                                         5,    6,    7,    8,    0xf5, 0x80};
    pieces.assign(64 << 10, opening);
    std::copy(before.begin(), before.end(), pieces.begin());
    EXPECT_FALSE(ParseCbor(pieces));
  }
}

TEST(Cbor, BytesInStringsAreNoHeads) {
  const std::string text(300, '\x7f');
  EXPECT_EQ(*ParseCbor(WriteCbor(Value(text)))->text(), text);
  const Value::Bytes bytes(70000, 0x5f);
  EXPECT_EQ(*ParseCbor(WriteCbor(Value(bytes)))->bytes(), bytes);
}

TEST(Json, InvalidUtf8IsReplacedWhenWritten) {
  Disk disk;
  disk.path = "\xff";
  EXPECT_TRUE(FromJson<Disk>(ToJson(disk)));
}

TEST(Cbor, ReadsWhatItWrites) {
  EXPECT_EQ(FromCbor<Disk>(ToCbor(FullDisk())).value(), FullDisk());
  Attach attach;
  attach.image.index = 1;
  attach.log = FdSlot{0};
  attach.disks = {FullDisk(), Disk{}};
  attach.blob = {0, 255, 3};
  attach.triple = {1, 2, 3};
  EXPECT_EQ(std::get<Attach>(FromCbor<Command>(ToCbor<Command>(attach), 2).value()), attach);
  // Bytes have no form of their own in JSON and are a list there.
  EXPECT_EQ(std::get<Attach>(FromJson<Command>(ToJson<Command>(attach), 2).value()), attach);
}

TEST(Cbor, Hostile_SlotsMustExistAndBeDistinct) {
  Attach attach;
  attach.image.index = 0;
  EXPECT_TRUE(FromCbor<Command>(ToCbor<Command>(attach), 1));
  EXPECT_FALSE(FromCbor<Command>(ToCbor<Command>(attach), 0));
  attach.log = FdSlot{0};
  EXPECT_FALSE(FromCbor<Command>(ToCbor<Command>(attach), 2));
}

TEST(Cbor, Hostile_EveryCutIsRefused) {
  const std::vector<uint8_t> bytes = ToCbor(FullDisk());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(FromCbor<Disk>(std::span(bytes).first(length))) << length;
  }
  std::vector<uint8_t> longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(FromCbor<Disk>(longer));
}

TEST(Cbor, Hostile_HugeLengthsNeedNoMemory) {
  // A text, bytes, a list and an object of 2^64-1 items.
  for (const uint8_t major : std::vector<uint8_t>{0x7b, 0x5b, 0x9b, 0xbb}) {
    std::vector<uint8_t> bytes = {major, 255, 255, 255, 255, 255, 255, 255, 255, 0};
    EXPECT_FALSE(ParseCbor(bytes)) << int{major};
  }
  EXPECT_FALSE(ParseCbor(std::vector<uint8_t>{0xc1, 0x00}));        // a tag
  EXPECT_FALSE(ParseCbor(std::vector<uint8_t>{0xf9, 0x3c, 0x00}));  // 1.0
  EXPECT_FALSE(ParseCbor(std::vector<uint8_t>{0x3b, 255, 255, 255, 255, 255, 255, 255, 255}));
}

TEST(FdTable, EachSlotIsTakenOnce) {
  FdTable table;
  const FdSlot slot = table.Put(sys::UniqueFd(dup(0)));
  EXPECT_TRUE(table.Take(slot));
  EXPECT_FALSE(table.Take(slot));
  EXPECT_FALSE(table.Take(FdSlot{1}));
  EXPECT_FALSE(table.Take(FdSlot{}));
}

}  // namespace
}  // namespace crosvm::codec
