//! Says what a build is made of: the identity of its sources and dependencies, the libtorch that it is built with, and the
//! image decoders that it holds.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

/// What both programs are made of, relative to the workspace.
const SOURCES: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "build.rs",
    "data-manifests",
    "pipelines",
    "results/published",
    "scripts/libtorch.txt",
    "src",
    "vendor",
    "worker/Cargo.toml",
    "worker/build.rs",
    "worker/src",
];

/// Packages that decide which pixels an image file has, or which files can be read.
const DECODERS: [&str; 8] = ["fdeflate", "flate2", "gif", "image", "image-webp", "mozjpeg", "mozjpeg-sys", "png"];

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rustc-env=MAPLE_PIPE_BUILD={}", identity());
    println!("cargo:rustc-env=MAPLE_PIPE_LIBTORCH={}", libtorch());
    println!("cargo:rustc-env=MAPLE_PIPE_DECODERS={}", decoders());
}

/// blake3 over the names and contents of all sources.
fn identity() -> String {
    let mut files = BTreeMap::new();
    for source in SOURCES {
        gather(Path::new(source), &mut files);
    }
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        for part in [name.as_bytes(), &content] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    // 64 bits: nobody has so many builds that two of them could agree.
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Adds a file, or the files below a folder; what an editor hides there is no source.
fn gather(path: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                gather(&entry.path(), files);
            }
        }
    } else if let Ok(content) = fs::read(path) {
        files.insert(path.to_string_lossy().into_owned(), content);
    }
}

/// The version of the libtorch that the worker is built with, e.g. `2.11.0`; without one, the version that is pinned.
fn libtorch() -> String {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    let found = if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
        let asked =
            std::process::Command::new(python).args(["-c", "import torch; print(torch.__version__)"]).output().ok();
        asked.and_then(|output| String::from_utf8(output.stdout).ok())
    } else {
        env::var_os("LIBTORCH").and_then(|folder| {
            let header = Path::new(&folder).join("include/torch/headeronly/version.h");
            println!("cargo:rerun-if-changed={}", header.display());
            defined(&fs::read_to_string(header).ok()?)
        })
    };
    // Behind a `+` stands what a build is for, e.g. `2.11.0+cu130`.
    let version = found.map(|text| text.trim().split('+').next().unwrap_or_default().to_owned());
    version.filter(|version| !version.is_empty()).unwrap_or_else(pinned)
}

/// The version that libtorch's header defines.
fn defined(header: &str) -> Option<String> {
    let number = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define TORCH_VERSION_{name} ")))?;
        Some(line.trim().to_owned())
    };
    Some([number("MAJOR")?, number("MINOR")?, number("PATCH")?].join("."))
}

/// The version that `make libtorch` installs.
fn pinned() -> String {
    let pins = fs::read_to_string("scripts/libtorch.txt").expect("the pins are part of the sources");
    let version = pins.lines().find_map(|line| line.strip_prefix("torch==")?.split(' ').next());
    version.expect("the pins name a version of torch").to_owned()
}

/// Names and versions of the decoders, e.g. `gif 0.14.1, image 0.25.9`.
fn decoders() -> String {
    let lock = fs::read_to_string("Cargo.lock").expect("the lock file is part of the sources");
    let quoted =
        |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned());
    let mut name = String::new();
    let mut found = Vec::new();
    for line in lock.lines() {
        if let Some(value) = quoted(line, "name") {
            name = value;
        } else if let Some(version) = quoted(line, "version").filter(|_| DECODERS.contains(&name.as_str())) {
            found.push(format!("{name} {version}"));
        }
    }
    found.join(", ")
}
