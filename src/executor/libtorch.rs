//! Where libtorch is for a program that pip installed: a wheel's worker has no path to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::identity;

/// How Python says where `torch` is: without loading it, and without looking in the folder one is in.
const ASK: &str = "import importlib.util, sys; sys.path[:1] = []; print(importlib.util.find_spec('torch').origin)";

/// The folder of libtorch's libraries, where pip has installed this program; nothing where it has not.
///
/// # Errors
/// There is no package `torch`, or it is of another version.
pub(super) fn of_python() -> Result<Option<PathBuf>> {
    let this = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
    // PREFIX/bin/maple-pipe
    let Some(prefix) = this.ancestors().nth(2) else { return Ok(None) };
    let Some(packages) = packages(prefix) else { return Ok(None) };
    let [major, minor] = [0, 1].map(|place| identity::LIBTORCH.split('.').nth(place).unwrap_or_default());
    let hint = format!("install it in the same environment: `pip install 'torch=={major}.{minor}.*'`");
    let beside = Some(packages.join("torch")).filter(|folder| folder.is_dir());
    let Some(torch) = beside.or_else(|| ask_python(prefix, &packages)) else {
        let message =
            format!("the Python package `torch` is not in `{}`, where pip installed maple-pipe", packages.display());
        return Err(Error::hinted(message, hint));
    };
    let version = version(&torch).unwrap_or_else(|| "an unknown version".to_owned());
    if version.starts_with(&format!("{major}.{minor}.")) {
        return Ok(Some(torch.join("lib")));
    }
    let message = format!("maple-pipe needs torch {major}.{minor}, and `{}` is {version}", torch.display());
    Err(Error::hinted(message, hint))
}

/// The folder of Python packages that pip installed this program among, below `prefix`: of an environment, of a user, or of
/// `--target`.
fn packages(prefix: &Path) -> Option<PathBuf> {
    let pythons = ["lib", "lib64"].into_iter().filter_map(|folder| fs::read_dir(prefix.join(folder)).ok());
    let pythons = pythons.flatten().flatten().map(|entry| entry.path());
    let pythons =
        pythons.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")));
    let folders = pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    let installed = concat!("maple_pipe-", env!("CARGO_PKG_VERSION"), ".dist-info");
    folders.chain([prefix.to_owned()]).find(|folder| folder.join(installed).is_dir())
}

/// Where the Python of these packages finds `torch` otherwise: in the packages of the system, or through a `.pth` file.
fn ask_python(prefix: &Path, packages: &Path) -> Option<PathBuf> {
    let folder = packages.parent()?.file_name()?.to_str()?;
    let name = if folder.starts_with("python3") { folder } else { "python3" };
    let own = prefix.join("bin").join(name);
    let mut python = if own.is_file() { Command::new(own) } else { Command::new(name) };
    let output = python.args(["-c", ASK]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let origin = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(Path::new(origin.trim_end()).parent()?.to_owned())
}

/// The version of a package `torch`, e.g. `2.11.0+cu130`.
fn version(torch: &Path) -> Option<String> {
    let text = fs::read_to_string(torch.join("version.py")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(value.trim_matches(['\'', '"']).to_owned())
}
