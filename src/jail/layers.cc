#include "jail/layers.h"

namespace crosvm::jail {

std::vector<std::string> Layers::Names() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < kLayerNames.size(); ++i) {
    if (Has(static_cast<Layer>(i))) names.emplace_back(kLayerNames[i]);
  }
  return names;
}

std::string Layers::ToString() const {
  std::string text;
  for (const std::string& name : Names()) text += (text.empty() ? "" : ",") + name;
  return text.empty() ? "none" : text;
}

}  // namespace crosvm::jail
