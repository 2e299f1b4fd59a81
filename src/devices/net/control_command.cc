#include "devices/net/control_command.h"

#include "base/endian.h"
#include "devices/net/net_wire.h"
#include "virtio/chain.h"

namespace crosvm::devices::net {
namespace {

// Class and command, before the command's own data.
struct ControlHeader {
  uint8_t command_class;
  uint8_t command;
};
static_assert(sizeof(ControlHeader) == 2);

// A count, then that many addresses. False when the request ends before.
bool ReadMacTable(virtio::SliceReader& reader, std::vector<Mac>& table, bool& overflow) {
  const auto count = reader.Read<Le32>();
  if (!count) return false;
  const uint64_t entries = count->value();
  if (entries > reader.remaining() / sizeof(Mac)) return false;
  overflow = entries > kMaxMacTableEntries;
  if (overflow) return reader.Skip(entries * sizeof(Mac));
  for (uint64_t i = 0; i < entries; ++i) {
    const auto mac = reader.Read<Mac>();
    if (!mac) return false;
    table.push_back(*mac);
  }
  return true;
}

std::optional<ControlCommand> ParseRx(uint8_t mode, virtio::SliceReader& reader) {
  const auto on = reader.Read<uint8_t>();
  if (!on || mode > VIRTIO_NET_CTRL_RX_NOBCAST) return std::nullopt;
  return SetRxMode{.mode = mode, .on = *on != 0};
}

std::optional<ControlCommand> ParseMac(uint8_t command, virtio::SliceReader& reader) {
  if (command == VIRTIO_NET_CTRL_MAC_ADDR_SET) {
    const auto mac = reader.Read<Mac>();
    if (!mac) return std::nullopt;
    return SetMac{*mac};
  }
  if (command != VIRTIO_NET_CTRL_MAC_TABLE_SET) return std::nullopt;
  SetMacTables tables;
  if (!ReadMacTable(reader, tables.unicast, tables.unicast_overflow) ||
      !ReadMacTable(reader, tables.multicast, tables.multicast_overflow)) {
    return std::nullopt;
  }
  return tables;
}

}  // namespace

std::optional<ControlCommand> ParseControlCommand(std::span<const memory::GuestSlice> request) {
  virtio::SliceReader reader(request);
  const auto header = reader.Read<ControlHeader>();
  if (!header) return std::nullopt;
  switch (header->command_class) {
    case VIRTIO_NET_CTRL_RX:
      return ParseRx(header->command, reader);
    case VIRTIO_NET_CTRL_MAC:
      return ParseMac(header->command, reader);
    case VIRTIO_NET_CTRL_MQ: {
      const auto pairs = reader.Read<Le16>();
      if (!pairs || header->command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) return std::nullopt;
      return SetPairs{pairs->value()};
    }
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS: {
      const auto offloads = reader.Read<Le64>();
      if (!offloads || header->command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) return std::nullopt;
      return SetGuestOffloads{offloads->value()};
    }
    default:
      return std::nullopt;
  }
}

}  // namespace crosvm::devices::net
