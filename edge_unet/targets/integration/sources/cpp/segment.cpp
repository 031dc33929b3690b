// Segment one frame: segment BUNDLE FRAME.ppm MASK.pgm [--threads N] [--repeat N | --bursts]
//
// The frame may have any size; the mask has the frame's. --repeat N runs N times more and prints their latency as one
// JSON line. --bursts reads run counts from stdin, one a line, and answers each with a JSON line of every sample:
// programs that are timed against each other take turns that way.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "images.hpp"
#include "segmenter.hpp"

namespace {

struct Arguments {
  std::vector<std::string> places;
  int threads = 1;
  int repeat = 0;
  bool bursts = false;
};

Arguments parse(int argc, char** argv) {
  Arguments given;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--bursts") {
      given.bursts = true;
    } else if ((word == "--threads" || word == "--repeat") && i + 1 < argc) {
      const int value = std::stoi(argv[++i]);
      if (value < 1) throw std::invalid_argument(word + ": expected 1 or more");
      (word == "--threads" ? given.threads : given.repeat) = value;
    } else if (word.compare(0, 2, "--") == 0) {
      throw std::invalid_argument("unknown option " + word);
    } else {
      given.places.push_back(word);
    }
  }
  if (given.places.size() != 3) {
    throw std::invalid_argument("usage: segment BUNDLE FRAME.ppm MASK.pgm [--threads N] [--repeat N | --bursts]");
  }
  return given;
}

// Nearest rank: the smallest sample that so many per cent of all do not exceed.
std::int64_t percentile(std::vector<std::int64_t> samples, std::size_t percent) {
  std::sort(samples.begin(), samples.end());
  const std::size_t rank = (percent * samples.size() + 99) / 100;
  return samples[std::max<std::size_t>(rank, 1) - 1];
}

struct Samples {
  std::vector<std::int64_t> infer_ns;
  std::vector<std::int64_t> total_ns;
};

Samples run(edge_unet::Segmenter& segmenter, const edge_unet::Image& frame, int count) {
  Samples samples;
  for (int i = 0; i < count; ++i) {
    segmenter(frame);
    samples.infer_ns.push_back(segmenter.timing().infer_ns);
    samples.total_ns.push_back(segmenter.timing().total_ns());
  }
  return samples;
}

void print_list(const char* name, const std::vector<std::int64_t>& values) {
  std::cout << "\"" << name << "\": [";
  for (std::size_t i = 0; i < values.size(); ++i) std::cout << (i == 0 ? "" : ", ") << values[i];
  std::cout << "]";
}

void print_percentiles(const char* name, const std::vector<std::int64_t>& samples) {
  std::cout << "\"" << name << "_p50_ns\": " << percentile(samples, 50) << ", \"" << name
            << "_p90_ns\": " << percentile(samples, 90);
}

void segment(const Arguments& given) {
  namespace model = edge_unet::model;
  const edge_unet::Image frame = edge_unet::in_order(edge_unet::read_image(given.places[1]), model::kPreprocess);
  edge_unet::Segmenter segmenter(given.places[0], given.threads);
  edge_unet::write_image(given.places[2], segmenter(frame));
  if (given.repeat > 0) {
    run(segmenter, frame, std::min(given.repeat, 10));  // warm-up, not counted
    const Samples samples = run(segmenter, frame, given.repeat);
    std::cout << "{\"runs\": " << given.repeat << ", \"threads\": " << given.threads << ", ";
    print_percentiles("infer", samples.infer_ns);
    std::cout << ", ";
    print_percentiles("total", samples.total_ns);
    std::cout << "}" << std::endl;
  }
  int count = 0;
  while (given.bursts && std::cin >> count) {
    const Samples samples = run(segmenter, frame, count);
    std::cout << "{";
    print_list("infer_ns", samples.infer_ns);
    std::cout << ", ";
    print_list("total_ns", samples.total_ns);
    std::cout << "}" << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    segment(parse(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
  return 0;
}
