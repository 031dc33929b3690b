// Frames in and masks out without a library: PPM and PGM files, and a stream of either or of YUV4MPEG2 on stdin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "types.hpp"

namespace edge_unet {

// A frame of 1 or 3 channels (RGB) in the colours that a model takes. Grey as OpenCV computes it.
inline Image in_order(Image frame, const Preprocess& spec) {
  const std::size_t count = std::size_t(frame.height) * frame.width;
  if (frame.channels == 1 && spec.channels == 3) {
    Image wide(frame.height, frame.width, 3);
    for (std::size_t i = 0; i < 3 * count; ++i) wide.pixels[i] = frame.pixels[i / 3];
    return wide;
  }
  if (frame.channels == 3 && spec.color_order == ColorOrder::kGray) {
    Image grey(frame.height, frame.width, 1);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint8_t* p = frame.pixels.data() + 3 * i;
      grey.pixels[i] = std::uint8_t((p[0] * 9798 + p[1] * 19235 + p[2] * 3735 + 16384) >> 15);
    }
    return grey;
  }
  if (frame.channels == 3 && spec.color_order == ColorOrder::kBgr) {
    for (std::size_t i = 0; i < count; ++i) std::swap(frame.pixels[3 * i], frame.pixels[3 * i + 2]);
  }
  return frame;
}

namespace detail {

inline int number(std::istream& in) {
  in >> std::ws;
  while (in.peek() == '#') {
    std::string comment;
    std::getline(in, comment);
    in >> std::ws;
  }
  int value = 0;
  if (!(in >> value) || value < 1 || value > 32767) throw std::runtime_error("not a PPM or PGM of 8 bits");
  return value;
}

inline std::uint8_t clamped(int value) { return std::uint8_t(std::clamp(value, 0, 255)); }

}  // namespace detail

// The next PPM (RGB) or PGM (grey) of a stream; an image of height 0 at its end.
inline Image read_netpbm(std::istream& in) {
  char kind[2] = {0, 0};
  if (!in.read(kind, 2)) return Image();
  if (kind[0] != 'P' || (kind[1] != '5' && kind[1] != '6')) throw std::runtime_error("expected PPM (P6) or PGM (P5)");
  const int width = detail::number(in);
  const int height = detail::number(in);
  if (detail::number(in) != 255) throw std::runtime_error("expected 8 bits a channel (a maximum of 255)");
  in.get();  // the one blank behind the header
  Image image(height, width, kind[1] == '6' ? 3 : 1);
  if (!in.read(reinterpret_cast<char*>(image.pixels.data()), std::streamsize(image.pixels.size()))) {
    throw std::runtime_error("the image ends before its last pixel");
  }
  return image;
}

inline Image read_image(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot read");
  Image image = read_netpbm(in);
  if (image.height == 0) throw std::runtime_error(path + ": is empty");
  return image;
}

inline void write_netpbm(std::ostream& out, const Image& image) {
  out << (image.channels == 3 ? "P6" : "P5") << "\n" << image.width << " " << image.height << "\n255\n";
  out.write(reinterpret_cast<const char*>(image.pixels.data()), std::streamsize(image.pixels.size()));
}

inline void write_image(const std::string& path, const Image& image) {
  std::ofstream out(path, std::ios::binary);
  write_netpbm(out, image);
  if (!out.flush()) throw std::runtime_error(path + ": cannot write");
}

// Frames of a stream: YUV4MPEG2 with 4:2:0 (what ffmpeg and GStreamer's y4menc write), or PPM after PPM.
class FrameStream {
 public:
  explicit FrameStream(std::istream& in) : in_(in) {
    if (in_.peek() != 'Y') return;
    std::string header;
    std::getline(in_, header);
    if (header.compare(0, 9, "YUV4MPEG2") != 0) throw std::runtime_error("expected a YUV4MPEG2 or PPM stream");
    for (std::size_t at = header.find(' '); at != std::string::npos; at = header.find(' ', at + 1)) {
      const std::string value = header.substr(at + 2, header.find(' ', at + 1) - at - 2);
      if (header[at + 1] == 'W') width_ = std::stoi(value);
      if (header[at + 1] == 'H') height_ = std::stoi(value);
      if (header[at + 1] == 'C' && (value.compare(0, 3, "420") != 0 || value.compare(0, 5, "420p1") == 0)) {
        throw std::runtime_error("YUV4MPEG2 with C" + value + "; expected 4:2:0 of 8 bits (ffmpeg -pix_fmt yuv420p)");
      }
    }
    if (width_ < 1 || height_ < 1) throw std::runtime_error("YUV4MPEG2 without width or height");
  }

  // RGB, or an image of height 0 at the end.
  Image next() { return width_ > 0 ? next_yuv() : read_netpbm(in_); }

 private:
  Image next_yuv() {
    std::string header;
    if (!std::getline(in_, header)) return Image();
    if (header.compare(0, 5, "FRAME") != 0) throw std::runtime_error("YUV4MPEG2: expected FRAME");
    const int half_height = (height_ + 1) / 2;
    const int half_width = (width_ + 1) / 2;
    const std::size_t luma = std::size_t(height_) * width_;
    const std::size_t chroma = std::size_t(half_height) * half_width;
    planes_.resize(luma + 2 * chroma);
    if (!in_.read(reinterpret_cast<char*>(planes_.data()), std::streamsize(planes_.size()))) {
      throw std::runtime_error("YUV4MPEG2: the stream ends inside a frame");
    }
    Image frame(height_, width_, 3);
    for (int y = 0; y < height_; ++y) {
      for (int x = 0; x < width_; ++x) {  // BT.601, limited range, 8 bits of fraction
        const std::size_t at = luma + std::size_t(y / 2) * half_width + x / 2;
        const int light = 298 * (planes_[std::size_t(y) * width_ + x] - 16) + 128;
        const int u = planes_[at] - 128;
        const int v = planes_[at + chroma] - 128;
        std::uint8_t* out = frame.row(y) + 3 * x;
        out[0] = detail::clamped((light + 409 * v) >> 8);
        out[1] = detail::clamped((light - 100 * u - 208 * v) >> 8);
        out[2] = detail::clamped((light + 516 * u) >> 8);
      }
    }
    return frame;
  }

  std::istream& in_;
  int width_ = 0;
  int height_ = 0;
  std::vector<std::uint8_t> planes_;
};

}  // namespace edge_unet
