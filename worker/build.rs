//! Compiles `context.cpp`, `counting.cpp` and `rows.cpp` into the worker and `cuda.cpp` and `fused.cpp` into a library beside it,
//! and lets the binaries find libtorch without LD_LIBRARY_PATH: first relative to the binary, where `make install` and `make
//! libtorch` put it, so that a checkout can be moved, then where it was linked from.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/attempt.h");
    println!("cargo:rerun-if-changed=src/context.cpp");
    println!("cargo:rerun-if-changed=src/counting.cpp");
    println!("cargo:rerun-if-changed=src/cuda.cpp");
    println!("cargo:rerun-if-changed=src/fused.cpp");
    println!("cargo:rerun-if-changed=src/rows.cpp");
    for folder in ["../lib/maple-pipe", "../../.libtorch", "../../../.libtorch"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{folder}/torch/lib");
    }
    // libtorch's libraries ask the program for this symbol before they ask their own.
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
    let library = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{library}");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let beside = || Path::new(&library).with_file_name("include");
    let include = std::env::var_os("LIBTORCH_INCLUDE").map_or_else(beside, |folder| Path::new(&folder).join("include"));
    let mut build = cc::Build::new();
    // As libtorch is built: some of its classes have other members without NDEBUG.
    build.cpp(true).std("c++17").warnings(false).define("NDEBUG", None).include(&include);
    build.clone().files(["src/context.cpp", "src/counting.cpp", "src/rows.cpp"]).compile("maple_context");
    compile_cuda(&mut build, &include, Path::new(&library));
}

/// Compiles `cuda.cpp` and `fused.cpp` into a library; leaves an empty file where the headers of CUDA are not installed beside
/// libtorch.
fn compile_cuda(build: &mut cc::Build, include: &Path, library: &Path) {
    let output = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says so")).join("libmaple_cuda.so");
    let site = library.ancestors().nth(2).unwrap_or(library);
    let toolkits = std::fs::read_dir(site.join("nvidia")).into_iter().flatten().flatten();
    let headers = toolkits.map(|toolkit| toolkit.path().join("include"));
    let headers = headers.chain([PathBuf::from("/usr/local/cuda/include")]);
    let headers = headers.into_iter().find(|folder| folder.join("cuda_runtime_api.h").exists());
    let Some(headers) = headers.filter(|_| include.join("ATen/cuda/CUDAGraph.h").exists()) else {
        println!("cargo:warning=no headers of CUDA beside libtorch: steps on a card will not be recorded");
        std::fs::write(&output, "").expect("cargo's folder can be written");
        return;
    };
    let compiler = build.include(headers).pic(true).get_compiler();
    let status = compiler
        .to_command()
        .args(["-shared", "-o"])
        .arg(&output)
        .args(["src/cuda.cpp", "src/fused.cpp"])
        .arg("-ldl")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "`src/cuda.cpp` or `src/fused.cpp` does not compile");
}
