// From the text of an option to a console.
#include "devices/console/console_module.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "event/test_loop.h"

namespace crosvm::devices::console {
namespace {

std::string ErrorOf(const std::string& option) {
  const auto prepared = kConsoleModule.prepare(option);
  return prepared.has_value() ? "" : prepared.error().ToString();
}

TEST(ConsoleModuleTest, MakesOneOrSeveralPorts) {
  event::TestLoop loop;
  for (const auto& [option, queues] :
       {std::pair("type=sink", 2u), std::pair("type=sink;type=sink,name=log;type=sink", 8u)}) {
    auto prepared = kConsoleModule.prepare(option);
    ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
    const auto device = kConsoleModule.create(std::move(*prepared), {.loop = loop});
    ASSERT_TRUE(device.has_value()) << device.error().ToString();
    EXPECT_EQ((*device)->info().queue_sizes.size(), queues);
  }
}

TEST(ConsoleModuleTest, FilesAreOpenedBeforehand) {
  char path[] = "/tmp/crosvm-console-XXXXXX";
  const sys::UniqueFd fd(mkostemp(path, O_CLOEXEC));
  auto prepared = kConsoleModule.prepare(std::string("type=file,path=") + path);
  ASSERT_TRUE(prepared.has_value()) << prepared.error().ToString();
  EXPECT_EQ(prepared->fds.size(), 1u);
  unlink(path);
  event::TestLoop loop;
  EXPECT_TRUE(kConsoleModule.create(std::move(*prepared), {.loop = loop}).has_value());
}

TEST(ConsoleModuleTest, ErrorsNameWhatIsWrong) {
  EXPECT_NE(ErrorOf("type=carrier-pigeon").find("carrier-pigeon"), std::string::npos);
  EXPECT_NE(ErrorOf("type=file"), "");
  EXPECT_NE(ErrorOf("type=file,path=/no/such/folder/x").find("/no/such/folder"), std::string::npos);
  std::string many = "type=sink";
  for (int i = 0; i < 16; ++i) many += ";type=sink";
  EXPECT_NE(ErrorOf(many).find("16"), std::string::npos);
}

TEST(ConsoleModuleTest, Hostile_StartMessages) {
  event::TestLoop loop;
  for (const std::vector<uint8_t>& start :
       {std::vector<uint8_t>{}, std::vector<uint8_t>{0xff}, std::vector<uint8_t>{0xa0},
        std::vector<uint8_t>{0xa1, 0x65, 'p', 'o', 'r', 't', 's', 0x80}}) {
    PreparedDevice prepared;
    prepared.start = start;
    EXPECT_FALSE(kConsoleModule.create(std::move(prepared), {.loop = loop}).has_value());
  }
}

}  // namespace
}  // namespace crosvm::devices::console
