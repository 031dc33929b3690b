// The model on OpenVINO's CPU plugin, opened as edge_unet opens it.
#pragma once

#include <string>

#include <openvino/openvino.hpp>

namespace edge_unet {

class Runtime {
 public:
  // `artifact` is the folder with model.xml and model.bin. Throws ov::Exception where it cannot be compiled.
  Runtime(const std::string& artifact, int threads) {
    compiled_ = core_.compile_model(
        artifact + "/model.xml", "CPU",
        ov::hint::inference_precision(ov::element::f32),  // integer layers stay integer; bf16 would touch the rest
        ov::inference_num_threads(threads), ov::num_streams(1),
        ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY), ov::hint::enable_cpu_pinning(false));
    request_ = compiled_.create_infer_request();
    input_ = request_.get_input_tensor(0);
    output_ = request_.get_output_tensor(0);
  }

  // `write(void*)` fills the input where it lies.
  template <typename Write>
  void feed(Write&& write) {
    write(input_.data());
  }

  void run() { request_.infer(); }

  // `read(const void*)` sees the first output where it lies; it is overwritten by the next run.
  template <typename Read>
  void read(Read&& read) {
    read(static_cast<const void*>(output_.data()));
  }

 private:
  ov::Core core_;
  ov::CompiledModel compiled_;
  ov::InferRequest request_;
  ov::Tensor input_;
  ov::Tensor output_;
};

}  // namespace edge_unet
