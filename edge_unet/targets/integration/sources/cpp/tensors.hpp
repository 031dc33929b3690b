// Pixels -> the array the artifact takes, and its output -> class ids.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

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

// One logit of output `spec`, on its grid where it has one.
inline float logit_at(const void* output, const TensorSpec& spec, std::size_t place) {
  switch (spec.dtype) {
    case DType::kInt8:
      return (float(static_cast<const std::int8_t*>(output)[place]) - float(spec.zero_point)) * spec.scale;
    case DType::kUint8:
      return (float(static_cast<const std::uint8_t*>(output)[place]) - float(spec.zero_point)) * spec.scale;
    case DType::kFloat32: break;
  }
  const float real = static_cast<const float*>(output)[place];
  if (!spec.has_grid) return real;
  return std::clamp(std::nearbyint(real / spec.scale), -128.0f, 127.0f) * spec.scale;
}

// Output `spec` -> (height, width) class ids: logit > 0 for one channel, else the first of the largest.
inline Image read_mask(const void* output, const TensorSpec& spec) {
  Image mask(spec.height(), spec.width(), 1);
  const std::size_t plane = mask.pixels.size();
  const std::size_t channels = std::size_t(spec.channels());
  for (std::size_t i = 0; i < plane; ++i) {
    const auto logit = [&](std::size_t c) {
      return logit_at(output, spec, spec.layout == Layout::kNhwc ? i * channels + c : c * plane + i);
    };
    std::size_t best = 0;
    float most = logit(0);
    for (std::size_t c = 1; c < channels; ++c) {
      const float value = logit(c);
      if (value > most) {
        most = value;
        best = c;
      }
    }
    mask.pixels[i] = channels == 1 ? std::uint8_t(most > 0.0f) : std::uint8_t(best);
  }
  return mask;
}

}  // namespace edge_unet
