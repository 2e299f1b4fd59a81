// Text made in a signal handler: no allocation, no locks, no C library.
#pragma once

#include <signal.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace crosvm::jail {

// Grows up to its fixed size and then drops the rest.
class SignalText {
 public:
  SignalText& Text(std::string_view text) {
    for (const char c : text) {
      if (size_ < text_.size()) text_[size_++] = c;
    }
    return *this;
  }

  // "0x1f".
  SignalText& Hex(uint64_t value) {
    Text("0x");
    return Number(value, 16);
  }

  SignalText& Decimal(uint64_t value) { return Number(value, 10); }

  std::string_view view() const { return {text_.data(), size_}; }

 private:
  SignalText& Number(uint64_t value, uint64_t base) {
    std::array<char, 20> digits{};
    size_t first = digits.size();
    do {
      digits[--first] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return Text({digits.data() + first, digits.size() - first});
  }

  std::array<char, 2048> text_{};
  size_t size_ = 0;
};

constexpr std::string_view CrashSignalName(int signal) {
  switch (signal) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGABRT:
      return "SIGABRT";
    case SIGILL:
      return "SIGILL";
    case SIGFPE:
      return "SIGFPE";
    default:
      return "a signal";
  }
}

}  // namespace crosvm::jail
