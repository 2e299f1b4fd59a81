// What tests of rings run over: split and packed, with and without EVENT_IDX.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "virtio/testing/driver.h"

namespace crosvm::virtio::testing {

struct RingFormat {
  bool packed = false;
  bool event_idx = false;
};

inline constexpr RingFormat kRingFormats[] = {
    {.packed = false, .event_idx = false},
    {.packed = false, .event_idx = true},
    {.packed = true, .event_idx = false},
    {.packed = true, .event_idx = true},
};

inline std::string RingFormatName(const ::testing::TestParamInfo<RingFormat>& info) {
  return std::string(info.param.packed ? "Packed" : "Split") +
         (info.param.event_idx ? "EventIdx" : "Flags");
}

// Guest memory, and a driver in it.
class RingFormatTest : public ::testing::TestWithParam<RingFormat> {
 protected:
  DriverOptions Options(uint16_t size = 16) const {
    return {.size = size, .packed = GetParam().packed, .event_idx = GetParam().event_idx};
  }
  memory::GuestMemory memory_ = Driver::MakeMemory();
  Driver driver_{memory_, Options()};
};

}  // namespace crosvm::virtio::testing
