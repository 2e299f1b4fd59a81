// crosvm_policy_compiler: compiles policies at build time to a header with one constant filter per
// architecture, and for users to a .bpf file. Beside the header it can list the rules that are in
// the filters, which `tests/e2e/run --policy-usage` holds against the calls that processes make.
// See cmake/crosvm_policy.cmake and docs/jail.md.
#include <fcntl.h>

#include <cstdio>
#include <string>
#include <vector>

#include "jail/compiler.h"
#include "jail/filter.h"
#include "jail/policy.h"
#include "sys/file.h"

namespace crosvm::jail {
namespace {

constexpr char kUsage[] =
    "usage: crosvm_policy_compiler [--arch ARCH] [--include DIR]... --bpf OUTPUT POLICY...\n"
    "       crosvm_policy_compiler [--include DIR]... --header OUTPUT --name NAME --source TEXT\n"
    "                              [--rules OUTPUT] (--arch ARCH POLICY...)...\n";

struct Input {
  Arch arch = kNativeArch;
  std::vector<std::string> files;
};

struct Arguments {
  std::vector<Input> inputs;
  std::vector<std::string> directories;
  std::string bpf;
  std::string header;
  std::string rules;
  std::string name;
  std::string source;
};

Result<Arguments> ParseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      if (arguments.inputs.empty()) arguments.inputs.emplace_back();
      arguments.inputs.back().files.push_back(word);
      continue;
    }
    if (++i == argc) return Fail(ErrorKind::kInvalidArgument, "{} needs a value\n{}", word, kUsage);
    const std::string value = argv[i];
    if (word == "--arch") {
      const std::optional<Arch> arch = ArchFromName(value);
      if (!arch) return Fail(ErrorKind::kInvalidArgument, "no architecture is called {}", value);
      arguments.inputs.push_back({.arch = *arch});
    } else if (word == "--include") {
      arguments.directories.push_back(value);
    } else if (word == "--bpf") {
      arguments.bpf = value;
    } else if (word == "--header") {
      arguments.header = value;
    } else if (word == "--rules") {
      arguments.rules = value;
    } else if (word == "--name") {
      arguments.name = value;
    } else if (word == "--source") {
      arguments.source = value;
    } else {
      return Fail(ErrorKind::kInvalidArgument, "{} is not an option\n{}", word, kUsage);
    }
  }
  if (arguments.inputs.empty() || arguments.bpf.empty() == arguments.header.empty()) {
    return Fail(ErrorKind::kInvalidArgument, "{}", kUsage);
  }
  return arguments;
}

// block → kBlock, vm_main → kVmMain.
std::string ConstantName(const std::string& name) {
  std::string constant = "k";
  bool upper = true;
  for (const char c : name) {
    if (c == '_' || c == '-') {
      upper = true;
      continue;
    }
    constant += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    upper = false;
  }
  return constant;
}

size_t AllowedCalls(const Policy& policy) {
  size_t count = 0;
  for (const Rule& rule : policy.rules) count += rule.any.empty() ? 0U : 1U;
  return count;
}

Result<std::string> Header(const Arguments& arguments) {
  const std::string constant = ConstantName(arguments.name);
  std::string text = fmt::format(
      "// Made by crosvm_policy_compiler from {}.\n#pragma once\n\n#include \"jail/filter.h\"\n\n"
      "namespace crosvm::policies {{\n\n",
      arguments.source);
  const char* condition = "#if";
  for (const Input& input : arguments.inputs) {
    const Policy policy = TRY(ParsePolicyFiles(input.files, input.arch, arguments.directories));
    const std::vector<sock_filter> code = TRY(CompilePolicy(policy));
    text += fmt::format("{} defined(__{}__)\ninline constexpr sock_filter {}Code[] = {{\n",
                        condition, ArchName(input.arch), constant);
    for (const sock_filter& step : code) {
      text += fmt::format("    {{{:#x}, {}, {}, {:#x}}},\n", step.code, step.jt, step.jf, step.k);
    }
    text += fmt::format(
        "}};\ninline constexpr jail::Filter {} = {{.code = {}Code, .source = \"{}\", .calls = "
        "{}}};\n",
        constant, constant, arguments.source, AllowedCalls(policy));
    condition = "#elif";
  }
  return text + "#endif\n\n}  // namespace crosvm::policies\n";
}

std::string Conditions(const Rule& rule) {
  std::string text;
  for (const AllOf& all : rule.any) {
    if (all.empty()) return "always";
    if (!text.empty()) text += " || ";
    for (size_t i = 0; i < all.size(); ++i) {
      text += fmt::format("{}arg{} {} {:#x}", i == 0 ? "" : " && ", all[i].argument,
                          kOperatorTexts[static_cast<size_t>(all[i].op)], all[i].value);
    }
  }
  return text.empty() ? "never" : text;
}

// Lines of fields with tabs between them: `ARCH code INSTRUCTIONS SOURCE`, and for each rule as it
// is written `ARCH rule FILE:LINE NAME NUMBER CONDITIONS OTHERWISE`.
Result<std::string> Rules(const Arguments& arguments) {
  std::string text;
  for (const Input& input : arguments.inputs) {
    const Policy policy = TRY(ParsePolicyFiles(input.files, input.arch, arguments.directories));
    const std::vector<sock_filter> code = TRY(CompilePolicy(policy));
    text += fmt::format("{}\tcode\t{}\t{}\n", ArchName(input.arch), code.size(), arguments.source);
    for (const Rule& rule : policy.written) {
      const bool refused = rule.otherwise.kind == Action::Kind::kErrno;
      text += fmt::format("{}\trule\t{}\t{}\t{}\t{}\t{}\n", ArchName(input.arch), rule.where,
                          rule.name, rule.number, Conditions(rule), refused ? "refuse" : "deny");
    }
  }
  return text;
}

Status WriteFile(const std::string& path, std::string_view text) {
  const sys::UniqueFd file = TRY(sys::Open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644));
  return sys::WriteAll(file, text);
}

Status Run(int argc, char** argv) {
  const Arguments arguments = TRY(ParseArguments(argc, argv));
  if (!arguments.header.empty()) {
    const std::string text = TRY(Header(arguments));
    if (!arguments.rules.empty()) {
      const std::string rules = TRY(Rules(arguments));
      TRY(WriteFile(arguments.rules, rules));
    }
    return WriteFile(arguments.header, text);
  }
  const Input& input = arguments.inputs.back();
  const Policy policy = TRY(ParsePolicyFiles(input.files, input.arch, arguments.directories));
  const std::vector<sock_filter> code = TRY(CompilePolicy(policy));
  const std::vector<uint8_t> bytes = FilterToBytes(code);
  const sys::UniqueFd file = TRY(sys::Open(arguments.bpf, O_CREAT | O_TRUNC | O_WRONLY, 0644));
  return sys::WriteAll(file, bytes);
}

}  // namespace
}  // namespace crosvm::jail

int main(int argc, char** argv) {
  const crosvm::Status status = crosvm::jail::Run(argc, argv);
  if (status.has_value()) return 0;
  fprintf(stderr, "crosvm_policy_compiler: %s\n", status.error().ToString().c_str());
  return 1;
}
