#include "tables/aml.h"

#include <gtest/gtest.h>

#include "tables/aml_resource.h"

namespace crosvm::tables::aml {
namespace {

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_EQ(Integer(0), (Term{0x00}));
  EXPECT_EQ(Integer(1), (Term{0x01}));
  EXPECT_EQ(Integer(2), (Term{0x0a, 0x02}));
  EXPECT_EQ(Integer(0x1234), (Term{0x0b, 0x34, 0x12}));
  EXPECT_EQ(Integer(0x12345678), (Term{0x0c, 0x78, 0x56, 0x34, 0x12}));
  EXPECT_EQ(Integer(0x1'0000'0000), (Term{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, PathsPadSegmentsAndCountThem) {
  EXPECT_EQ(Path("_SB"), (Term{'_', 'S', 'B', '_'}));
  EXPECT_EQ(Path("\\_SB_.PCI0"), (Term{'\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0'}));
  EXPECT_EQ(Path("^A.B.C"),
            (Term{'^', 0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
  EXPECT_EQ(Path("\\"), (Term{'\\', 0}));
}

TEST(AmlDeathTest, RefusesNamesThatAreNone) {
  EXPECT_DEATH(Path("LONGNAME"), "AML name");
  EXPECT_DEATH(Path("A..B"), "AML name");
  EXPECT_DEATH(Path("1ABC"), "AML name");
  EXPECT_DEATH(EisaId("PNP"), "EISA id");
}

TEST(Aml, EisaIdIsCompressed) {
  // The value of PNP0501 is 0x0105d041 in every disassembly.
  EXPECT_EQ(EisaId("PNP0501"), (Term{0x0c, 0x41, 0xd0, 0x05, 0x01}));
}

TEST(Aml, UuidMixesByteOrders) {
  EXPECT_EQ(Uuid("00112233-4455-6677-8899-aabbccddeeff"),
            (Term{0x11, 0x13, 0x0a, 0x10, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44,
                  0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}));
}

TEST(Aml, PackageLengthGrowsAtItsBounds) {
  // Scope: opcode, length, path of 4 bytes, body. The length counts itself.
  const auto scope = [](size_t body) { return Scope("ABCD", {Term(body, 0xa3)}); };
  EXPECT_EQ(scope(58)[1], 63);
  EXPECT_EQ(scope(58).size(), 64U);
  const Term two = scope(59);
  EXPECT_EQ(two[1], 0x40 | (65 & 0xf));
  EXPECT_EQ(two[2], 65 >> 4);
  const Term largest_two = scope(4095 - 2 - 4);
  EXPECT_EQ(largest_two[1], 0x4f);
  EXPECT_EQ(largest_two[2], 0xff);
  const Term three = scope(4096 - 2 - 4);
  EXPECT_EQ(three[1], 0x80 | (4097 & 0xf));
  EXPECT_EQ(three[2], (4097 >> 4) & 0xff);
  EXPECT_EQ(three[3], 4097 >> 12);
}

TEST(Aml, NestsDevicesAndMethods) {
  EXPECT_EQ(Device("COM1", {Name("_UID", Integer(1))}),
            (Term{0x5b, 0x82, 11, 'C', 'O', 'M', '1', 0x08, '_', 'U', 'I', 'D', 0x01}));
  EXPECT_EQ(Method("_STA", 0, Serialized::kNo, {Return(Integer(15))}),
            (Term{0x14, 9, '_', 'S', 'T', 'A', 0, 0xa4, 0x0a, 0x0f}));
  EXPECT_EQ(Method("ABCD", 2, Serialized::kYes, {})[6], 0x0a);
}

TEST(Aml, StatementsAndExpressions) {
  EXPECT_EQ(Notify("PWRB", Integer(0x80)), (Term{0x86, 'P', 'W', 'R', 'B', 0x0a, 0x80}));
  EXPECT_EQ(Binary(BinaryOp::kAdd, Arg(0), Integer(1), Local(2)), (Term{0x72, 0x68, 0x01, 0x62}));
  EXPECT_EQ(Binary(BinaryOp::kAnd, Arg(6), Local(7)), (Term{0x7b, 0x6e, 0x67, 0x00}));
  EXPECT_EQ(If(Equal(Arg(0), Integer(0)), {Return(Integer(1))}),
            (Term{0xa0, 6, 0x93, 0x68, 0x00, 0xa4, 0x01}));
  EXPECT_EQ(Package({Integer(1), Integer(5)}), (Term{0x12, 5, 2, 0x01, 0x0a, 0x05}));
  EXPECT_EQ(Acquire("MUTX", 0xffff), (Term{0x5b, 0x23, 'M', 'U', 'T', 'X', 0xff, 0xff}));
}

TEST(Aml, FieldsNameTheirBits) {
  const FieldUnit units[] = {{"ABC", 8}, {"", 100}, {"D", 1}};
  EXPECT_EQ(Field("REGN", FieldAccess::kByte, units),
            (Term{0x5b, 0x81, 19, 'R',  'E',  'G', 'N', 1,   'A', 'B', 'C',
                  '_',  8,    0,  0x44, 0x06, 'D', '_', '_', '_', 1}));
}

TEST(AmlResource, TemplateEndsInAnEndTag) {
  EXPECT_EQ(ResourceTemplate({IoPorts(0x3f8, 8), LegacyIrq(4)}),
            (Term{0x11, 16, 0x0a, 13, 0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 1, 8, 0x22, 0x10, 0x00, 0x79,
                  0x00}));
}

TEST(AmlResource, WindowsSayFirstLastAndLength) {
  EXPECT_EQ(BusNumbers(0, 64), (Term{0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 63, 0, 0, 0, 64, 0}));
  EXPECT_EQ(MemoryWindow32(0xd000'0000, 0x2800'0000),
            (Term{0x87, 23,   0,    0,    0x0c, 1, 0, 0, 0, 0, 0, 0, 0,
                  0xd0, 0xff, 0xff, 0xff, 0xf7, 0, 0, 0, 0, 0, 0, 0, 0x28}));
  const Term window = MemoryWindow64(uint64_t{1} << 32, uint64_t{1} << 32, Prefetchable::kYes);
  ASSERT_EQ(window.size(), 46U);
  EXPECT_EQ(window[5], 0x07);
  EXPECT_EQ(LoadU64(window, 14), uint64_t{1} << 32);
  EXPECT_EQ(LoadU64(window, 22), (uint64_t{2} << 32) - 1);
  EXPECT_EQ(LoadU64(window, 38), uint64_t{1} << 32);
}

}  // namespace
}  // namespace crosvm::tables::aml
