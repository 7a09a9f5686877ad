//! `maple-pipe` reproduces the published tables of CLIP prompt learning from a DAG of content-hashed nodes.
//!
//! The modules stand in the order of their layers: each imports only from those above it in this list, which a test
//! (`tests/layers.rs`) holds it to. Nothing here knows libtorch: what computes with it is the package
//! `maple-pipe-worker`, which runs one node per process.

// What knows nobody.
pub mod architecture;
pub mod coordinates;
pub mod identity;
pub mod numerics;
pub mod parallel;
pub mod signals;
pub mod tally;
pub mod text;
pub mod watch;

// Mistakes and errors, and TOML text as values that know their places.
pub mod diagnostic;
pub mod document;
pub mod error;

// What is printed.
pub mod terminal;

// The machine: files, devices, cards, the net.
pub mod boot;
pub mod device;
pub mod digest;
pub mod made_by;

pub mod cards;
pub mod files;
pub mod shell;

pub mod download;
pub mod shipped;

// What pipelines are about: models, pictures, weights, methods, tables.
pub mod backbone;
pub mod plot;
pub mod tensorboard;
pub mod tokenizer;
pub mod weights;

pub mod data;
pub mod method;

pub mod evaluation;

pub mod table;

pub mod comparison;

// The engine.
pub mod inference;
pub mod measurement;
pub mod store;
pub mod task;

pub mod remote;

pub mod kind;

pub mod stages;

pub mod pipeline;

pub mod graph;

pub mod executor;

pub mod settings;

pub mod run;

// What people ask for.
pub mod bench;
pub mod doctor;
pub mod reference;
pub mod report;

pub mod cli;

#[cfg(test)]
#[path = "../tests/server/mod.rs"]
mod server;
