//! Where a node stands: its values on the axes of its pipeline.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One value of an axis.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum AxisValue {
    /// E.g. a seed.
    Integer(i64),
    /// E.g. a learning rate.
    Float(Float),
    /// E.g. a data set's name.
    Text(Arc<str>),
}

/// A finite number that can be compared and hashed like any other axis value.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Float(f64);

impl Float {
    /// The number, unless it is infinite or none. There is one zero.
    pub fn new(value: f64) -> Option<Float> {
        value.is_finite().then_some(Float(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Float) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Float) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Display for Float {
    /// As short as it can be read back, e.g. `0.002` or `1e-7`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SMALL: f64 = 1e-4;
        const LARGE: f64 = 1e15;
        match self.0.abs() {
            size if size != 0.0 && !(SMALL..LARGE).contains(&size) => write!(formatter, "{:e}", self.0),
            _ => write!(formatter, "{:?}", self.0),
        }
    }
}

/// The axis values of one node, by axis name.
pub type Coordinates = BTreeMap<String, AxisValue>;

impl fmt::Display for AxisValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AxisValue::Integer(value) => write!(formatter, "{value}"),
            AxisValue::Float(value) => write!(formatter, "{value}"),
            AxisValue::Text(value) => formatter.write_str(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short_and_read_back() {
        let written = |value: f64| Float::new(value).unwrap().to_string();
        for (value, text) in
            [(0.002, "0.002"), (1e-4, "0.0001"), (2e-5, "2e-5"), (1.0, "1.0"), (-0.0, "0.0"), (1e20, "1e20")]
        {
            assert_eq!(written(value), text);
            assert_eq!(text.parse::<f64>().unwrap(), value);
        }
        assert_eq!(Float::new(-0.0), Float::new(0.0));
        assert_eq!((Float::new(f64::NAN), Float::new(f64::INFINITY)), (None, None));
        let values: Vec<AxisValue> = serde_json::from_str(r#"[1, 1.0, 0.5, "1"]"#).unwrap();
        let float = |value| AxisValue::Float(Float::new(value).unwrap());
        assert_eq!(values, [AxisValue::Integer(1), float(1.0), float(0.5), AxisValue::Text("1".into())]);
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"[1,1.0,0.5,"1"]"#);
    }
}
