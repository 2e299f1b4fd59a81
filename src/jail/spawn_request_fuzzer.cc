// What the spawner makes of any request, the VMM of any answer, and of any last words it is to name
// functions in.
#include <string_view>

#include "jail/spawner.h"
#include "jail/symbols.h"

using namespace crosvm;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Result<jail::SpawnRequest> request = jail::DecodeSpawnRequest({data, size});
  if (request.has_value()) {
    // What is accepted survives the way back.
    const std::vector<uint8_t> again = jail::EncodeSpawnRequest(*request);
    const Result<jail::SpawnRequest> back = jail::DecodeSpawnRequest(again);
    if (!back.has_value() || back->spawn.argv != request->spawn.argv ||
        back->spawn.uid_map != request->spawn.uid_map ||
        back->spawn.gid_map != request->spawn.gid_map) {
      __builtin_trap();
    }
  }
  const Result<jail::SpawnAnswer> answer = jail::DecodeSpawnAnswer({data, size});
  if (answer.has_value() && jail::EncodeSpawnAnswer(*answer).size() != size) __builtin_trap();
  // SAFETY: bytes seen as characters.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const jail::Symbols* const symbols = new jail::Symbols(sys::UniqueFd());
  if (symbols->Annotate(text) != text) __builtin_trap();
  return 0;
}
