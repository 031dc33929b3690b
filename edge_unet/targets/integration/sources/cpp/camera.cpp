// Segment a stream of frames: camera BUNDLE [--threads N] [--frames N] [--device N] > OVERLAY.ppm-stream
//
// Frames come from stdin (YUV4MPEG2 or PPM after PPM), the overlaid frames go to stdout as PPM after PPM, the timing to
// stderr as one JSON line. With ffmpeg, for example:
//   ffmpeg -f v4l2 -i /dev/video0 -pix_fmt yuv420p -f yuv4mpegpipe - | camera BUNDLE | ffplay -f image2pipe -i -
// Where OpenCV was found when this was built, --device N opens camera N by itself and shows a window; q ends it.
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>

#include "images.hpp"
#include "segmenter.hpp"

#ifdef EDGE_UNET_OPENCV
#include <opencv2/highgui.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#endif

namespace {

namespace model = edge_unet::model;
using edge_unet::Image;

struct Arguments {
  std::string bundle;
  int threads = 1;
  int frames = 0;  // 0: all
  int device = -1;  // -1: stdin
};

Arguments parse(int argc, char** argv) {
  Arguments given;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool takes_number = word == "--threads" || word == "--frames" || word == "--device";
    if (takes_number && i + 1 < argc) {
      (word == "--threads" ? given.threads : word == "--frames" ? given.frames : given.device) = std::stoi(argv[++i]);
    } else if (word.compare(0, 2, "--") != 0 && given.bundle.empty()) {
      given.bundle = word;
    } else {
      throw std::invalid_argument("unknown option " + word);
    }
  }
  if (given.bundle.empty()) {
    throw std::invalid_argument("usage: camera BUNDLE [--threads N] [--frames N] [--device N] < FRAMES > OVERLAYS");
  }
  return given;
}

// Half the frame, half the colour of its class; class 0 and values without a class stay as they are. RGB in place.
void draw(Image& frame, const Image& mask) {
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
    const std::uint8_t value = mask.pixels[i];
    if (value == 0 || value >= model::kClasses) continue;
    for (int c = 0; c < 3; ++c) {
      frame.pixels[3 * i + c] = std::uint8_t((frame.pixels[3 * i + c] + model::kPalette[value][c]) / 2);
    }
  }
}

struct Sum {
  int frames = 0;
  std::int64_t infer_ns = 0;
  std::int64_t total_ns = 0;

  void add(const edge_unet::Timing& timing) {
    ++frames;
    infer_ns += timing.infer_ns;
    total_ns += timing.total_ns();
  }
  void print() const {
    const double count = frames > 0 ? frames : 1;
    std::cerr << "{\"frames\": " << frames << ", \"infer_mean_ms\": " << infer_ns / count / 1e6
              << ", \"total_mean_ms\": " << total_ns / count / 1e6 << "}" << std::endl;
  }
};

// An RGB or grey frame -> the picture with its mask, RGB.
Image show(edge_unet::Segmenter& segmenter, Image frame, Sum& sum) {
  const Image mask = segmenter(edge_unet::in_order(frame, model::kPreprocess));
  sum.add(segmenter.timing());
  if (frame.channels == 1) {
    Image wide(frame.height, frame.width, 3);
    for (std::size_t i = 0; i < wide.pixels.size(); ++i) wide.pixels[i] = frame.pixels[i / 3];
    frame = std::move(wide);
  }
  draw(frame, mask);
  return frame;
}

void from_stdin(edge_unet::Segmenter& segmenter, int limit, Sum& sum) {
  edge_unet::FrameStream stream(std::cin);
  while (limit == 0 || sum.frames < limit) {
    Image frame = stream.next();
    if (frame.height == 0) return;
    edge_unet::write_netpbm(std::cout, show(segmenter, std::move(frame), sum));
    std::cout.flush();
  }
}

#ifdef EDGE_UNET_OPENCV
void from_device(edge_unet::Segmenter& segmenter, int device, int limit, Sum& sum) {
  cv::VideoCapture capture(device);
  if (!capture.isOpened()) throw std::runtime_error("camera " + std::to_string(device) + " cannot be opened");
  capture.set(cv::CAP_PROP_BUFFERSIZE, 1);  // the newest frame, not the oldest
  cv::Mat bgr, rgb;
  while ((limit == 0 || sum.frames < limit) && capture.read(bgr)) {
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    Image frame(rgb.rows, rgb.cols, 3);
    for (int y = 0; y < rgb.rows; ++y) std::copy_n(rgb.ptr<std::uint8_t>(y), 3 * rgb.cols, frame.row(y));
    Image picture = show(segmenter, std::move(frame), sum);
    cv::cvtColor(cv::Mat(picture.height, picture.width, CV_8UC3, picture.pixels.data()), bgr, cv::COLOR_RGB2BGR);
    cv::imshow(model::kName, bgr);
    if (cv::waitKey(1) == 'q') return;
  }
}
#else
void from_device(edge_unet::Segmenter&, int, int, Sum&) {
  throw std::runtime_error("--device needs OpenCV, which was not found when this was built; pipe frames into stdin");
}
#endif

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments given = parse(argc, argv);
    edge_unet::Segmenter segmenter(given.bundle, given.threads);
    Sum sum;
    if (given.device >= 0) {
      from_device(segmenter, given.device, given.frames, sum);
    } else {
      from_stdin(segmenter, given.frames, sum);
    }
    sum.print();
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
  return 0;
}
