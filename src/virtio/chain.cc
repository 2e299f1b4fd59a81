#include "virtio/chain.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace crosvm::virtio {

using memory::GuestSlice;

Chain::Chain(Chain&& other) noexcept {
  *this = std::move(other);
}

Chain& Chain::operator=(Chain&& other) noexcept {
  if (this == &other) return *this;
  CHECK(!live_, "a chain is overwritten that was not completed");
  id_ = other.id_;
  descriptors_ = other.descriptors_;
  inflight_entry_ = other.inflight_entry_;
  live_ = std::exchange(other.live_, false);
  recovered_ = other.recovered_;
  accepts_unreachable_ = other.accepts_unreachable_;
  unreachable_ = other.unreachable_;
  sequence_ = other.sequence_;
  readable_count_ = std::exchange(other.readable_count_, 0);
  readable_bytes_ = std::exchange(other.readable_bytes_, 0);
  writable_bytes_ = std::exchange(other.writable_bytes_, 0);
  slices_ = std::move(other.slices_);
  other.slices_.clear();
  return *this;
}

Chain::~Chain() {
  CHECK(!live_, "a chain is dropped that was not completed");
}

std::span<const GuestSlice> Chain::readable() const {
  return std::span(slices_).first(readable_count_);
}

std::span<const GuestSlice> Chain::writable() const {
  return std::span(slices_).subspan(readable_count_);
}

namespace {

uint64_t TotalSize(std::span<const GuestSlice> slices) {
  // The parts of a chain are below 4 GiB together; other callers' lists are slices of real memory.
  uint64_t total = 0;
  for (const GuestSlice& slice : slices) total += slice.size();
  return total;
}

// Visits the next `bytes` of the list and moves the cursor past them. REQUIRES: that many remain.
template <typename Visit>
void Advance(std::span<const GuestSlice>& slices, size_t& offset, uint64_t bytes, Visit&& visit) {
  while (bytes > 0) {
    const GuestSlice part = slices.front().Sub(offset, bytes);
    visit(part);
    bytes -= part.size();
    offset += part.size();
    if (offset == slices.front().size()) {
      slices = slices.subspan(1);
      offset = 0;
    }
  }
}

}  // namespace

SliceReader::SliceReader(std::span<const GuestSlice> slices)
    : slices_(slices), remaining_(TotalSize(slices)) {
}

bool SliceReader::Read(std::span<uint8_t> out) {
  if (out.size() > remaining_) return false;
  remaining_ -= out.size();
  Advance(slices_, offset_, out.size(),
          [&](const GuestSlice& part) { out = out.subspan(part.CopyTo(out)); });
  return true;
}

bool SliceReader::Skip(uint64_t bytes) {
  if (bytes > remaining_) return false;
  remaining_ -= bytes;
  Advance(slices_, offset_, bytes, [](const GuestSlice&) {});
  return true;
}

bool SliceReader::Take(uint64_t bytes, std::vector<GuestSlice>& out) {
  if (bytes > remaining_) return false;
  remaining_ -= bytes;
  Advance(slices_, offset_, bytes, [&](const GuestSlice& part) { out.push_back(part); });
  return true;
}

SliceWriter::SliceWriter(std::span<const GuestSlice> slices)
    : slices_(slices), remaining_(TotalSize(slices)) {
}

bool SliceWriter::Write(std::span<const uint8_t> in) {
  if (in.size() > remaining_) return false;
  remaining_ -= in.size();
  written_ += in.size();
  Advance(slices_, offset_, in.size(),
          [&](const GuestSlice& part) { in = in.subspan(part.CopyFrom(in)); });
  return true;
}

bool SliceWriter::Skip(uint64_t bytes) {
  if (bytes > remaining_) return false;
  remaining_ -= bytes;
  written_ += bytes;
  Advance(slices_, offset_, bytes, [](const GuestSlice&) {});
  return true;
}

bool SliceWriter::Take(uint64_t bytes, std::vector<GuestSlice>& out) {
  if (bytes > remaining_) return false;
  remaining_ -= bytes;
  written_ += bytes;
  Advance(slices_, offset_, bytes, [&](const GuestSlice& part) { out.push_back(part); });
  return true;
}

}  // namespace crosvm::virtio
