// Frame -> network input size, and mask -> frame size: byte for byte what edge_unet (OpenCV's arithmetic) does.
// Area averaging when both sides shrink, else bilinear in fixed point; masks by nearest pixel, exact.
// Compile with -ffp-contract=off: a fused multiply-add rounds once where these sums round twice.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "types.hpp"

namespace edge_unet {

// Where the frame lands in the input.
struct Inner {
  int top;
  int left;
  int height;
  int width;
};

inline Inner inner_of(int height, int width, const Preprocess& spec) {
  if (spec.resize == Resize::kStretch) return {0, 0, spec.height, spec.width};
  const double ratio = std::min(double(spec.height) / height, double(spec.width) / width);
  const int h = std::max(1, int(std::nearbyint(height * ratio)));  // half to even
  const int w = std::max(1, int(std::nearbyint(width * ratio)));
  return {(spec.height - h) / 2, (spec.width - w) / 2, h, w};
}

namespace detail {

inline double scale_of(int from, int to) { return 1.0 / (double(to) / from); }

inline std::uint8_t to_byte(float value) { return std::uint8_t(std::clamp(std::lrintf(value), 0L, 255L)); }

// One source pixel's share of one target pixel.
struct Tap {
  int to;
  int from;
  float share;
};

inline std::vector<Tap> area_taps(int from, int to) {
  const double scale = scale_of(from, to);
  std::vector<Tap> taps;
  for (int target = 0; target < to; ++target) {
    const double begin = target * scale;
    const double end = begin + scale;
    const double cell = std::min(scale, from - begin);
    const int last = std::min(int(std::floor(end)), from - 1);
    const int first = std::min(int(std::ceil(begin)), last);
    if (first - begin > 1e-3) taps.push_back({target, first - 1, float((first - begin) / cell)});
    for (int source = first; source < last; ++source) taps.push_back({target, source, float(1.0 / cell)});
    if (end - last > 1e-3) {
      taps.push_back({target, last, float(std::min(std::min(end - last, 1.0), cell) / cell)});
    }
  }
  return taps;
}

inline void shrink_by_whole(const Image& from, Image& to, int by_y, int by_x) {
  const int channels = from.channels;
  const bool two = by_y == 2 && by_x == 2;
  const float share = 1.0f / float(by_y * by_x);
  for (int y = 0; y < to.height; ++y) {
    std::uint8_t* out = to.row(y);
    for (int x = 0; x < to.width; ++x) {
      for (int c = 0; c < channels; ++c) {
        int sum = 0;
        for (int dy = 0; dy < by_y; ++dy) {
          const std::uint8_t* in = from.row(y * by_y + dy) + x * by_x * channels + c;
          for (int dx = 0; dx < by_x; ++dx) sum += in[dx * channels];
        }
        out[x * channels + c] = two ? std::uint8_t((sum + 2) >> 2) : to_byte(float(sum) * share);
      }
    }
  }
}

// One row of `from`, averaged to the width of `line`.
template <int kChannels>
void average_line(const std::uint8_t* in, const std::vector<Tap>& columns, float* line) {
  std::size_t k = 0;
  while (k < columns.size()) {
    const int to = columns[k].to;
    float sum[kChannels] = {};
    for (; k < columns.size() && columns[k].to == to; ++k) {
      const std::uint8_t* pixel = in + columns[k].from * kChannels;
      for (int c = 0; c < kChannels; ++c) sum[c] += float(pixel[c]) * columns[k].share;
    }
    for (int c = 0; c < kChannels; ++c) line[to * kChannels + c] = sum[c];
  }
}

template <int kChannels>
void average(const Image& from, Image& to) {
  const std::vector<Tap> columns = area_taps(from.width, to.width);
  const std::vector<Tap> rows = area_taps(from.height, to.height);
  const std::size_t size = std::size_t(to.width) * kChannels;
  std::vector<float> line(size);
  std::vector<float> sum(size);
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const float share = rows[j].share;
    if (j == 0 || rows[j - 1].from != rows[j].from) {  // a row that two targets share is averaged once
      average_line<kChannels>(from.row(rows[j].from), columns, line.data());
    }
    if (j == 0 || rows[j - 1].to != rows[j].to) {
      for (std::size_t x = 0; x < size; ++x) sum[x] = share * line[x];
    } else {
      for (std::size_t x = 0; x < size; ++x) sum[x] += share * line[x];
    }
    if (j + 1 == rows.size() || rows[j + 1].to != rows[j].to) {
      std::uint8_t* out = to.row(rows[j].to);
      for (std::size_t x = 0; x < size; ++x) out[x] = to_byte(sum[x]);
    }
  }
}

inline void shrink(const Image& from, Image& to) {
  const double scale_y = scale_of(from.height, to.height);
  const double scale_x = scale_of(from.width, to.width);
  const int by_y = int(std::lrint(scale_y));
  const int by_x = int(std::lrint(scale_x));
  if (std::abs(scale_y - by_y) < DBL_EPSILON && std::abs(scale_x - by_x) < DBL_EPSILON) {
    shrink_by_whole(from, to, by_y, by_x);
    return;
  }
  if (from.channels == 1) {
    average<1>(from, to);
  } else {
    average<3>(from, to);
  }
}

// Two neighbours and their weights in 1/2048.
struct Pair {
  int first;
  int second;
  int weight_first;
  int weight_second;
};

inline Pair pair_at(int target, int from, double scale, bool hold_border) {
  float part = float((target + 0.5) * scale - 0.5);
  int first = int(std::floor(part));
  part -= float(first);
  if (hold_border && (first < 0 || first >= from - 1)) part = 0.0f;  // columns; rows are clipped below
  const int second = std::clamp(first + 1, 0, from - 1);
  first = std::clamp(first, 0, from - 1);
  return {first, second, int(std::lrintf((1.0f - part) * 2048.0f)), int(std::lrintf(part * 2048.0f))};
}

inline void interpolate(const Image& from, Image& to) {
  const int channels = from.channels;
  const double scale_y = scale_of(from.height, to.height);
  const double scale_x = scale_of(from.width, to.width);
  std::vector<Pair> columns;
  for (int x = 0; x < to.width; ++x) columns.push_back(pair_at(x, from.width, scale_x, true));
  std::vector<int> lines[2] = {std::vector<int>(std::size_t(to.width) * channels),
                               std::vector<int>(std::size_t(to.width) * channels)};
  int held[2] = {-1, -1};  // which source row each line holds
  const auto line_of = [&](int y, int keep) {
    for (int k = 0; k < 2; ++k) {
      if (held[k] == y) return k;
    }
    const int k = keep == 0 ? 1 : 0;
    const std::uint8_t* in = from.row(y);
    for (int x = 0; x < to.width; ++x) {
      const Pair& p = columns[x];
      for (int c = 0; c < channels; ++c) {
        lines[k][x * channels + c] =
            in[p.first * channels + c] * p.weight_first + in[p.second * channels + c] * p.weight_second;
      }
    }
    held[k] = y;
    return k;
  };
  for (int y = 0; y < to.height; ++y) {
    const Pair p = pair_at(y, from.height, scale_y, false);
    const int first = line_of(p.first, held[0] == p.second ? 0 : -1);
    const int second = line_of(p.second, first);
    const int* above = lines[first].data();
    const int* below = lines[second].data();
    std::uint8_t* out = to.row(y);
    for (int x = 0; x < to.width * channels; ++x) {
      const int upper = (p.weight_first * (above[x] >> 4)) >> 16;
      const int lower = (p.weight_second * (below[x] >> 4)) >> 16;
      out[x] = std::uint8_t((upper + lower + 2) >> 2);
    }
  }
}

// The source index of every target index: half a step, then step by step, as OpenCV 5 and Pillow add them up.
inline std::vector<int> nearest(int from, int to) {
  const double step = double(from) / to;
  double place = step * 0.5;
  std::vector<int> indices(static_cast<std::size_t>(to));
  for (int& index : indices) {
    index = std::min(int(std::floor(place)), from - 1);
    place += step;
  }
  return indices;
}

}  // namespace detail

// (H, W, C) -> (spec.height, spec.width, C) written to `out`, same colours.
inline void resize_frame(const Image& frame, const Preprocess& spec, std::uint8_t* out) {
  if (frame.channels != spec.channels || frame.height < 1 || frame.width < 1) {
    throw std::invalid_argument("frame with " + std::to_string(frame.channels) + " channels; expected " +
                                std::to_string(spec.channels));
  }
  const Inner inner = inner_of(frame.height, frame.width, spec);
  const Image* scaled = &frame;
  Image made;
  if (frame.height != inner.height || frame.width != inner.width) {
    made = Image(inner.height, inner.width, frame.channels);
    if (inner.height < frame.height && inner.width < frame.width) {
      detail::shrink(frame, made);
    } else {
      detail::interpolate(frame, made);
    }
    scaled = &made;
  }
  const std::size_t line = std::size_t(spec.width) * spec.channels;
  if (inner.height != spec.height || inner.width != spec.width) std::memset(out, spec.pad_value, line * spec.height);
  for (int y = 0; y < inner.height; ++y) {
    std::memcpy(out + (inner.top + y) * line + std::size_t(inner.left) * spec.channels, scaled->row(y),
                std::size_t(inner.width) * spec.channels);
  }
}

// (spec.height, spec.width) class ids -> (height, width) of the frame; letterbox bars are cut.
inline Image restore_mask(const Image& mask, int height, int width, const Preprocess& spec) {
  const Inner inner = inner_of(height, width, spec);
  const std::vector<int> rows = detail::nearest(inner.height, height);
  const std::vector<int> columns = detail::nearest(inner.width, width);
  Image restored(height, width, 1);
  for (int y = 0; y < height; ++y) {
    const std::uint8_t* in = mask.row(inner.top + rows[y]) + inner.left;
    std::uint8_t* out = restored.row(y);
    for (int x = 0; x < width; ++x) out[x] = in[columns[x]];
  }
  return restored;
}

}  // namespace edge_unet
