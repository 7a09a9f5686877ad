//! One tensor's values as a file holds them, and the little arithmetic that names and precisions need.

use bytes::Bytes;
use half::{bf16, f16};
use safetensors::Dtype;

/// The values of one tensor: little-endian, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The numbers' format.
    pub dtype: Dtype,
    /// The axes' lengths.
    pub shape: Vec<i64>,
    /// The values, in memory of their own or where a mapped file has them; a clone shares them.
    pub bytes: Bytes,
}

impl Array {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.bytes.len() / size(self.dtype)
    }

    /// The values in another floating-point format, rounded to nearest; integers stay as they are.
    pub fn to_float(&self, dtype: Dtype) -> Array {
        let wide = |dtype: Dtype, bytes: &[u8]| match (dtype, bytes) {
            (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
            (Dtype::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
            (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
            (_, bytes) => f64::from_le_bytes(bytes.try_into().expect("a floating-point format")),
        };
        let narrow = |value: f64, bytes: &mut Vec<u8>| match dtype {
            Dtype::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
            Dtype::BF16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
            Dtype::F32 => bytes.extend((value as f32).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        };
        if self.dtype == dtype || !is_float(self.dtype) {
            return self.clone();
        }
        let mut bytes = Vec::with_capacity(self.count() * size(dtype));
        self.bytes.chunks_exact(size(self.dtype)).for_each(|value| narrow(wide(self.dtype, value), &mut bytes));
        Array { dtype, shape: self.shape.clone(), bytes: bytes.into() }
    }

    /// How many values are infinite or no numbers.
    pub fn not_finite(&self) -> usize {
        let wide = self.to_float(Dtype::F64);
        let values = wide.bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
        values.filter(|value| is_float(wide.dtype) && !value.is_finite()).count()
    }

    /// A matrix with its axes swapped; anything else as it is.
    pub fn transposed(&self) -> Array {
        let &[rows, columns] = self.shape.as_slice() else { return self.clone() };
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let size = size(self.dtype);
        // Where there are no rows there may be any number of columns.
        let columns_there = if rows == 0 { 0 } else { columns as usize };
        for column in 0..columns_there {
            for row in 0..rows as usize {
                let start = (row * columns as usize + column) * size;
                bytes.extend(&self.bytes[start..start + size]);
            }
        }
        Array { dtype: self.dtype, shape: vec![columns, rows], bytes: bytes.into() }
    }

    /// Arrays of one format below each other; `None` where they do not fit.
    pub fn stacked(parts: &[Array]) -> Option<Array> {
        let first = parts.first()?;
        let alike = |part: &Array| {
            part.dtype == first.dtype && !part.shape.is_empty() && part.shape.get(1..) == first.shape.get(1..)
        };
        if !parts.iter().all(alike) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[0] = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(part.shape[0]))?;
        Some(Array { dtype: first.dtype, shape, bytes: parts.iter().flat_map(|part| &part.bytes).copied().collect() })
    }
}

/// Whether these are floating-point numbers that [`Array::to_float`] knows.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

/// Bytes of one number.
pub fn size(dtype: Dtype) -> usize {
    dtype.bitsize().div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[i64], values: &[f32]) -> Array {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Array { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn precisions_round_to_nearest_and_come_back() {
        let array = floats(&[4], &[1.0, -0.1, 70000.0, 1.000_488_3]);
        let half = array.to_float(Dtype::F16);
        assert_eq!(half.bytes[..], [0x00, 0x3c, 0x66, 0xae, 0x00, 0x7c, 0x00, 0x3c]);
        assert_eq!((array.not_finite(), half.not_finite()), (0, 1));
        let brain = array.to_float(Dtype::BF16);
        assert_eq!(brain.to_float(Dtype::F32), floats(&[4], &[1.0, -0.100_097_656, 70144.0, 1.0]));
        let double = array.to_float(Dtype::F64);
        assert_eq!((double.bytes.len(), double.to_float(Dtype::F32)), (32, array));
        let whole = Array { dtype: Dtype::I64, shape: vec![], bytes: vec![1; 8].into() };
        assert_eq!((whole.to_float(Dtype::F16), whole.not_finite()), (whole.clone(), 0));
    }

    #[test]
    fn matrices_are_turned_and_stacked() {
        let matrix = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(matrix.transposed(), floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let below = floats(&[1, 3], &[7.0, 8.0, 9.0]);
        let stacked = Array::stacked(&[matrix.clone(), below.clone()]).unwrap();
        assert_eq!(stacked, floats(&[3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]));
        assert_eq!(Array::stacked(&[matrix.clone(), below.transposed()]), None);
        assert_eq!(Array::stacked(&[matrix, below.to_float(Dtype::F16)]), None);
    }
}
