//! NVIDIA's driver, asked directly for the cards that CUDA shows this process, in CUDA's order.
#![expect(unsafe_code, reason = "calls into C")]

use std::ffi::{c_char, c_int, c_uint};

use libloading::Library;
use maple_pipe::cards;
use maple_pipe::made_by::Card;
use maple_pipe::task::{CudaCard, CudaProblem};

/// The driver's library for programs.
const LIBRARY: &str = "libcuda.so.1";
/// `CUDA_ERROR_NO_DEVICE` of NVIDIA's `cuda.h`.
const NO_DEVICE: c_int = 100;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `..._MINOR`.
const COMPUTE_CAPABILITY: [c_int; 2] = [75, 76];

/// The driver, started.
pub struct Driver(Library);

/// A function of the driver's by its type; all return 0 where they succeed.
macro_rules! call {
    ($driver:expr, $name:literal, ($($type:ty),*), ($($argument:expr),*)) => {{
        // SAFETY: the types are those of NVIDIA's `cuda.h`, and pointers lead to values that outlive the call.
        match unsafe { $driver.0.get::<unsafe extern "C" fn($($type),*) -> c_int>($name.as_bytes()) } {
            Ok(function) => match unsafe { function($($argument),*) } {
                0 => Ok(()),
                error => Err((error, format!("`{}` returns error {error}", $name))),
            },
            Err(error) => Err((-1, error.to_string())),
        }
    }};
}

impl Driver {
    /// Loads and starts the driver.
    ///
    /// # Errors
    /// There is none, it does not work, or it shows no card.
    pub fn start() -> Result<Driver, CudaProblem> {
        // SAFETY: the library's initialisers are the driver's own, made to be loaded into any process.
        let library = unsafe { Library::new(LIBRARY) }.map_err(|error| CudaProblem::NoDriver(error.to_string()))?;
        let driver = Driver(library);
        match call!(driver, "cuInit", (c_uint), (0)) {
            Ok(()) => Ok(driver),
            Err((NO_DEVICE, _)) => Err(CudaProblem::NoCard),
            Err((_, text)) => Err(CudaProblem::Driver(text)),
        }
    }

    /// The cards, in CUDA's order.
    ///
    /// # Errors
    /// The driver fails, or shows none.
    pub fn cards(&self) -> Result<Vec<CudaCard>, CudaProblem> {
        let failed = |(_, text): (c_int, String)| CudaProblem::Driver(text);
        let mut count: c_int = 0;
        call!(self, "cuDeviceGetCount", (*mut c_int), (&raw mut count)).map_err(failed)?;
        if count == 0 {
            return Err(CudaProblem::NoCard);
        }
        (0..count).map(|number| self.card(number).map_err(failed)).collect()
    }

    /// The version of CUDA that the driver is for, e.g. `13.0`.
    pub fn version(&self) -> String {
        let mut version: c_int = 0;
        let _ = call!(self, "cuDriverGetVersion", (*mut c_int), (&raw mut version));
        format!("{}.{}", version / 1000, version % 1000 / 10)
    }

    fn card(&self, number: c_int) -> Result<CudaCard, (c_int, String)> {
        let mut device: c_int = 0;
        call!(self, "cuDeviceGet", (*mut c_int, c_int), (&raw mut device, number))?;
        let mut name = [0u8; 256];
        let length = name.len() as c_int;
        call!(self, "cuDeviceGetName", (*mut c_char, c_int, c_int), (name.as_mut_ptr().cast(), length, device))?;
        let mut uuid = [0u8; 16];
        call!(self, "cuDeviceGetUuid_v2", (*mut u8, c_int), (uuid.as_mut_ptr(), device))?;
        let mut total: usize = 0;
        call!(self, "cuDeviceTotalMem_v2", (*mut usize, c_int), (&raw mut total, device))?;
        let mut capability = [0; 2];
        for (value, attribute) in capability.iter_mut().zip(COMPUTE_CAPABILITY) {
            let value: *mut c_int = value;
            call!(self, "cuDeviceGetAttribute", (*mut c_int, c_int, c_int), (value, attribute, device))?;
        }
        let name: Vec<u8> = name.into_iter().take_while(|&byte| byte != 0).collect();
        let card = Card {
            name: String::from_utf8_lossy(&name).into_owned(),
            uuid: format!("GPU-{}", hexadecimal(uuid)),
            compute_capability: format!("{}.{}", capability[0], capability[1]),
            driver: cards::driver_version(),
        };
        Ok(CudaCard { card, memory_total: total as u64 })
    }
}

/// 16 bytes as the driver's tools write them: `5a1f2e30-...`.
fn hexadecimal(bytes: [u8; 16]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| digits[part].concat()).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_written_as_the_driver_s_tools_write_it() {
        let bytes = std::array::from_fn(|place| place as u8 * 17);
        assert_eq!(hexadecimal(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }
}
