//! Named tensors from which a state is written, and into which it is read again.

use tch::{Tensor, no_grad};

use crate::clip::{Weights, torch};
use maple_pipe::error::Result;

/// Copies `values` into these tensors.
///
/// # Errors
/// When a name or a shape differs; nothing has changed then.
pub(super) fn copy_into(tensors: &[(String, Tensor)], values: &Weights) -> Result<()> {
    let expected: Vec<(String, Vec<i64>)> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    values.shapes().expect(&expected)?;
    no_grad(|| {
        for (name, tensor) in tensors {
            if let Some(value) = values.get(name) {
                tensor.shallow_clone().f_copy_(value).map_err(torch)?;
            }
        }
        Ok(())
    })
}
