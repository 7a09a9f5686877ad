// Rows of a tensor by their numbers, for rows.rs: libtorch has the operation, and for its derivative the sum over all numbers.
// These know more of the numbers, and so need no sum, or a small one.

#include <ATen/ATen.h>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Spread : Function<Spread> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &numbers, const Tensor &back, int64_t shared,
                        int64_t classes) {
    context->save_for_backward({back});
    context->saved_data["shared"] = shared;
    context->saved_data["classes"] = classes;
    return x.index_select(1, numbers);
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const Tensor &gradient = gradients[0];
    auto by_class = gradient.reshape({gradient.size(0), context->saved_data["classes"].toInt(), -1, gradient.size(2)});
    auto of_shared = by_class.narrow(2, 0, context->saved_data["shared"].toInt()).sum(1);
    auto of_own = gradient.index_select(1, context->get_saved_variables()[0]);
    return {at::cat({of_shared, of_own}, 1), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct Pick : Function<Pick> {
  static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &numbers, const Tensor &back,
                        const Tensor &left) {
    context->save_for_backward({back, left});
    return x.index_select(1, numbers);
  }

  static variable_list backward(AutogradContext *context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    return {gradients[0].index_select(1, saved[0]).masked_fill_(saved[1], 0), Tensor(), Tensor(), Tensor()};
  }
};

// A tensor as tch holds one; null, and why in `error`, where it cannot be made.
template <class Make> void *made(Make make, char *error, size_t size) {
  try {
    return new Tensor(make());
  } catch (const std::exception &exception) {
    std::strncpy(error, exception.what(), size - 1);
    error[size - 1] = 0;
    return nullptr;
  }
}

const Tensor &tensor(const void *pointer) { return *static_cast<const Tensor *>(pointer); }
} // namespace

extern "C" {

void *maple_spread(const void *x, const void *numbers, const void *back, int64_t shared, int64_t classes, char *error,
                   size_t size) {
  return made([=] { return Spread::apply(tensor(x), tensor(numbers), tensor(back), shared, classes); }, error, size);
}

void *maple_pick(const void *x, const void *numbers, const void *back, const void *left, char *error, size_t size) {
  return made([=] { return Pick::apply(tensor(x), tensor(numbers), tensor(back), tensor(left)); }, error, size);
}
}
