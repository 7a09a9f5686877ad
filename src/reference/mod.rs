//! What can stand in TOML files, made from the types that read them: for editors (`schema`) and for people (`manual`).

pub mod manual;
pub mod schema;
