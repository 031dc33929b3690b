// Pixels -> the array the artifact takes, and its output -> class ids.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "types.hpp"

namespace edge_unet {

// (height, width, channels) pixels -> input `spec`, which lies at `to`.
// uint8 takes the pixels as they are, int8 takes pixel - 128, float takes (pixel - mean) * scale.
inline void write_input(const std::uint8_t* pixels, const TensorSpec& spec, const Preprocess& preprocess, void* to) {
  const std::size_t plane = std::size_t(spec.height()) * spec.width();
  const std::size_t channels = std::size_t(spec.channels());
  for (std::size_t i = 0; i < plane; ++i) {
    for (std::size_t c = 0; c < channels; ++c) {
      const std::uint8_t pixel = pixels[i * channels + c];
      const std::size_t place = spec.layout == Layout::kNhwc ? i * channels + c : c * plane + i;
      switch (spec.dtype) {
        case DType::kUint8: static_cast<std::uint8_t*>(to)[place] = pixel; break;
        case DType::kInt8: static_cast<std::uint8_t*>(to)[place] = pixel ^ 0x80; break;
        case DType::kFloat32:
          static_cast<float*>(to)[place] = (float(pixel) - preprocess.mean) * preprocess.scale;
          break;
      }
    }
  }
}

// (channels, plane) or (plane, channels) values -> the first channel of the largest; one channel: value > zero.
template <typename T>
void class_ids(const T* values, std::size_t channels, bool channels_last, T zero, std::vector<std::uint8_t>& ids) {
  const std::size_t plane = ids.size();
  if (channels == 1) {
    for (std::size_t i = 0; i < plane; ++i) ids[i] = std::uint8_t(values[i] > zero);
    return;
  }
  if (channels_last) {
    for (std::size_t i = 0; i < plane; ++i) {
      const T* pixel = values + i * channels;
      ids[i] = std::uint8_t(std::max_element(pixel, pixel + channels) - pixel);
    }
    return;
  }
  std::vector<T> most(values, values + plane);
  std::fill(ids.begin(), ids.end(), std::uint8_t(0));
  for (std::size_t c = 1; c < channels; ++c) {  // a plane at a time, which compilers turn into vector instructions
    const T* next = values + c * plane;
    for (std::size_t i = 0; i < plane; ++i) {
      ids[i] = next[i] > most[i] ? std::uint8_t(c) : ids[i];
      most[i] = std::max(most[i], next[i]);
    }
  }
}

// Output `spec` -> (height, width) class ids: logit > 0 for one channel, else the first of the largest. Read from the
// codes: no logit is computed. A float on a grid becomes its code first, since what the grid makes equal stays equal.
inline Image read_mask(const void* output, const TensorSpec& spec) {
  Image mask(spec.height(), spec.width(), 1);
  const std::size_t channels = std::size_t(spec.channels());
  const bool last = spec.layout == Layout::kNhwc;
  if (spec.dtype == DType::kInt8) {
    class_ids(static_cast<const std::int8_t*>(output), channels, last, std::int8_t(spec.zero_point), mask.pixels);
  } else if (spec.dtype == DType::kUint8) {
    class_ids(static_cast<const std::uint8_t*>(output), channels, last, std::uint8_t(spec.zero_point), mask.pixels);
  } else if (spec.has_grid) {
    const float* real = static_cast<const float*>(output);
    std::vector<std::int8_t> codes(mask.pixels.size() * channels);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = std::int8_t(std::clamp(std::nearbyint(real[i] / spec.scale), -128.0f, 127.0f));
    }
    class_ids(codes.data(), channels, last, std::int8_t(0), mask.pixels);
  } else {
    class_ids(static_cast<const float*>(output), channels, last, 0.0f, mask.pixels);
  }
  return mask;
}

}  // namespace edge_unet
