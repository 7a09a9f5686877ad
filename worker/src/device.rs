//! The devices on which libtorch computes.
//!
//! The program is linked with libtorch's part for processors alone, so that one build serves machines with and without
//! graphics cards. The part for CUDA is loaded when a card is asked for.

use std::sync::LazyLock;

use maple_pipe::device::Device;
use maple_pipe::error::{Error, Result};
use maple_pipe::identity;
use maple_pipe::made_by::{MadeBy, Processor};
use maple_pipe::numerics::Numerics;
use maple_pipe::task::{About, CudaCard, CudaProblem};
use maple_pipe::terminal;

use crate::context;
use crate::cuda;
use crate::driver::Driver;

/// libtorch's part for CUDA.
const LIBRARY: &str = "libtorch_cuda.so";

/// Loads libtorch's part for CUDA, once; an error says why it cannot be loaded.
static CUDA: LazyLock<Result<(), String>> = LazyLock::new(|| {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library's initialisers are libtorch's own, which expect to be run by loading it into a process that
    // uses libtorch; nothing of it is used before.
    #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
    let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded: libtorch keeps pointers into it.
    library.map(std::mem::forget).map_err(|error| error.to_string())
});

/// The cards that libtorch can use, in CUDA's order.
///
/// # Errors
/// Why it can use none.
pub fn cards() -> Result<Vec<CudaCard>, CudaProblem> {
    if let Err(error) = &*CUDA {
        return Err(CudaProblem::Library(error.clone()));
    }
    let driver = Driver::start()?;
    let cards = driver.cards()?;
    if tch::Cuda::device_count() == 0 {
        return Err(CudaProblem::Unusable { driver: driver.version() });
    }
    Ok(cards)
}

/// What this worker and its libtorch are.
pub fn about() -> About {
    About {
        build: identity::BUILD.to_owned(),
        libtorch: context::libtorch_version(),
        path: context::libtorch_path(),
        instructions: context::cpu_capability(),
        cuda: cards(),
    }
}

/// The device in libtorch's words, ready to compute in this way, and what computes there.
///
/// # Errors
/// libtorch cannot use it; why not.
pub fn open(device: Device, numerics: Numerics) -> Result<(tch::Device, MadeBy)> {
    hold_to(numerics)?;
    let here = MadeBy::here();
    let instructions = Some(context::cpu_capability());
    let processor = Processor { instructions, numerics, ..here.processor.clone() };
    let made_by = MadeBy { libtorch: Some(context::libtorch_version()), processor, ..here };
    let Device::Cuda(number) = device else { return Ok((tch::Device::Cpu, made_by)) };
    let cards = cards().map_err(|problem| {
        let hint = format!("{}; or compute on the processor: `--devices cpu`", problem.hint());
        Error::hinted(format!("`{device}` cannot be used: {problem}"), hint)
    })?;
    let Some(one) = cards.get(number as usize) else {
        let hint = format!("CUDA's cards have the numbers 0 to {}", cards.len() - 1);
        return Err(Error::hinted(format!("there is no `{device}`"), hint));
    };
    context::make_cuda_deterministic(numerics == Numerics::Tf32);
    if let Err(error) = cuda::use_own_stream(number as usize) {
        terminal::warn(&format!("nodes take longer: {error}"));
    }
    Ok((tch::Device::Cuda(number as usize), MadeBy { card: Some(one.card.clone()), ..made_by }))
}

/// The device on which tests compute: `MAPLE_PIPE_TEST_DEVICE`, e.g. `cuda:0`; without it the processor.
#[cfg(test)]
pub(crate) fn of_tests() -> tch::Device {
    let name = std::env::var("MAPLE_PIPE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let device = name.parse().unwrap_or_else(|error| panic!("{error}"));
    open(device, Numerics::Native).unwrap_or_else(|error| panic!("{error}")).0
}

/// Sees to it that the processor computes in this way.
fn hold_to(numerics: Numerics) -> Result<()> {
    if numerics != Numerics::Portable {
        return Ok(());
    }
    let hint = "compute with `numerics = \"native\"`: the last bits are then those of this kind of processor";
    if !has_avx2() {
        return Err(Error::hinted("portable numerics need an x86-64 processor with AVX2 and FMA", hint));
    }
    if !context::answers_mkl() || context::cpu_capability() != "AVX2" {
        return Err(Error::hinted("this libtorch cannot be held to portable numerics", hint));
    }
    context::use_onednn(false);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    #[ignore = "needs a graphics card: MAPLE_PIPE_TEST_DEVICE=cuda:0"]
    fn products_are_rounded_to_tf32_where_that_is_asked_for() {
        let device = of_tests();
        assert!(device.is_cuda());
        let matrix = |modulus: i64| {
            let numbers = Tensor::arange(512 * 512, (Kind::Int64, device)).remainder(modulus) + 1;
            (numbers.to_kind(Kind::Float) / modulus).reshape([512, 512])
        };
        let [left, right] = [1013, 1019].map(matrix);
        let product = |in_tf32| {
            context::make_cuda_deterministic(in_tf32);
            left.matmul(&right)
        };
        let [exact, rounded, again] = [false, true, false].map(product);
        assert!(exact.equal(&again));
        let difference = ((&rounded - &exact) / &exact).abs().max().double_value(&[]);
        assert!((1e-6..1e-3).contains(&difference), "{difference}");
    }
}
