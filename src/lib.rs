//! `maple-pipe` reproduces the published tables of CLIP prompt learning from a DAG of content-hashed nodes.
//!
//! Modules depend downwards only: cli -> pipeline -> graph -> run -> stage -> data, store, table. Nothing here knows
//! libtorch: what computes with it is the package `maple-pipe-worker`, which runs one node a process.

pub mod architecture;
pub mod bench;
pub mod cards;
pub mod cli;
pub mod data;
pub mod device;
pub mod doctor;
pub mod download;
pub mod error;
pub mod graph;
pub mod identity;
pub mod made_by;
pub mod method;
pub mod numerics;
pub mod pipeline;
pub mod plot;
pub mod report;
pub mod run;
pub mod stage;
pub mod store;
pub mod table;
pub mod task;
pub mod tensorboard;
pub mod text;
pub mod tokenizer;
pub mod weights;

#[cfg(test)]
#[path = "../tests/server/mod.rs"]
mod server;
