#include "jail/layers.h"

namespace crosvm::jail {

std::string Layers::ToString() const {
  std::string text;
  for (size_t i = 0; i < kLayerNames.size(); ++i) {
    if (!Has(static_cast<Layer>(i))) continue;
    if (!text.empty()) text += ',';
    text += kLayerNames[i];
  }
  return text.empty() ? "none" : text;
}

}  // namespace crosvm::jail
