// The model on LiteRT's CPU (XNNPACK), opened as edge_unet opens it: LiteRT 2.3 or newer, through its C API.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "edge_unet_model.hpp"
#include "litert.h"

namespace edge_unet {

class Runtime {
 public:
  // `artifact` is the .tflite file. Throws std::runtime_error naming the function and its status.
  Runtime(const std::string& artifact, int threads) {
    check(LiteRtCreateEnvironment(0, nullptr, &environment_), "LiteRtCreateEnvironment");
    check(LiteRtCreateModelFromFile(environment_, artifact.c_str(), &model_), "LiteRtCreateModelFromFile");
    check(LiteRtCreateOptions(&options_), "LiteRtCreateOptions");
    check(LiteRtSetOptionsHardwareAccelerators(options_, kLiteRtHwAcceleratorCpu), "hardware accelerators");
    add_option("xnnpack", "num_threads = " + std::to_string(threads) + "\n");
    check(LiteRtCreateCompiledModel(environment_, model_, options_, &compiled_), "LiteRtCreateCompiledModel");
    create_buffers();
  }

  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  ~Runtime() {
    for (LiteRtTensorBuffer buffer : inputs_) LiteRtDestroyTensorBuffer(buffer);
    for (LiteRtTensorBuffer buffer : outputs_) LiteRtDestroyTensorBuffer(buffer);
    if (compiled_ != nullptr) LiteRtDestroyCompiledModel(compiled_);
    if (options_ != nullptr) LiteRtDestroyOptions(options_);
    if (model_ != nullptr) LiteRtDestroyModel(model_);
    if (environment_ != nullptr) LiteRtDestroyEnvironment(environment_);
  }

  // `write(void*)` fills the input where it lies.
  template <typename Write>
  void feed(Write&& write) {
    write(lock(inputs_[0], kLiteRtTensorBufferLockModeWrite));
    check(LiteRtUnlockTensorBuffer(inputs_[0]), "LiteRtUnlockTensorBuffer");
  }

  void run() {
    check(LiteRtRunCompiledModel(compiled_, 0, inputs_.size(), inputs_.data(), outputs_.size(), outputs_.data()),
          "LiteRtRunCompiledModel");
  }

  // `read(const void*)` sees the mask's output where it lies; it is overwritten by the next run.
  template <typename Read>
  void read(Read&& read) {
    read(static_cast<const void*>(lock(outputs_[output_], kLiteRtTensorBufferLockModeRead)));
    check(LiteRtUnlockTensorBuffer(outputs_[output_]), "LiteRtUnlockTensorBuffer");
  }

 private:
  static void check(LiteRtStatus status, const char* what) {
    if (status != 0) throw std::runtime_error(std::string("LiteRT: ") + what + " failed with " + std::to_string(status));
  }

  void add_option(const char* kind, const std::string& text) {
    char* payload = static_cast<char*>(std::malloc(text.size() + 1));
    std::memcpy(payload, text.c_str(), text.size() + 1);
    LiteRtOpaqueOptions made = nullptr;
    check(LiteRtCreateOpaqueOptions(kind, payload, std::free, &made), "LiteRtCreateOpaqueOptions");
    check(LiteRtAddOpaqueOptions(options_, made), "LiteRtAddOpaqueOptions");
  }

  void create_buffers() {
    LiteRtSignature signature = nullptr;
    check(LiteRtGetModelSignature(model_, 0, &signature), "LiteRtGetModelSignature");
    LiteRtParamIndex count = 0;
    check(LiteRtGetNumSignatureInputs(signature, &count), "LiteRtGetNumSignatureInputs");
    for (LiteRtParamIndex i = 0; i < count; ++i) {
      LiteRtTensor tensor = nullptr;
      LiteRtTensorBufferRequirements needs = nullptr;
      check(LiteRtGetSignatureInputTensorByIndex(signature, i, &tensor), "input tensor");
      check(LiteRtGetCompiledModelInputBufferRequirements(compiled_, 0, i, &needs), "input requirements");
      inputs_.push_back(create_buffer(tensor, needs));
    }
    check(LiteRtGetNumSignatureOutputs(signature, &count), "LiteRtGetNumSignatureOutputs");
    for (LiteRtParamIndex i = 0; i < count; ++i) {
      LiteRtTensor tensor = nullptr;
      LiteRtTensorBufferRequirements needs = nullptr;
      const char* name = nullptr;
      check(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor), "output tensor");
      check(LiteRtGetCompiledModelOutputBufferRequirements(compiled_, 0, i, &needs), "output requirements");
      check(LiteRtGetSignatureOutputName(signature, i, &name), "LiteRtGetSignatureOutputName");
      if (std::strcmp(name, model::kOutput.name) == 0) output_ = i;
      outputs_.push_back(create_buffer(tensor, needs));
    }
    expect_bytes(inputs_[0], model::kInput.bytes());
    expect_bytes(outputs_[output_], model::kOutput.bytes());
  }

  LiteRtTensorBuffer create_buffer(LiteRtTensor tensor, LiteRtTensorBufferRequirements needs) {
    LiteRtRankedTensorType type = {};
    LiteRtTensorBuffer made = nullptr;
    check(LiteRtGetRankedTensorType(tensor, &type), "LiteRtGetRankedTensorType");
    check(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, needs, &made), "tensor buffer");
    return made;
  }

  static void expect_bytes(LiteRtTensorBuffer buffer, std::size_t expected) {
    std::size_t bytes = 0;
    check(LiteRtGetTensorBufferPackedSize(buffer, &bytes), "LiteRtGetTensorBufferPackedSize");
    if (bytes != expected) {
      throw std::runtime_error("the artifact is not the one edge_unet_model.hpp describes: a tensor of " +
                               std::to_string(bytes) + " bytes, expected " + std::to_string(expected));
    }
  }

  static void* lock(LiteRtTensorBuffer buffer, int mode) {
    void* address = nullptr;
    check(LiteRtLockTensorBuffer(buffer, &address, mode), "LiteRtLockTensorBuffer");
    return address;
  }

  LiteRtEnvironment environment_ = nullptr;
  LiteRtModel model_ = nullptr;
  LiteRtOptions options_ = nullptr;
  LiteRtCompiledModel compiled_ = nullptr;
  std::vector<LiteRtTensorBuffer> inputs_;
  std::vector<LiteRtTensorBuffer> outputs_;
  std::size_t output_ = 0;
};

}  // namespace edge_unet
