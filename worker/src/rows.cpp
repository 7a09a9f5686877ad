// Rows of a tensor by their numbers, for rows.rs: libtorch has the operation, and for its derivative the sum over all numbers.
// These know more of the numbers, and so need no sum, or a small one.

#include "attempt.h"

#include <ATen/ATen.h>
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

const Tensor &tensor(const void *pointer) { return *static_cast<const Tensor *>(pointer); }
} // namespace

// Both leave a tensor as tch holds one.
extern "C" {

const char *maple_spread(const void *x, const void *numbers, const void *back, int64_t shared, int64_t classes, Tensor **made) {
  return attempt([=] { *made = new Tensor(Spread::apply(tensor(x), tensor(numbers), tensor(back), shared, classes)); });
}

const char *maple_pick(const void *x, const void *numbers, const void *back, const void *left, Tensor **made) {
  return attempt([=] { *made = new Tensor(Pick::apply(tensor(x), tensor(numbers), tensor(back), tensor(left))); });
}
}
