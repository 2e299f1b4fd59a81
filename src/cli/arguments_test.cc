#include "cli/arguments.h"

#include <gtest/gtest.h>

namespace crosvm::cli {
namespace {

constexpr Option kOptions[] = {{.name = "cpus", .short_name = 'c', .value = "N", .once = true},
                               {.name = "params", .short_name = 'p', .value = "TEXT"},
                               {.name = "hugepages", .short_name = 'H'},
                               {.name = "gpu", .value = "[KEY]"},
                               {.name = "tpm", .unbuilt = "is not built"}};
constexpr Grammar kGrammar = {
    .options = kOptions, .options_first = true, .positional_name = "KERNEL"};

Result<Arguments> Parse(std::vector<std::string_view> arguments) {
  return ParseArguments(kGrammar, arguments);
}

// "cpus=4 hugepages | kernel", or the error.
std::string Shown(std::vector<std::string_view> arguments) {
  const Result<Arguments> parsed = Parse(std::move(arguments));
  if (!parsed) return parsed.error().ToString();
  std::string text;
  for (const Given& given : parsed->options) {
    text += fmt::format("{}={} ", kOptions[given.option].name, given.value);
  }
  text += "|";
  for (const std::string_view positional : parsed->positionals)
    text += fmt::format(" {}", positional);
  return text;
}

TEST(Arguments, EveryFormOfAnOption) {
  EXPECT_EQ(Shown({"--cpus", "4", "k"}), "cpus=4 | k");
  EXPECT_EQ(Shown({"--cpus=4", "k"}), "cpus=4 | k");
  EXPECT_EQ(Shown({"---cpus=4", "k"}), "cpus=4 | k");
  EXPECT_EQ(Shown({"-c4", "k"}), "cpus=4 | k");
  EXPECT_EQ(Shown({"-c", "4", "k"}), "cpus=4 | k");
  EXPECT_EQ(Shown({"--hugepages", "k"}), "hugepages= | k");
  EXPECT_EQ(Shown({"-H", "k"}), "hugepages= | k");
  EXPECT_EQ(Shown({"-p", "a=b", "--params=c=d", "k"}), "params=a=b params=c=d | k");
  EXPECT_EQ(Shown({"--params=-x"}), "params=-x |");
  EXPECT_EQ(Shown({}), "|");
}

TEST(Arguments, OptionalValues) {
  EXPECT_EQ(Shown({"--gpu"}), "gpu= |");
  EXPECT_EQ(Shown({"--gpu", "--hugepages"}), "gpu= hugepages= |");
  EXPECT_EQ(Shown({"--gpu=x"}), "gpu=x |");
}

TEST(Arguments, AfterTheFirstPositionalNothingIsAnOption) {
  EXPECT_EQ(Shown({"k", "--cpus", "4"}), "--cpus stands after the KERNEL; move it in front of k");
  EXPECT_EQ(Shown({"--", "--cpus", "-x"}), "| --cpus -x");
}

TEST(Arguments, OptionsMayFollowElsewhere) {
  const Grammar grammar = {.options = kOptions};
  const std::vector<std::string_view> arguments = {"name", "--cpus", "4", "more"};
  const Arguments parsed = ParseArguments(grammar, arguments).value();
  EXPECT_EQ(parsed.options.size(), 1u);
  EXPECT_EQ(parsed.positionals.size(), 2u);
}

TEST(Arguments, ErrorsSayWhatToDo) {
  EXPECT_EQ(Shown({"--cpus"}), "--cpus needs a value: N");
  EXPECT_EQ(Shown({"--cpus", "-5"}),
            "--cpus needs a value (N); one that begins with - is written --cpus=-5");
  EXPECT_EQ(Shown({"--cpus="}), "--cpus= has no value after the =");
  EXPECT_EQ(Shown({"--=5"}), "\"--=5\" names no option before the =");
  EXPECT_EQ(Shown({"-"}), "a single \"-\" is not an option; the name is missing");
  EXPECT_EQ(Shown({"--hugepages=1"}), "--hugepages takes no value, but got \"1\"");
  EXPECT_EQ(Shown({"-H1"}), "-H takes no value, but got \"1\"");
  EXPECT_EQ(Shown({"-z"}), "-z is not a known option; --help lists them");
  EXPECT_EQ(Shown({"--cpu", "1"}),
            "--cpu is not a known option (did you mean --cpus?); --help lists them");
  EXPECT_EQ(Shown({"--xyzzy"}), "--xyzzy is not a known option; --help lists them");
  EXPECT_EQ(Shown({"-c1", "--cpus=2"}), "--cpus is given twice");
  EXPECT_EQ(Shown({"--tpm"}), "--tpm is not built");
  EXPECT_EQ(Shown({"--cpus", ""}), "--cpus has an empty value; give N");
}

TEST(Arguments, HelpStopsTheParse) {
  EXPECT_TRUE(Parse({"--help", "--xyzzy"})->help);
  EXPECT_TRUE(Parse({"-h"})->help);
  EXPECT_FALSE(Parse({"k"})->help);
}

}  // namespace
}  // namespace crosvm::cli
