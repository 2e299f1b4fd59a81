#include "cli/doctor.h"

#include <algorithm>

#include "cli/commands.h"
#include "codec/json.h"

namespace crosvm::cli {

Health Diagnosis::worst() const {
  Health worst = Health::kOk;
  for (const Finding& finding : findings) worst = std::max(worst, finding.health);
  return worst;
}

std::string FormatTable(const Diagnosis& diagnosis) {
  constexpr size_t kColumn = 30;
  std::string text;
  for (const Finding& finding : diagnosis.findings) {
    text += fmt::format("{:<9}{:<20} {}\n", NameOf(finding.health), finding.check,
                        Wrap(finding.found, kColumn, 100));
    if (!finding.fix.empty()) {
      text += fmt::format("{:<30}to mend: {}\n", "", finding.fix);
    }
  }
  switch (diagnosis.worst()) {
    case Health::kOk:
      return text + "\nEverything is there.\n";
    case Health::kLimited:
      return text +
             "\nVMs run; what is marked limited needs an option less or the command shown.\n";
    case Health::kBroken:
      break;
  }
  return text + "\nNo VM can run here until what is marked broken is mended.\n";
}

std::string_view HardwareFlag(std::string_view cpuinfo) {
  const size_t start = cpuinfo.find("\nflags");
  if (start == std::string_view::npos) return {};
  std::string_view line = cpuinfo.substr(start + 1);
  line = line.substr(0, line.find('\n'));
  for (const std::string_view flag : {std::string_view("vmx"), std::string_view("svm")}) {
    size_t at = 0;
    while ((at = line.find(flag, at)) != std::string_view::npos) {
      const bool starts = at > 0 && line[at - 1] == ' ';
      const bool ends = at + flag.size() == line.size() || line[at + flag.size()] == ' ';
      if (starts && ends) return flag;
      ++at;
    }
  }
  return {};
}

Result<int> DoctorCommand(const Invocation& invocation) {
  const Diagnosis diagnosis = Examine();
  invocation.Print(invocation.Has("json") ? codec::ToJson(diagnosis, 2) + "\n"
                                          : FormatTable(diagnosis));
  return diagnosis.worst() == Health::kBroken ? kExitError : kExitOk;
}

}  // namespace crosvm::cli
