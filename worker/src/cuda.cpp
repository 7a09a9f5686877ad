// What the worker needs of libtorch's part for CUDA that tch does not offer, for cuda.rs. It is a library of its own, which is
// loaded behind that part: the program itself runs without.
//
// Every function returns null, or what went wrong.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <map>
#include <memory>
#include <string>

namespace {
template <class Work> const char *attempt(Work work) {
  thread_local std::string text;
  try {
    work();
    return nullptr;
  } catch (const std::exception &error) {
    text = error.what();
    return text.c_str();
  }
}
} // namespace

extern "C" {

// From now on this thread's work on a card goes to a stream that is not the default one, where nothing can be recorded; to the
// same one at every call.
const char *maple_use_own_stream(int device) {
  return attempt([=] {
    static std::map<int, c10::cuda::CUDAStream> streams;
    auto index = static_cast<c10::DeviceIndex>(device);
    auto found = streams.find(device);
    if (found == streams.end())
      found = streams.emplace(device, c10::cuda::getStreamFromPool(false, index)).first;
    c10::cuda::set_device(index);
    c10::cuda::setCurrentCUDAStream(found->second);
  });
}

// Begins to record what this thread gives to its stream.
const char *maple_graph_begin(void **graph) {
  return attempt([=] {
    auto begun = std::make_unique<at::cuda::CUDAGraph>();
    c10::cuda::device_synchronize();
    begun->capture_begin();
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
