//! The program as people use it: the real binary is started in a small project, and everything it prints is compared.
//! `SNAPSHOTS=overwrite cargo test --profile fast --test program` writes what it prints now into these files.

mod absent;
mod arguments;
mod attention;
mod axes;
mod bench;
mod command;
mod compare;
mod damage;
mod dassl;
mod data;
mod data_files;
mod doctor;
mod errors;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod failures;
mod faults;
mod feature_learners;
mod features;
mod gc;
mod graph;
mod help;
mod inputs;
mod keys;
mod kills;
mod made_by;
mod numbers;
#[cfg(feature = "remote")]
#[path = "../objects/mod.rs"]
mod objects;
mod on_end;
mod permissions;
mod pictures;
mod pixels;
mod precision;
mod prompts;
mod promptsrc;
mod python;
mod queue;
#[cfg(feature = "remote")]
mod remote;
mod report;
mod results;
mod run;
mod running;
mod runs;
mod schema;
#[path = "../server/mod.rs"]
mod server;
mod settings;
mod shipped;
mod staleness;
mod support;
mod sweep;
mod tables;
mod tensorboard;
mod terminal;
mod texts;
mod verify;
mod views;
mod weights;
mod workers;
