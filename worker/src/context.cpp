// The few settings and readings of libtorch that tch does not offer, for context.rs.

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/GradMode.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" {

// A tensor of bytes over memory of a processor, as tch holds one. `release(owner)` is called when nobody needs the memory any
// more. Null where it cannot be made; then it is never called.
void *maple_tensor_over(void *data, int64_t length, void (*release)(void *), void *owner) {
  try {
    auto deleter = [release, owner](void *) { release(owner); };
    return new at::Tensor(at::from_blob(data, {length}, deleter, at::TensorOptions().dtype(at::kByte)));
  } catch (const std::exception &) {
    return nullptr;
  }
}

// Whether operations of this thread are recorded for gradients.
bool maple_records_gradients() { return c10::GradMode::is_enabled(); }

// A copy of a tensor in memory that cards read by themselves, as tch holds one. Null where there is none.
void *maple_pinned(const void *tensor) {
  try {
    return new at::Tensor(static_cast<const at::Tensor *>(tensor)->pin_memory());
  } catch (const std::exception &) {
    return nullptr;
  }
}

// Writes the instructions that ATen's kernels use, e.g. "AVX512", and a zero; cuts what does not fit.
void maple_cpu_capability(char *text, size_t size) {
  std::strncpy(text, at::get_cpu_capability().c_str(), size - 1);
  text[size - 1] = 0;
}

// Whether convolutions and products may go through oneDNN.
void maple_use_onednn(bool use) { at::globalContext().setUserEnabledMkldnn(use); }

// The same bits whenever the same is computed on the same kind of card; an operation that cannot keep to that throws. fp32 is
// multiplied in fp32, or in TF32.
void maple_make_cuda_deterministic(bool in_tf32) {
  // cuBLAS reads this when it is first used; without it, libtorch refuses to promise anything of a product.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  auto &context = at::globalContext();
  context.setDeterministicAlgorithms(true, false);
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuDNN(in_tf32);
  context.setAllowTF32CuBLAS(in_tf32);
}

// The most bytes that the allocator has held on a card since it was last told to forget; -1 where it cannot tell.
int64_t maple_peak_cuda_memory(int device) {
  try {
    auto statistics = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    auto total = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return statistics.reserved_bytes[total].peak;
  } catch (const std::exception &) {
    return -1;
  }
}

// What the allocator holds on a card now becomes the most that it has held.
void maple_forget_peak_cuda_memory(int device) {
  try {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(device));
  } catch (const std::exception &) {
    // Nothing is held where there is no allocator yet.
  }
}

// Gives what the allocator keeps for later back to the cards.
void maple_empty_cuda_cache() {
  try {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
  } catch (const std::exception &) {
  }
}
}
