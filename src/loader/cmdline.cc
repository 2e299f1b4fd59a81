#include "loader/cmdline.h"

#include <algorithm>

namespace crosvm::loader {
namespace {

Status CheckPrintable(std::string_view text) {
  const auto bad =
      std::find_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; });
  if (bad == text.end()) return {};
  return Fail(
      ErrorKind::kInvalidArgument,
      "the kernel command line takes printable ASCII only; byte {} of a parameter is {:#04x}",
      bad - text.begin(), static_cast<unsigned char>(*bad));
}

}  // namespace

Status Cmdline::Insert(std::string_view key, std::string_view value) {
  if (key.empty()) return Fail(ErrorKind::kInvalidArgument, "a kernel parameter has no name");
  TRY(CheckPrintable(key));
  TRY(CheckPrintable(value));
  if (key.find(' ') != key.npos || value.find(' ') != value.npos) {
    return Fail(ErrorKind::kInvalidArgument, "the kernel parameter '{}={}' contains a space", key,
                value);
  }
  if (key.find('=') != key.npos) {
    return Fail(ErrorKind::kInvalidArgument, "the name of the kernel parameter '{}' contains '='",
                key);
  }
  return Append(fmt::format("{}={}", key, value));
}

Status Cmdline::Append(std::string_view text) {
  if (text.empty()) return {};
  TRY(CheckPrintable(text));
  const size_t added = text.size() + (text_.empty() ? 0 : 1);
  if (text_.size() + added >= capacity_) {
    return Fail(ErrorKind::kInvalidArgument,
                "the kernel command line is too long: {} bytes, {} are possible",
                text_.size() + added, capacity_ - 1);
  }
  if (!text_.empty()) text_ += ' ';
  text_ += text;
  return {};
}

Status Cmdline::Write(const memory::GuestMemory& memory, memory::GuestAddr at) const {
  // SAFETY: the characters of a std::string and its terminating NUL.
  const auto* const bytes = reinterpret_cast<const uint8_t*>(text_.c_str());
  if (!memory.WriteBytes(at, {bytes, text_.size() + 1})) {
    return Fail(ErrorKind::kInvalidArgument,
                "the kernel command line does not fit in memory at {:#x}", at.value());
  }
  return {};
}

}  // namespace crosvm::loader
