//! Inputs that cannot be read, that change while they are read, or that are many.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use snapbox::{IntoData, str};

use crate::support::{PIPELINE, Project, names};

const COUNT: &str = "pipelines/count.toml";

/// A project whose only node counts the files of the folder `input`, in which there are two.
fn project() -> Project {
    let project = Project::new();
    project.write(
        COUNT,
        "results = [\"@count\"]\n[stage.count]\nkind = \"command\"\ninputs = { input = \"../input\" }\n\
         run = \"find inputs/input/ -type f | wc -l > count\"\noutputs = { count = \"count\" }\n",
    );
    project.write("input/a", "a");
    project.write("input/deep/b", "b");
    project
}

/// What the node counted.
fn counted(project: &Project) -> usize {
    project.read("results/count/count").trim().parse().unwrap()
}

fn make_pipe(project: &Project, path: &str) {
    assert!(Command::new("mkfifo").arg(project.file(path)).status().unwrap().success());
}

/// With another input in place of the folder.
#[track_caller]
fn instead(input: &str, prepare: impl Fn(&Project), expected: impl IntoData) {
    let project = project();
    prepare(&project);
    project.replace(COUNT, "../input", input);
    project.prints(&["run", COUNT], expected);
}

/// With something more in the folder.
#[track_caller]
fn with(prepare: impl Fn(&Project), expected: impl IntoData) {
    instead("../input", prepare, expected);
}

#[test]
fn what_cannot_be_an_input() {
    instead(
        "../input/a/b",
        |_| {},
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/../input/a/b`
 --> pipelines/count.toml:4:20
  |
4 | inputs = { input = "../input/a/b" }
  |                    ^^^^^^^^^^^^^^
  |
  = hint: paths start from the folder of the file they stand in
<exit code 2>

"#]],
    );
    let link = |to: &'static str| move |project: &Project| symlink(to, project.file("link")).unwrap();
    instead(
        "../link",
        link("nowhere"),
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/../link`
 --> pipelines/count.toml:4:20
  |
4 | inputs = { input = "../link" }
  |                    ^^^^^^^^^
  |
  = hint: paths start from the folder of the file they stand in
<exit code 2>

"#]],
    );
    instead(
        "../link",
        link("link"),
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/../link`
 --> pipelines/count.toml:4:20
  |
4 | inputs = { input = "../link" }
  |                    ^^^^^^^^^
  |
  = hint: paths start from the folder of the file they stand in
<exit code 2>

"#]],
    );
    // Opened for reading, it would wait for a writer for ever.
    instead(
        "../pipe",
        |project| make_pipe(project, "pipe"),
        str![[r#"
<stderr>
error: `pipelines/../pipe` is neither a file nor a folder
 --> pipelines/count.toml:4:20
  |
4 | inputs = { input = "../pipe" }
  |                    ^^^^^^^^^
  |
  = hint: write what comes out of it to a file first
<exit code 2>

"#]],
    );
    instead(
        "/dev/zero",
        |_| {},
        str![[r#"
<stderr>
error: `/dev/zero` is neither a file nor a folder
 --> pipelines/count.toml:4:20
  |
4 | inputs = { input = "/dev/zero" }
  |                    ^^^^^^^^^^^
  |
  = hint: write what comes out of it to a file first
<exit code 2>

"#]],
    );
}

#[test]
fn folders_with_links_that_lead_nowhere_or_back() {
    with(
        |project| symlink("nowhere", project.file("input/deep/link")).unwrap(),
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: could not read `pipelines/../input/deep/link`: No such file or directory (os error 2)
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    with(
        |project| symlink("..", project.file("input/deep/link")).unwrap(),
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: the link `pipelines/../input/deep/link` leads back to `pipelines/../input`
hint: remove the link: a folder cannot contain itself
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    with(
        |project| symlink("link", project.file("input/deep/link")).unwrap(),
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: could not read `pipelines/../input/deep/link`: Too many levels of symbolic links (os error 40)
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn folders_with_names_that_are_not_text() {
    let write = |name: &'static [u8]| {
        move |project: &Project| fs::write(project.file("input").join(OsStr::from_bytes(name)), "c").unwrap()
    };
    with(
        write(b"c\xff"),
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: the file name `pipelines/../input/c�` is not plain UTF-8
hint: rename the file
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    with(
        write(b"c\nd"),
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: the file name `pipelines/../input/c
d` is not plain UTF-8
hint: rename the file
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn pipes_and_sockets_in_folders_do_not_count() {
    let project = project();
    project.ran(&["run", COUNT]);
    make_pipe(&project, "input/pipe");
    symlink("pipe", project.file("input/link")).unwrap();
    let _socket = UnixListener::bind(project.file("input/socket")).unwrap();
    assert_eq!(project.ran(&["run", COUNT]), names(&[]));
    assert_eq!(counted(&project), 2);
}

/// With something else in place of a file of the data set; `*` is the first file below its folder.
#[track_caller]
fn data_with(path: &str, replace: impl Fn(&Project, &str), expected: impl IntoData) {
    let project = Project::new();
    let path = match path.strip_suffix("*") {
        Some(folder) => {
            let files = walkdir::WalkDir::new(project.file(folder)).sort_by_file_name().into_iter().flatten();
            let first = files.into_iter().find(|entry| entry.file_type().is_file()).unwrap().into_path();
            first.strip_prefix(project.path()).unwrap().to_str().unwrap().to_owned()
        }
        None => path.to_owned(),
    };
    fs::remove_file(project.file(&path)).unwrap();
    replace(&project, &path);
    project.prints(&["run", PIPELINE, "--only", "shots/*"], expected);
}

#[test]
fn data_sets_with_something_else_in_place_of_a_file() {
    let create_folder = |project: &Project, path: &str| fs::create_dir(project.file(path)).unwrap();
    let link_nowhere = |project: &Project, path: &str| symlink("nowhere", project.file(path)).unwrap();
    data_with(
        "data/shapes/split.json",
        create_folder,
        str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: could not read `[PROJECT]/pipelines/../data/shapes/split.json`: Is a directory (os error 21)
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]],
    );
    data_with(
        "data/shapes/split.json",
        make_pipe,
        str![[r#"
<stderr>
error: `pipelines/../data/shapes` lacks `split.json`
  --> pipelines/tiny.toml:33:8
   |
33 | root = "../data/{dataset}"
   |        ^^^^^^^^^^^^^^^^^^^
   |
   = hint: put the data set there, so that `pipelines/../data/shapes` holds `images` and `split.json`

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
    data_with(
        "data/shapes/images/*",
        create_folder,
        str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: `[PROJECT]/pipelines/../data/shapes/images` lacks `dotted_green_cross/0001.png`, which the split names
hint: the data set is incomplete: fetch or unpack it again
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]],
    );
    data_with(
        "data/shapes/images/*",
        link_nowhere,
        str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: could not read `pipelines/../data/shapes/images/dotted_green_cross/0001.png`: No such file or directory (os error 2)
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]],
    );
    data_with(
        "data/shapes/images/*",
        make_pipe,
        str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: `[PROJECT]/pipelines/../data/shapes/images` lacks `dotted_green_cross/0001.png`, which the split names
hint: the data set is incomplete: fetch or unpack it again
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn a_folder_that_changes_while_it_is_read() {
    let project = project();
    let folder = project.file("input").display().to_string();
    project.replace(COUNT, "find", &format!("[ -e {folder}/c ] || echo c > {folder}/c; find"));
    project.prints(
        &["run", COUNT],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) count
error: `pipelines/../input` changed while the node read it
hint: run again when it no longer changes
log: [PROJECT]/.maple/logs/count/count.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    assert_eq!(project.ran(&["run", COUNT]), names(&["count"]));
    assert_eq!(counted(&project), 3);
    assert_eq!(project.ran(&["run", COUNT]), names(&[]));
}

#[test]
fn a_hundred_thousand_files() {
    let project = project();
    // In memory, where that is possible: files by the thousand take a disk long.
    let input = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for folder in 0..100 {
        let folder = input.path().join(folder.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("0"), "a file").unwrap();
        (1..1000).for_each(|file| fs::hard_link(folder.join("0"), folder.join(file.to_string())).unwrap());
    }
    symlink(input.path(), project.file("input/many")).unwrap();
    project.replace(COUNT, "find", "find -L");
    assert_eq!(project.ran(&["run", COUNT]), names(&["count"]));
    assert_eq!(counted(&project), 100_002);
    assert_eq!(project.ran(&["run", COUNT]), names(&[]));
    fs::remove_file(input.path().join("57/999")).unwrap();
    fs::write(input.path().join("57/999"), "another").unwrap();
    assert_eq!(project.ran(&["run", COUNT]), names(&["count"]));
    fs::remove_file(input.path().join("57/999")).unwrap();
    assert_eq!(project.ran(&["run", COUNT]), names(&["count"]));
    assert_eq!(counted(&project), 100_001);
    assert_eq!(project.ran(&["run", COUNT]), names(&[]));
}

#[test]
fn twenty_thousand_nodes() {
    let project = Project::new();
    let numbers = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let stage = |name: &str, more: &str| {
        format!(
            "[stage.{name}]\nkind = \"command\"\naxes = [\"a\", \"b\"]\nrun = \"echo {{a}} {{b}} > text\"\n\
             outputs = {{ text = \"text\" }}\n{more}\n"
        )
    };
    let text = format!("[axes]\na = [{numbers}]\nb = [{numbers}]\n{}", stage("first", ""))
        + &stage("second", "inputs = { text = \"@first\" }");
    project.write(COUNT, &text);
    project.prints(
        &["status", COUNT],
        str![[r#"
<stdout>
never run (10000)
  first/a0/b0
  first/a0/b1
  first/a0/b2
  first/a0/b3
  first/a0/b4
  first/a0/b5
  first/a0/b6
  first/a0/b7
  ... and 9992 more (`--all` lists them)
waiting for stale nodes (10000)
  second/a0/b0
  second/a0/b1
  second/a0/b2
  second/a0/b3
  second/a0/b4
  second/a0/b5
  second/a0/b6
  second/a0/b7
  ... and 9992 more (`--all` lists them)
<stderr>
20000 nodes: 0 up to date, 10000 stale, 10000 waiting for them
<exit code 0>

"#]],
    );
    let printed = project.run(&["run", COUNT, "--dry-run"]);
    assert_eq!((printed.code, printed.stdout.lines().count()), (Some(0), 20_000));
    let selected = ["run", COUNT, "--only", "second/a7/b99"];
    assert_eq!(project.ran(&selected), names(&["first/a7/b99", "second/a7/b99"]));
    assert_eq!(project.ran(&selected), names(&[]));
    project.prints(
        &["status", COUNT, "--only", "second/a7/b9*"],
        str![[r#"
<stdout>
never run (10)
  first/a7/b9
  first/a7/b90
  first/a7/b91
  first/a7/b92
  first/a7/b93
  first/a7/b94
  first/a7/b95
  first/a7/b96
  ... and 2 more (`--all` lists them)
waiting for stale nodes (10)
  second/a7/b9
  second/a7/b90
  second/a7/b91
  second/a7/b92
  second/a7/b93
  second/a7/b94
  second/a7/b95
  second/a7/b96
  ... and 2 more (`--all` lists them)
<stderr>
22 nodes: 2 up to date, 10 stale, 10 waiting for them
<exit code 0>

"#]],
    );
}
