// Counts what libtorch does, by its own observers, for counting.rs.

#include <ATen/core/function_schema.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace profiler = torch::profiler::impl;

namespace {

std::atomic<int64_t> flops{0};
std::atomic<int64_t> operations{0};
at::CallbackHandle counting = at::INVALID_CALLBACK_HANDLE;

// An operation that has begun on this thread.
struct Begun {
  // One that it has called computes.
  bool computes;
  // What it does is counted already, by itself or by the one that called it.
  bool is_counted;
  // Floating-point operations per number of its result, where these are known by the size of that.
  int64_t per_output;
};

thread_local std::vector<Begun> begun;

bool starts_with(const std::string &text, const char *start) { return text.rfind(start, 0) == 0; }

bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// A product of (..., m, k) with whatever gives each of its rows `columns` numbers.
int64_t product(const at::Tensor &left, int64_t columns) { return 2 * left.numel() * columns; }

// What attention does with queries (..., Q, d), keys (..., K, d) and values (..., K, e): two products, and five when it goes
// back, which computes the weights again.
int64_t attention(const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, bool back) {
  int64_t width = query.size(-1), value_width = value.size(-1);
  int64_t weights = query.numel() / width * key.size(-2);
  return 2 * weights * (back ? 3 * width + 2 * value_width : width + value_width);
}

// The operations of what multiplies matrices; a multiplication and an addition are two. Nothing of all else.
int64_t flops_of(const std::string &name, c10::ArrayRef<const c10::IValue> inputs) {
  auto tensor = [&](size_t place) -> const at::Tensor & { return inputs[place].toTensor(); };
  if (name == "aten::mm" || name == "aten::bmm") return product(tensor(0), tensor(1).size(-1));
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::_addmm_activation")
    return product(tensor(1), tensor(2).size(-1));
  if (name == "aten::mv" || name == "aten::dot") return product(tensor(0), 1);
  if (name == "aten::addmv") return product(tensor(1), 1);
  if (name == "aten::convolution_backward") {
    auto wanted = inputs[10].toBoolList();
    int64_t once = tensor(0).numel() * (tensor(2).numel() / tensor(2).size(0)) * 2;
    return once * (int64_t(wanted[0]) + int64_t(wanted[1]));
  }
  if (starts_with(name, "aten::_scaled_dot_product_") && !ends_with(name, "_math"))
    return ends_with(name, "_backward") ? attention(tensor(1), tensor(2), tensor(3), true)
                                        : attention(tensor(0), tensor(1), tensor(2), false);
  return 0;
}

// Whether what calls nothing that computes does not compute, either: it makes room, looks at the same numbers in another way, or chooses what comes next.
bool computes_nothing(const at::RecordFunction &function, const std::string &name) {
  if (starts_with(name, "aten::empty") || starts_with(name, "aten::new_empty") || name == "aten::resize_" ||
      name == "aten::set_" || name == "aten::_fused_sdp_choice")
    return true;
  auto schema = function.operator_schema();
  if (!schema || schema->returns().empty()) return true;
  auto alias = schema->returns()[0].alias_info();
  return alias != nullptr && !alias->isWrite();
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction &function) {
  bool counted = !begun.empty() && begun.back().is_counted;
  std::string name = function.name();
  int64_t per_output = 0, found = 0;
  if (!counted && name == "aten::convolution") {
    const at::Tensor &weight = function.inputs()[1].toTensor();
    per_output = 2 * weight.numel() / weight.size(0);
  } else if (!counted) {
    found = flops_of(name, function.inputs());
  }
  flops += found;
  begun.push_back({false, counted || found > 0 || per_output > 0, per_output});
  return nullptr;
}

void end(const at::RecordFunction &function, at::ObserverContext *) {
  // It may have begun before anything was counted.
  if (begun.empty()) return;
  Begun one = begun.back();
  begun.pop_back();
  if (one.per_output > 0) flops += one.per_output * function.outputs()[0].toTensor().numel();
  if (!one.computes && !computes_nothing(function, function.name())) {
    operations += 1;
    one.computes = true;
  }
  if (!begun.empty()) begun.back().computes |= one.computes;
}

} // namespace

extern "C" {

// Counts the operations that libtorch dispatches on all threads from now on.
void maple_count_operations() {
  flops = 0;
  operations = 0;
  counting = at::addGlobalCallback(
      at::RecordFunctionCallback(begin, end).needsInputs(true).needsOutputs(true).scopes({at::RecordScope::FUNCTION}));
}

// Ends the counting: floating-point operations of what multiplies matrices, and operations that compute.
void maple_counted_operations(int64_t *floating, int64_t *all) {
  at::removeCallback(counting);
  *floating = flops;
  *all = operations;
}

// Counts the kernels that run on cards from now on; false where libtorch cannot.
bool maple_count_kernels() {
  try {
    profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
    std::set<profiler::ActivityType> activities{profiler::ActivityType::CUDA};
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
    return true;
  } catch (const std::exception &) {
    return false;
  }
}

// Ends the counting: kernels that have run, without copies and fills of memory; -1 where libtorch cannot tell.
int64_t maple_counted_kernels() {
  try {
    auto result = torch::autograd::profiler::disableProfiler();
    int64_t kernels = 0;
    for (const auto &event : result->events()) {
      std::string name = event.name();
      if (event.deviceType() == c10::DeviceType::CUDA && !starts_with(name, "Mem")) kernels += 1;
    }
    return kernels;
  } catch (const std::exception &) {
    return -1;
  }
}
}
