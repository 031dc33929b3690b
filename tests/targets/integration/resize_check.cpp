// For the tests: frame.hpp and images.hpp under any preprocessing.
// resize_check HEIGHT WIDTH ORDER RESIZE PAD FRAME.ppm INPUT.ppm MASK.pgm RESTORED.pgm
#include <cstdlib>
#include <fstream>
#include <string>

#include "frame.hpp"
#include "images.hpp"

int main(int, char** argv) {
  using namespace edge_unet;
  const std::string order = argv[3];
  const ColorOrder colors =
      order == "GRAY" ? ColorOrder::kGray : order == "BGR" ? ColorOrder::kBgr : ColorOrder::kRgb;
  const Resize resize = std::string(argv[4]) == "stretch" ? Resize::kStretch : Resize::kLetterbox;
  const Preprocess spec{std::atoi(argv[1]), std::atoi(argv[2]), order == "GRAY" ? 1 : 3, colors, resize, 0.0f, 1.0f,
                        std::uint8_t(std::atoi(argv[5]))};
  std::ifstream frames(argv[6], std::ios::binary), masks(argv[8], std::ios::binary);
  std::ofstream inputs(argv[7], std::ios::binary), restored(argv[9], std::ios::binary);
  for (Image frame = read_netpbm(frames); frame.height > 0; frame = read_netpbm(frames)) {
    const int height = frame.height, width = frame.width;
    Image input(spec.height, spec.width, spec.channels);
    resize_frame(in_order(frame, spec), spec, input.pixels.data());
    write_netpbm(inputs, input);
    write_netpbm(restored, restore_mask(read_netpbm(masks), height, width, spec));
  }
  return 0;
}
