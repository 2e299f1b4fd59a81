// A guest that does anything to a serial port, with streams that stall.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "platform/serial.h"
#include "platform/testing_fakes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crosvm::platform;
  auto sink_owner = std::make_unique<testing::FakeSink>();
  auto source_owner = std::make_unique<testing::FakeSource>();
  testing::FakeSink& sink = *sink_owner;
  testing::FakeSource& source = *source_owner;
  Serial serial("serial", std::make_shared<testing::FakeLine>(),
                {.sink = std::move(sink_owner), .source = std::move(source_owner)});
  serial.Start();
  sink.room = 0;
  for (size_t i = 0; i + 3 <= size; i += 3) {
    uint8_t bytes[8] = {data[i + 2], data[i]};
    const std::span<uint8_t> span(bytes, data[i + 1] % 9u);
    switch (data[i] >> 5) {
      case 0:
        serial.Read(data[i] & 0x1f, span);
        break;
      case 1:
        sink.room = data[i + 1];
        sink.on_room();
        break;
      case 2:
        source.text.append(data[i + 1] % 40u, 'x');
        break;
      case 3:
        source.Pump();
        source.text.resize(std::min<size_t>(source.text.size(), 64));
        break;
      default:
        serial.Write(data[i] & 0x1f, span);
        break;
    }
  }
  return 0;
}
