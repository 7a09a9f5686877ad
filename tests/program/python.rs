//! A program that pip has installed finds libtorch in Python's package `torch`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use maple_pipe::identity::LIBTORCH;
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// Where pip puts packages into an environment.
const PACKAGES: &str = "lib/python3.11/site-packages";

/// A worker that says where it looks for libraries.
const WORKER: &str = "echo \"looks in $LD_LIBRARY_PATH\" >&2; exit 1\n";

/// A project in which pip has installed the program, as far as it can see.
fn installed(packages: &str) -> Project {
    let project = Project::new();
    project.write(&format!("{packages}/maple_pipe-{}.dist-info/METADATA", env!("CARGO_PKG_VERSION")), "");
    project
}

/// Puts a package `torch` into a folder, as far as the program looks at it.
fn add_torch(project: &Project, packages: &str, version: &str) {
    project.write(&format!("{packages}/torch/version.py"), &format!("__all__ = []\n__version__ = '{version}'\n"));
    project.write(&format!("{packages}/torch/lib/libtorch_cpu.so"), "");
}

/// What the program says of libtorch, with a value of `LD_LIBRARY_PATH`.
fn says(project: &Project, libraries: &str) -> String {
    let mut command = project.command_with_worker(WORKER, &["doctor", "--json"]);
    let printed = project.printed(command.env("LD_LIBRARY_PATH", libraries).output().unwrap());
    let report: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["subject"] == "libtorch").unwrap();
    format!("{}\n{}\n", finding["text"].as_str().unwrap(), finding["hint"].as_str().unwrap())
}

/// What it says when the worker looks in these folders.
fn looks_in(folders: &str) -> String {
    format!("`[PROJECT]/programs/maple-pipe-worker` does not run: looks in {folders}\nbuild again: `make build`\n")
}

#[test]
fn libtorch_is_in_the_package_beside_the_program() {
    for packages in [PACKAGES, "lib64/python3.12/dist-packages", "."] {
        let project = installed(packages);
        add_torch(&project, packages, LIBTORCH);
        let folder = format!("[PROJECT]/{packages}/torch/lib").replace("/./", "/");
        assert_eq!(says(&project, "/opt/lib"), looks_in(&format!("{folder}:/opt/lib")));
    }
    // Whatever packages there are, a program that pip has not installed looks where its linker said.
    let project = Project::new();
    add_torch(&project, PACKAGES, LIBTORCH);
    assert_eq!(says(&project, "/opt/lib"), looks_in("/opt/lib"));
}

#[test]
fn python_says_where_the_package_is_otherwise() {
    let project = installed(PACKAGES);
    add_torch(&project, "system", &format!("{LIBTORCH}+cpu"));
    project.write("bin/python3.11", "#!/bin/sh\necho \"${0%/bin/*}/system/torch/__init__.py\"\n");
    fs::set_permissions(project.file("bin/python3.11"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(says(&project, "/opt/lib"), looks_in("[PROJECT]/system/torch/lib:/opt/lib"));
}

#[test]
fn a_package_that_is_not_there_or_another_is_named() {
    let project = installed(PACKAGES);
    project.write("bin/python3.11", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(project.file("bin/python3.11"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = project.command_with_worker(WORKER, &["run", PIPELINE, "--only", "clip"]);
    project.printed(run.output().unwrap()).is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
      FAILED [TIME] (2/2) clip
error: the Python package `torch` is not in `[PROJECT]/lib/python3.11/site-packages`, where pip installed maple-pipe
hint: install it in the same environment: `pip install 'torch==2.11.*'`
log: [PROJECT]/.maple/logs/tiny/clip.log
2 nodes: 1 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    add_torch(&project, PACKAGES, "2.12.0+cu130");
    let (major, minor) = (LIBTORCH.split('.').next().unwrap(), LIBTORCH.split('.').nth(1).unwrap());
    assert_eq!(
        says(&project, ""),
        format!(
            "maple-pipe needs torch {major}.{minor}, and `[PROJECT]/{PACKAGES}/torch` is 2.12.0+cu130\n\
             install it in the same environment: `pip install 'torch=={major}.{minor}.*'`\n"
        )
    );
}
