// What the worker needs of libtorch's part for CUDA that tch does not offer, for cuda.rs. It is a library of its own, which is
// loaded behind that part: the program itself runs without.
//
// Every function returns null, or what went wrong.

#include "attempt.h"

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace {
// The stream of this number on a card, the same at every call; none is the default one, where nothing can be recorded.
c10::cuda::CUDAStream stream(int device, int number) {
  static std::mutex mutex;
  static std::map<std::pair<int, int>, c10::cuda::CUDAStream> streams;
  std::lock_guard<std::mutex> guard(mutex);
  auto found = streams.find({device, number});
  if (found == streams.end()) {
    auto made = c10::cuda::getStreamFromPool(false, static_cast<c10::DeviceIndex>(device));
    found = streams.emplace(std::make_pair(device, number), made).first;
  }
  return found->second;
}

// Whatever `first` was given so far is done before `then` goes on.
void order(c10::cuda::CUDAStream first, c10::cuda::CUDAStream then) {
  cudaEvent_t event;
  C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  C10_CUDA_CHECK(cudaEventRecord(event, first));
  C10_CUDA_CHECK(cudaStreamWaitEvent(then, event));
  C10_CUDA_CHECK(cudaEventDestroy(event));
}

// The memory of tensors is given to nobody else before `user` is done with them.
void keep_for(c10::cuda::CUDAStream user, void **tensors, int count) {
  for (int place = 0; place < count; ++place) {
    const auto &tensor = *static_cast<at::Tensor *>(tensors[place]);
    if (tensor.is_cuda() && tensor.numel() > 0)
      c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(), user);
  }
}
} // namespace

extern "C" {

// From now on this thread's work on a card goes to a stream of ours, the same for all threads.
const char *maple_use_own_stream(int device) {
  return attempt([=] {
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
    c10::cuda::setCurrentCUDAStream(stream(device, 0));
  });
}

// From now on this thread's work goes to the stream of this number, from 1, behind what the own stream was given so far. It
// reads these tensors.
const char *maple_branch_begin(int device, int number, void **reads, int count) {
  return attempt([=] {
    order(stream(device, 0), stream(device, number));
    keep_for(stream(device, number), reads, count);
    c10::cuda::setCurrentCUDAStream(stream(device, number));
  });
}

// From now on it goes to the own stream again, beside what the other was given.
const char *maple_branch_end(int device) {
  return attempt([=] { c10::cuda::setCurrentCUDAStream(stream(device, 0)); });
}

// The own stream waits for the stream of this number, and goes on with what that has made.
const char *maple_branch_join(int device, int number, void **made, int count) {
  return attempt([=] {
    order(stream(device, number), stream(device, 0));
    keep_for(stream(device, 0), made, count);
  });
}

// Begins to record what this thread gives to its stream.
const char *maple_graph_begin(void **graph) {
  return attempt([=] {
    auto begun = std::make_unique<at::cuda::CUDAGraph>();
    c10::cuda::device_synchronize();
    // What other threads do meanwhile (a batch is loaded) breaks nothing.
    begun->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    *graph = begun.release();
  });
}

const char *maple_graph_end(void *graph) {
  return attempt([=] { static_cast<at::cuda::CUDAGraph *>(graph)->capture_end(); });
}

const char *maple_graph_replay(void *graph) {
  return attempt([=] { static_cast<at::cuda::CUDAGraph *>(graph)->replay(); });
}

const char *maple_graph_free(void *graph) {
  return attempt([=] { delete static_cast<at::cuda::CUDAGraph *>(graph); });
}
}
