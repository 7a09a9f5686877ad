//! The kinds of stage, one file each, and the list of them. Kinds that need libtorch have a second file in `worker`, which
//! computes what the kind describes here.

pub mod attention;
pub mod chosen;
pub mod command;
pub mod dataset;
pub mod eval;
pub mod features;
pub mod fewshot;
pub mod imported;
pub mod pretrain;
pub mod reported;
pub mod select;
pub mod table;
pub mod train;
pub mod world;

use crate::kind::Kind;

/// Every kind. Schema, reference, completions, forecasts, reports and tests walk this list.
pub static KINDS: [&Kind; 14] = [
    &world::KIND,
    &dataset::KIND,
    &pretrain::KIND,
    &fewshot::KIND,
    &train::KIND,
    &imported::KIND,
    &features::KIND,
    &eval::KIND,
    &attention::KIND,
    &reported::KIND,
    &select::KIND,
    &chosen::KIND,
    &table::KIND,
    &command::KIND,
];

/// All the words that `kind` may say.
pub fn names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// The kind of this name.
pub fn named(name: &str) -> Option<&'static Kind> {
    KINDS.into_iter().find(|kind| kind.name == name)
}
