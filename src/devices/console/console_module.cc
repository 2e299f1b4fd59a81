#include "devices/console/console_module.h"

#include "chardev/open.h"
#include "codec/cbor.h"
#include "codec/key_value.h"
#include "devices/console/console_device.h"
#include "devices/console/console_options.h"
#include "policies/console.h"

namespace crosvm::devices::console {
namespace {

// What travels from Prepare to Create.
struct PortStart {
  PortType type = PortType::kSink;
  std::string path;
  std::string name;
  std::optional<codec::FdSlot> output;
  std::optional<codec::FdSlot> input;

  static constexpr auto Describe() {
    return Fields(Field("type", &PortStart::type), Field("path", &PortStart::path),
                  Field("name", &PortStart::name), Field("output", &PortStart::output),
                  Field("input", &PortStart::input));
  }
};

struct ConsoleStart {
  std::vector<PortStart> ports;

  static constexpr auto Describe() { return Fields(Field("ports", &ConsoleStart::ports)); }
};

chardev::CharType CharTypeOf(PortType type) {
  switch (type) {
    case PortType::kSink:
      return chardev::CharType::kSink;
    case PortType::kStdout:
      return chardev::CharType::kStdout;
    case PortType::kFile:
      return chardev::CharType::kFile;
    case PortType::kSyslog:
      return chardev::CharType::kSyslog;
    case PortType::kUnix:
      return chardev::CharType::kUnixDatagram;
    case PortType::kUnixStream:
      return chardev::CharType::kUnixStream;
  }
  return chardev::CharType::kSink;
}

Result<PortStart> PreparePort(std::string_view text, size_t index, codec::FdTable& fds) {
  PortOptions options = TRY(codec::ParseKeyValue<PortOptions>(text));
  if (options.name.empty()) options.name = fmt::format("crosvm.port{}", index);
  chardev::CharFiles files = TRY(chardev::OpenCharFiles({.type = CharTypeOf(options.type),
                                                         .path = options.path,
                                                         .use_stdin = options.use_stdin,
                                                         .input_path = options.input,
                                                         .name = options.name,
                                                         .connect = true}));
  PortStart start{.type = options.type, .path = files.path, .name = options.name};
  if (files.output.valid()) start.output = fds.Put(std::move(files.output));
  if (files.input.valid()) start.input = fds.Put(std::move(files.input));
  return start;
}

Result<PreparedDevice> Prepare(std::string_view text) {
  PreparedDevice prepared;
  ConsoleStart start;
  while (true) {
    const size_t end = text.find(';');
    if (start.ports.size() == kMaxPorts) {
      return Fail(ErrorKind::kInvalidArgument, "a console has at most {} ports", kMaxPorts);
    }
    start.ports.push_back(TRY(PreparePort(text.substr(0, end), start.ports.size(), prepared.fds)));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  prepared.start = codec::ToCbor(start);
  return prepared;
}

Result<std::unique_ptr<Port>> CreatePort(const PortStart& start, codec::FdTable& fds,
                                         event::EventLoop& loop) {
  chardev::CharFiles files{.type = CharTypeOf(start.type), .path = start.path, .name = start.name};
  if (start.output) files.output = TRY(fds.Take(*start.output));
  if (start.input) files.input = TRY(fds.Take(*start.input));
  chardev::CharStreams streams = TRY(chardev::MakeCharStreams(loop, std::move(files)));
  return std::make_unique<Port>(loop, start.name, std::move(streams.sink),
                                std::move(streams.source));
}

Result<std::unique_ptr<virtio::Device>> Create(PreparedDevice prepared,
                                               const CreateContext& context) {
  const ConsoleStart start =
      TRY(codec::FromCbor<ConsoleStart>(prepared.start, prepared.fds.size()));
  if (start.ports.empty() || start.ports.size() > kMaxPorts) {
    return Fail(ErrorKind::kProtocol, "a console of {} ports", start.ports.size());
  }
  std::vector<std::unique_ptr<Port>> ports;
  ports.reserve(start.ports.size());
  for (const PortStart& port : start.ports) {
    ports.push_back(TRY(CreatePort(port, prepared.fds, context.loop)));
  }
  return std::make_unique<ConsoleDevice>(context.loop, std::move(ports));
}

}  // namespace

const DeviceModule kConsoleModule = {
    .name = "console",
    .summary = "one or more character ports (virtio-console)",
    .option_help =
        "type=sink|stdout|file|syslog|unix|unix-stream[,path=PATH][,input=PATH][,stdin]"
        "[,name=TEXT][;NEXT PORT]",
    .prepare = &Prepare,
    .create = &Create,
    .policy = policies::kConsole,
};

}  // namespace crosvm::devices::console
