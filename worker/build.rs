//! Compiles `context.cpp`, and lets the binaries find libtorch without LD_LIBRARY_PATH: first relative to the binary, so that
//! a checkout can be moved, then where it was linked from.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/context.cpp");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.libtorch/torch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../../.libtorch/torch/lib");
    // libtorch's libraries ask the program for this symbol before they ask their own.
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
    let library = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{library}");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let beside = || Path::new(&library).with_file_name("include");
    let include = std::env::var_os("LIBTORCH_INCLUDE").map_or_else(beside, |folder| Path::new(&folder).join("include"));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include)
        .file("src/context.cpp")
        .compile("maple_context");
}
