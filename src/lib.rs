//! `maple-pipe` reproduces the published tables of CLIP prompt learning from a DAG of content-hashed nodes.

pub mod architecture;
pub mod data;
pub mod error;
pub mod graph;
pub mod method;
pub mod pipeline;
pub mod run;
pub mod stage;
pub mod store;
pub mod table;
