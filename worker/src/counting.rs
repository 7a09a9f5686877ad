//! Counts what libtorch does: `counting.cpp`, which observes it.
#![expect(unsafe_code, reason = "calls into C")]

unsafe extern "C" {
    fn maple_count_operations();
    fn maple_counted_operations(flops: *mut i64, operations: *mut i64);
    fn maple_count_kernels() -> bool;
    fn maple_counted_kernels() -> i64;
}

/// What libtorch has done, as far as it was counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// Floating-point operations of matrix products, convolutions and attention, of which a multiplication and an addition are
    /// two. Masked parts of attention count like all others.
    pub flops: u64,
    /// Operations that libtorch dispatched and that compute: neither views of the same numbers nor what only makes room. On a
    /// card each is one kernel, or a few.
    pub operations: u64,
}

/// Counts what libtorch is asked to do while `work` runs, on all threads. One may count at a time.
pub fn operations<T>(work: impl FnOnce() -> T) -> (T, Counted) {
    let (mut flops, mut operations) = (0, 0);
    // SAFETY: the first function adds an observer of libtorch's operations; the second removes it and writes two numbers.
    unsafe { maple_count_operations() };
    let result = work();
    // SAFETY: as above.
    unsafe { maple_counted_operations(&raw mut flops, &raw mut operations) };
    (result, Counted { flops: flops as u64, operations: operations as u64 })
}

/// Counts the kernels that run on cards while `work`, which waits for the card, runs; none where libtorch cannot tell.
pub fn kernels<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    // SAFETY: the functions switch libtorch's profiler on and off, and catch what it throws.
    let begun = unsafe { maple_count_kernels() };
    let result = work();
    // SAFETY: as above.
    let kernels = if begun { unsafe { maple_counted_kernels() } } else { -1 };
    (result, u64::try_from(kernels).ok())
}
