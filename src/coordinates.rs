//! Where a node stands: its values on the axes of its pipeline.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One value of an axis.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum AxisValue {
    /// E.g. a seed.
    Integer(i64),
    /// E.g. a data set's name.
    Text(String),
}

/// The axis values of one node, by axis name.
pub type Coordinates = BTreeMap<String, AxisValue>;

impl fmt::Display for AxisValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AxisValue::Integer(value) => write!(formatter, "{value}"),
            AxisValue::Text(value) => formatter.write_str(value),
        }
    }
}
