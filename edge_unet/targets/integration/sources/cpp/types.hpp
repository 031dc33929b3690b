// What a frame, a tensor and a preprocessing are: the words of edge_unet_model.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edge_unet {

enum class ColorOrder { kRgb, kBgr, kGray };
enum class Resize { kStretch, kLetterbox };
enum class DType { kFloat32, kInt8, kUint8 };
enum class Layout { kNchw, kNhwc };

// How a frame becomes the network's input: real = (pixel - mean) * scale.
struct Preprocess {
  int height;
  int width;
  int channels;
  ColorOrder color_order;
  Resize resize;
  float mean;
  float scale;
  std::uint8_t pad_value;
};

// One input or output. Where has_grid: real = (q - zero_point) * scale; on a float output the reader rounds to it.
struct TensorSpec {
  const char* name;
  std::array<int, 4> shape;
  DType dtype;
  Layout layout;
  bool has_grid;
  float scale;
  int zero_point;

  constexpr int height() const { return layout == Layout::kNchw ? shape[2] : shape[1]; }
  constexpr int width() const { return layout == Layout::kNchw ? shape[3] : shape[2]; }
  constexpr int channels() const { return layout == Layout::kNchw ? shape[1] : shape[3]; }
  constexpr std::size_t bytes() const {
    return std::size_t(1) * shape[0] * shape[1] * shape[2] * shape[3] * (dtype == DType::kFloat32 ? 4 : 1);
  }
};

// (height, width, channels) bytes, row by row. A mask has one channel: class ids.
struct Image {
  int height = 0;
  int width = 0;
  int channels = 0;
  std::vector<std::uint8_t> pixels;

  Image() = default;
  Image(int h, int w, int c) : height(h), width(w), channels(c), pixels(std::size_t(h) * w * c) {}
  const std::uint8_t* row(int y) const { return pixels.data() + std::size_t(y) * width * channels; }
  std::uint8_t* row(int y) { return pixels.data() + std::size_t(y) * width * channels; }
};

}  // namespace edge_unet
