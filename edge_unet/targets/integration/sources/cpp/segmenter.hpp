// Segmenter(bundle)(frame) -> mask: the whole of the sample in one call.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "edge_unet_model.hpp"
#include "frame.hpp"
#include "runtime.hpp"
#include "tensors.hpp"

namespace edge_unet {

// Nanoseconds spent on one frame.
struct Timing {
  std::int64_t preprocess_ns = 0;
  std::int64_t infer_ns = 0;
  std::int64_t postprocess_ns = 0;
  std::int64_t total_ns() const { return preprocess_ns + infer_ns + postprocess_ns; }
};

class Segmenter {
 public:
  // `bundle` is the folder with manifest.json. Throws std::exception where the runtime refuses the artifact.
  explicit Segmenter(const std::string& bundle, int threads = 1)
      : runtime_(bundle + "/" + model::kArtifact, threads),
        pixels_(std::size_t(model::kPreprocess.height) * model::kPreprocess.width * model::kPreprocess.channels) {}

  // (H, W, C) frame in the model's colour order -> (H, W) class ids. Throws on another number of channels.
  Image operator()(const Image& frame) {
    const std::int64_t begin = now();
    resize_frame(frame, model::kPreprocess, pixels_.data());
    runtime_.feed([&](void* input) { write_input(pixels_.data(), model::kInput, model::kPreprocess, input); });
    const std::int64_t fed = now();
    runtime_.run();
    const std::int64_t inferred = now();
    Image small;
    runtime_.read([&](const void* output) { small = read_mask(output, model::kOutput); });
    Image mask = restore_mask(small, frame.height, frame.width, model::kPreprocess);
    timing_ = {fed - begin, inferred - fed, now() - inferred};
    return mask;
  }

  // Of the last call.
  const Timing& timing() const { return timing_; }

 private:
  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  Runtime runtime_;
  std::vector<std::uint8_t> pixels_;
  Timing timing_;
};

}  // namespace edge_unet
