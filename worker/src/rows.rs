//! Rows of a tensor by their numbers, with gradients that go back by numbers: `rows.cpp`.
#![expect(unsafe_code, reason = "calls into C++")]

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn maple_spread(
        x: *const C_tensor,
        numbers: *const C_tensor,
        back: *const C_tensor,
        shared: i64,
        classes: i64,
        made: *mut *mut C_tensor,
    ) -> *const c_char;
    fn maple_pick(
        x: *const C_tensor,
        numbers: *const C_tensor,
        back: *const C_tensor,
        left: *const C_tensor,
        made: *mut *mut C_tensor,
    ) -> *const c_char;
}

/// The rows of `x` `(G, rows, W)` with these numbers, `(G, classes * length, W)`: those of one class after another. The `shared`
/// first rows of `x` begin every class, and `back` is a place of each other row, `(rows - shared,)`, the only one that has a
/// gradient.
///
/// # Panics
/// With what libtorch says, as tch does.
pub fn spread(x: &Tensor, numbers: &Tensor, back: &Tensor, shared: i64, classes: i64) -> Tensor {
    let [numbers, back] = [numbers, back].map(Tensor::as_ptr);
    // SAFETY: the tensors live longer than the call.
    made(|made| unsafe { maple_spread(x.as_ptr(), numbers, back, shared, classes, made) })
}

/// The rows of `x` `(G, rows, W)` with these numbers, each at most once: `(G, n, W)`. `back` `(rows,)` is the place of each row
/// that was chosen, and `left` `(rows, 1)` says which were not.
///
/// # Panics
/// With what libtorch says, as tch does.
pub fn pick(x: &Tensor, numbers: &Tensor, back: &Tensor, left: &Tensor) -> Tensor {
    let [numbers, back, left] = [numbers, back, left].map(Tensor::as_ptr);
    // SAFETY: as above.
    made(|made| unsafe { maple_pick(x.as_ptr(), numbers, back, left, made) })
}

/// What a function of `rows.cpp` makes.
fn made(make: impl Fn(*mut *mut C_tensor) -> *const c_char) -> Tensor {
    let mut tensor = std::ptr::null_mut();
    let error = make(&mut tensor);
    if !error.is_null() {
        // SAFETY: the text ends with a zero, and stays until this thread's next call.
        panic!("{}", unsafe { CStr::from_ptr(error) }.to_string_lossy());
    }
    // SAFETY: the pointer is to a tensor that is ours alone.
    unsafe { Tensor::from_ptr(tensor) }
}
