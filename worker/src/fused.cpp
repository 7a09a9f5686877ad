// Launches the kernels of fused.cu as operations of libtorch with derivatives, for fused.rs; part of the library that is loaded
// behind libtorch's part for CUDA.

#include "attempt.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// A function of CUDA's run-time compiler, which has been loaded.
template <class Type> Type of_compiler(const char *name) {
  void *found = dlsym(RTLD_DEFAULT, name);
  if (!found) throw std::runtime_error(std::string("CUDA's run-time compiler has no `") + name + "`");
  return reinterpret_cast<Type>(found);
}

// The code of a source for a card's architecture.
std::vector<char> compiled(const char *source, const std::string &number) {
  int device = c10::cuda::current_device(), major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  void *program = nullptr;
  auto create = of_compiler<int (*)(void **, const char *, const char *, int, const char *const *, const char *const *)>("nvrtcCreateProgram");
  auto compile = of_compiler<int (*)(void *, int, const char *const *)>("nvrtcCompileProgram");
  auto size_of_code = of_compiler<int (*)(void *, size_t *)>("nvrtcGetCUBINSize");
  auto get_code = of_compiler<int (*)(void *, char *)>("nvrtcGetCUBIN");
  auto destroy = of_compiler<int (*)(void **)>("nvrtcDestroyProgram");
  if (create(&program, source, "fused.cu", 0, nullptr, nullptr) != 0) throw std::runtime_error("CUDA's run-time compiler does not start");
  std::string architecture = "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  std::string define = "--define-macro=NUMBER=" + number;
  std::array<const char *, 2> options = {architecture.c_str(), define.c_str()};
  size_t size = 0;
  if (compile(program, options.size(), options.data()) != 0 || size_of_code(program, &size) != 0 || size == 0) {
    destroy(&program);
    throw std::runtime_error("CUDA's run-time compiler refuses `fused.cu`");
  }
  std::vector<char> code(size);
  get_code(program, code.data());
  destroy(&program);
  return code;
}

struct Kernels {
  cudaKernel_t layer_norm, layer_norm_back, quick_gelu, quick_gelu_back, class_attention, class_attention_back;
};

std::map<at::ScalarType, Kernels> kernels;

// They have been made, and no thread changes them.
const Kernels &kernels_of(const Tensor &x) { return kernels.at(x.scalar_type()); }

// The warps, so many lanes each, of a block.
constexpr int WARPS = 4, LANES = 32;

template <class... Arguments> void launch(cudaKernel_t kernel, dim3 blocks, size_t memory, Arguments... arguments) {
  void *pointers[] = {&arguments...};
  auto stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaLaunchKernel(reinterpret_cast<const void *>(kernel), blocks, dim3(WARPS * LANES), pointers, memory, stream));
}

// A tensor as the kernels read it: one row behind the other, from where sixteen bytes can be read at once.
Tensor in_order(const Tensor &x) {
  auto ordered = x.contiguous();
  return reinterpret_cast<uintptr_t>(ordered.const_data_ptr()) % 16 == 0 ? ordered : ordered.clone();
}

dim3 blocks_of(int64_t work, int64_t a_block) { return dim3(std::max<int64_t>(1, (work + a_block - 1) / a_block)); }

// The layer norm of `x`, or of `x + added`: the sums, and what is normalised.
struct LayerNorm : Function<LayerNorm> {
  static variable_list forward(AutogradContext *context, const Tensor &input, const std::optional<Tensor> &added,
                               const Tensor &weight, const Tensor &bias, double epsilon) {
    auto x = in_order(input), other = added ? in_order(*added) : Tensor();
    auto sums = added ? at::empty_like(x) : x;
    auto y = at::empty_like(x);
    int64_t width = x.size(-1), rows = x.numel() / width;
    auto means = at::empty({rows}, weight.options()), scales = at::empty({rows}, weight.options());
    launch(kernels_of(x).layer_norm, blocks_of(rows, WARPS), 0, x.const_data_ptr(), added ? other.const_data_ptr() : static_cast<const void *>(nullptr),
           added ? sums.mutable_data_ptr() : static_cast<void *>(nullptr), weight.const_data_ptr(), bias.const_data_ptr(), y.mutable_data_ptr(),
           means.mutable_data_ptr(), scales.mutable_data_ptr(), static_cast<long long>(rows), static_cast<int>(width / 8),
           static_cast<float>(epsilon));
    context->save_for_backward({sums, weight, means, scales});
    context->saved_data["is_sum"] = added.has_value();
    return added ? variable_list{sums, y} : variable_list{y};
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    const Tensor &x = saved[0];
    bool is_sum = context->saved_data["is_sum"].toBool();
    auto beside = is_sum && gradients[0].defined() ? in_order(gradients[0]) : Tensor();
    const Tensor &of_norm = gradients.back();
    if (!of_norm.defined()) return {beside, beside, Tensor(), Tensor(), Tensor()};
    auto gradient = in_order(of_norm), result = at::empty_like(x);
    int64_t width = x.size(-1), rows = x.numel() / width;
    launch(kernels_of(x).layer_norm_back, blocks_of(rows, WARPS), 0, x.const_data_ptr(), saved[1].const_data_ptr(),
           saved[2].const_data_ptr(), saved[3].const_data_ptr(), gradient.const_data_ptr(),
           beside.defined() ? beside.const_data_ptr() : static_cast<const void *>(nullptr), result.mutable_data_ptr(), static_cast<long long>(rows),
           static_cast<int>(width / 8));
    return {result, is_sum ? result : Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct QuickGelu : Function<QuickGelu> {
  static Tensor forward(AutogradContext *context, const Tensor &input, double factor) {
    auto x = in_order(input);
    auto y = at::empty_like(x);
    int64_t eights = x.numel() / 8;
    launch(kernels_of(x).quick_gelu, blocks_of(eights, WARPS * LANES), 0, x.const_data_ptr(), y.mutable_data_ptr(),
           static_cast<long long>(eights), static_cast<float>(factor), static_cast<float>(1.0 / factor));
    context->save_for_backward({x});
    context->saved_data["factor"] = factor;
    return y;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    auto x = context->get_saved_variables()[0];
    double factor = context->saved_data["factor"].toDouble();
    auto gradient = in_order(gradients[0]);
    auto result = at::empty_like(x);
    int64_t eights = x.numel() / 8;
    launch(kernels_of(x).quick_gelu_back, blocks_of(eights, WARPS * LANES), 0, x.const_data_ptr(), gradient.const_data_ptr(),
           result.mutable_data_ptr(), static_cast<long long>(eights), static_cast<float>(factor), static_cast<float>(1.0 / factor));
    return {result, Tensor()};
  }
};

// Numbers of a head, and of a row of keys in a block's memory with what keeps rows apart; see fused.cu.
constexpr int64_t HEAD = 64, KEYS = HEAD + 2;

struct ClassAttention : Function<ClassAttention> {
  static Tensor forward(AutogradContext *context, const Tensor &input, const Tensor &starts, int64_t shared, int64_t longest) {
    auto products = in_order(input);
    int64_t groups = products.size(0), rows = products.size(1), width = products.size(2) / 3, classes = starts.size(0) - 1;
    auto attended = at::empty({groups, rows, width}, products.options());
    size_t memory = longest * (HEAD * sizeof(float) + 2 * KEYS * 2);
    launch(kernels_of(products).class_attention, dim3(classes, width / HEAD, groups), memory, products.const_data_ptr(),
           starts.const_data_ptr(), attended.mutable_data_ptr(), static_cast<long long>(rows), static_cast<int>(shared),
           static_cast<int>(width), SCALE);
    context->save_for_backward({products, starts});
    context->saved_data["shared"] = shared;
    context->saved_data["longest"] = longest;
    return attended;
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    const Tensor &products = saved[0], &starts = saved[1];
    int64_t shared = context->saved_data["shared"].toInt(), longest = context->saved_data["longest"].toInt();
    int64_t groups = products.size(0), rows = products.size(1), width = products.size(2) / 3, classes = starts.size(0) - 1;
    auto gradient = in_order(gradients[0]);
    auto result = at::empty_like(products);
    auto of_shared = at::empty({groups, classes, shared, 2 * width}, products.options().dtype(at::kFloat));
    size_t memory = longest * (2 * HEAD * sizeof(float) + 2 * KEYS * 2) + 2 * longest * longest * sizeof(float);
    launch(kernels_of(products).class_attention_back, dim3(classes, width / HEAD, groups), memory, products.const_data_ptr(),
           starts.const_data_ptr(), gradient.const_data_ptr(), result.mutable_data_ptr(), of_shared.mutable_data_ptr(),
           static_cast<long long>(rows), static_cast<int>(shared), static_cast<int>(width), SCALE);
    result.narrow(1, 0, shared).narrow(2, width, 2 * width).copy_(of_shared.sum(1));
    return {result, Tensor(), Tensor(), Tensor()};
  }

  // One over the root of a head's numbers.
  static constexpr float SCALE = 0.125;
};

const Tensor &tensor(const void *pointer) { return *static_cast<const Tensor *>(pointer); }
} // namespace

extern "C" {

// Makes the kernels for tensors of this kind on this thread's card: fp16, or bf16. Null, or what went wrong.
const char *maple_fused_load(const char *source, bool is_bfloat16) {
  return attempt([=] {
    cudaLibrary_t library;
    auto code = compiled(source, is_bfloat16 ? "BFloat16" : "Half");
    C10_CUDA_CHECK(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    Kernels made;
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.layer_norm, library, "layer_norm"));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.layer_norm_back, library, "layer_norm_back"));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.quick_gelu, library, "quick_gelu"));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.quick_gelu_back, library, "quick_gelu_back"));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.class_attention, library, "class_attention"));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&made.class_attention_back, library, "class_attention_back"));
    kernels[is_bfloat16 ? at::kBFloat16 : at::kHalf] = made;
  });
}

// The layer norm of a tensor in 16 bits whose last size is a multiple of 8, as tch holds one. Null, or what went wrong.
const char *maple_fused_layer_norm(const void *x, const void *weight, const void *bias, double epsilon, void **y) {
  return attempt([=] {
    *y = new Tensor(LayerNorm::apply(tensor(x), std::nullopt, tensor(weight), tensor(bias), epsilon)[0]);
  });
}

// The sum of two such tensors, and the layer norm of that.
const char *maple_fused_sum_and_norm(const void *x, const void *added, const void *weight, const void *bias, double epsilon,
                                     void **sum, void **y) {
  return attempt([=] {
    auto made = LayerNorm::apply(tensor(x), std::optional<Tensor>(tensor(added)), tensor(weight), tensor(bias), epsilon);
    *sum = new Tensor(made[0]);
    *y = new Tensor(made[1]);
  });
}

// Causal attention of prompts of at most `longest` rows that begin with `shared` rows, given the queries, keys and values of
// their rows `(groups, rows, 3 width)`, and where each class's own rows begin and end `(classes + 1,)`.
const char *maple_fused_class_attention(const void *products, const void *starts, int64_t shared, int64_t longest, void **y) {
  return attempt([=] {
    *y = new Tensor(ClassAttention::apply(tensor(products), tensor(starts), shared, longest));
  });
}

// silu(factor x) / factor of such a tensor.
const char *maple_fused_quick_gelu(const void *x, double factor, void **y) {
  return attempt([=] {
    *y = new Tensor(QuickGelu::apply(tensor(x), factor));
  });
}
}
