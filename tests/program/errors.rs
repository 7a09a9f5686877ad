//! What the program says when something is wrong: in the pipeline and what it includes, on the command line, in the
//! data and the store (exit code 2), or in a node that runs (exit code 1).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use maple_pipe::weights::{Checkpoint, to_safetensors};
use snapbox::{IntoData, str};

use crate::support::{PIPELINE, Project, bound_by_permissions, names, overwrite};

/// A run is refused after one text of a project's file has been replaced by another.
#[track_caller]
fn refused(file: &str, from: &str, to: &str, expected: impl IntoData) {
    let project = Project::new();
    project.replace(file, from, to);
    project.prints(&["run", PIPELINE], expected);
    assert!(!project.file(".maple").exists());
}

/// A run with more arguments is refused.
#[track_caller]
fn refused_with(arguments: &[&str], expected: impl IntoData) {
    let project = Project::new();
    project.prints(&[&["run", PIPELINE], arguments].concat(), expected);
    assert!(!project.file(".maple").exists());
}

#[test]
fn unknown_names() {
    refused(
        PIPELINE,
        "shots = 2",
        "shotz = 2",
        str![[r#"
<stderr>
error: unknown key `shotz`
  --> pipelines/tiny.toml:39:1
   |
39 | shotz = 2
   | ^^^^^
   |
   = hint: did you mean `shots`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "prompt = \"@train\"",
        "promt = \"@train\"",
        str![[r#"
<stderr>
error: unknown key `promt`
  --> pipelines/tiny.toml:65:1
   |
65 | promt = "@train"
   | ^^^^^
   |
   = hint: did you mean `prompt`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "[axes]",
        "[axis]",
        str![[r#"
<stderr>
error: unknown key `axis`
 --> pipelines/tiny.toml:5:2
  |
5 | [axis]
  |  ^^^^
  |
  = hint: did you mean `axes`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "kind = \"fewshot\"",
        "kind = \"few-shot\"",
        str![[r#"
<stderr>
error: unknown kind of stage `few-shot`
  --> pipelines/tiny.toml:36:8
   |
36 | kind = "few-shot"
   |        ^^^^^^^^^^
   |
   = hint: did you mean `fewshot`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "axes = [\"dataset\", \"seed\"]",
        "axes = [\"dataset\", \"seeds\"]",
        str![[r#"
<stderr>
error: `seeds` is not an axis of this pipeline
  --> pipelines/tiny.toml:37:20
   |
37 | axes = ["dataset", "seeds"]
   |                    ^^^^^^^
   |
   = hint: did you mean `seed`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "only = { method = \"clip\" }",
        "only = { methods = \"clip\" }",
        str![[r#"
<stderr>
error: `methods` is not an axis of this stage
  --> pipelines/tiny.toml:55:10
   |
55 | only = { methods = "clip" }
   |          ^^^^^^^
   |
   = hint: did you mean `method`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "classes = \"base\"",
        "classes = \"basic\"",
        str![[r#"
<stderr>
error: unknown value `basic`
  --> pipelines/tiny.toml:41:11
   |
41 | classes = "basic"
   |           ^^^^^^^
   |
   = hint: did you mean `base`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "\"methods/{method}.toml\"\nshots",
        "\"methods/{methd}.toml\"\nshots",
        str![[r#"
<stderr>
error: `{methd}` is not an axis of this stage
  --> pipelines/tiny.toml:47:10
   |
47 | method = "methods/{methd}.toml"
   |          ^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean `method`?
<exit code 2>

"#]],
    );
}

#[test]
fn missing_keys() {
    refused(
        PIPELINE,
        "shots = 2\n",
        "",
        str![[r#"
<stderr>
error: missing key `shots`
  --> pipelines/tiny.toml:35:8
   |
35 | [stage.shots]
   |        ^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "kind = \"fewshot\"\n",
        "",
        str![[r#"
<stderr>
error: stage `shots` has no `kind`
  --> pipelines/tiny.toml:35:8
   |
35 | [stage.shots]
   |        ^^^^^
   |
   = hint: known: world, dataset, pretrain, fewshot, train, imported, features, eval, attention, reported, select, chosen, table, command
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "dataset = \"@data\"\nshots",
        "shots",
        str![[r#"
<stderr>
error: stage `shots` has no `dataset`
  --> pipelines/tiny.toml:35:8
   |
35 | [stage.shots]
   |        ^^^^^
   |
   = hint: name a `dataset` stage: `dataset = "@..."`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "captioned = \"@captioned\"\n",
        "",
        str![[r#"
<stderr>
error: stage `clip` has no `captioned`
  --> pipelines/tiny.toml:17:8
   |
17 | [stage.clip]
   |        ^^^^
   |
   = hint: name a `world` stage: `captioned = "@..."`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "prompt = \"@train\"\n",
        "",
        str![[r#"
<stderr>
error: an `eval` stage needs a `prompt` or a `method`
  --> pipelines/tiny.toml:61:8
   |
61 | [stage.eval]
   |        ^^^^
   |
   = hint: `prompt = "@train"` for a trained prompt, `method = "methods/clip.toml"` for zero-shot
<exit code 2>

"#]],
    );
}

#[test]
fn axes_that_are_none() {
    refused(
        PIPELINE,
        "seed = [1, 2]",
        "seed = [1, true]",
        str![[r#"
<stderr>
error: an axis value is a string or a number, not a boolean
 --> pipelines/tiny.toml:8:12
  |
8 | seed = [1, true]
  |            ^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "seed = [1, 2]",
        "seed = 1",
        str![[r#"
<stderr>
error: axis `seed` must be a list, not an integer
 --> pipelines/tiny.toml:8:8
  |
8 | seed = 1
  |        ^
  |
  = hint: for example `seed = [1, 2, 3]`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "seed = [1, 2]",
        "seed = []",
        str![[r#"
<stderr>
error: axis `seed` has no values
 --> pipelines/tiny.toml:8:8
  |
8 | seed = []
  |        ^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "seed = [1, 2]",
        "seed = [1, 2, 1]",
        str![[r#"
<stderr>
error: axis `seed` has the value `1` twice
 --> pipelines/tiny.toml:8:15
  |
8 | seed = [1, 2, 1]
  |               ^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "seed = [1, 2]",
        "seed = [\"one\"]",
        str![[r#"
<stderr>
error: invalid type: string "one", expected an integer from 0 up
  --> pipelines/tiny.toml:40:8
   |
40 | seed = "{seed}"
   |        ^^^^^^^^

error: invalid type: string "one", expected an integer from 0 up
  --> pipelines/tiny.toml:50:8
   |
50 | seed = "{seed}"
   |        ^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "[\"shapes\"]",
        "[\"a/b\"]",
        str![[r#"
<stderr>
error: an axis value is part of node names: it cannot be empty, start with `.` or hold `/`
 --> pipelines/tiny.toml:6:12
  |
6 | dataset = ["a/b"]
  |            ^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "dataset = [\"shapes\"]\nmethod",
        "method",
        str![[r#"
<stderr>
error: `dataset` is not an axis of this pipeline
  --> pipelines/tiny.toml:30:9
   |
30 | axes = ["dataset"]
   |         ^^^^^^^^^
   |
   = hint: known here: `method`, `seed`, `classes`

error: `dataset` is not an axis of this pipeline
  --> pipelines/tiny.toml:36:9
   |
36 | axes = ["dataset", "seed"]
   |         ^^^^^^^^^
   |
   = hint: known here: `method`, `seed`, `classes`

error: `dataset` is not an axis of this pipeline
  --> pipelines/tiny.toml:44:9
   |
44 | axes = ["dataset", "method", "seed"]
   |         ^^^^^^^^^
   |
   = hint: known here: `method`, `seed`, `classes`

error: `dataset` is not an axis of this pipeline
  --> pipelines/tiny.toml:53:9
   |
53 | axes = ["dataset", "method", "classes"]
   |         ^^^^^^^^^
   |
   = hint: known here: `method`, `seed`, `classes`

error: `dataset` is not an axis of this pipeline
  --> pipelines/tiny.toml:62:9
   |
62 | axes = ["dataset", "method", "seed", "classes"]
   |         ^^^^^^^^^
   |
   = hint: known here: `method`, `seed`, `classes`
<exit code 2>

"#]],
    );
}

#[test]
fn values_of_a_wrong_type() {
    refused(
        PIPELINE,
        "shots = 2",
        "shots = \"two\"",
        str![[r#"
<stderr>
error: invalid type: string "two", expected an integer from 1 up
  --> pipelines/tiny.toml:39:9
   |
39 | shots = "two"
   |         ^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "shots = 2",
        "shots = 0",
        str![[r#"
<stderr>
error: invalid value: integer `0`, expected an integer from 1 up
  --> pipelines/tiny.toml:39:9
   |
39 | shots = 0
   |         ^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "shots = 2",
        "shots = -2",
        str![[r#"
<stderr>
error: invalid value: integer `-2`, expected an integer from 1 up
  --> pipelines/tiny.toml:39:9
   |
39 | shots = -2
   |         ^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "crop = [0.7, 1.0]",
        "crop = 0.7",
        str![[r#"
<stderr>
error: invalid type: floating point `0.7`, expected an array of length 2
  --> pipelines/tiny.toml:27:8
   |
27 | crop = 0.7
   |        ^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "crop = [0.7, 1.0]",
        "crop = [0.7, 2020-01-01]",
        str![[r#"
<stderr>
error: dates have no meaning here
  --> pipelines/tiny.toml:27:14
   |
27 | crop = [0.7, 2020-01-01]
   |              ^^^^^^^^^^
   |
   = hint: quote it to make it a string
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "kind = \"table\"",
        "kind = 1",
        str![[r#"
<stderr>
error: `kind` must be a string, not an integer
  --> pipelines/tiny.toml:71:8
   |
71 | kind = 1
   |        ^
   |
   = hint: known here: `world`, `dataset`, `pretrain`, `fewshot`, `train`, `imported`, `features`, `eval`, `attention`, `reported`, `select`, `chosen`, `table`, `command`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "prompt = \"@train\"",
        "prompt = 1",
        str![[r#"
<stderr>
error: `prompt` must be a string, not an integer
  --> pipelines/tiny.toml:65:10
   |
65 | prompt = 1
   |          ^
   |
   = hint: `"@train"` names a stage
<exit code 2>

"#]],
    );
}

#[test]
fn references() {
    refused(
        PIPELINE,
        "prompt = \"@train\"",
        "prompt = \"@trian\"",
        str![[r#"
<stderr>
error: `@trian` refers to no stage of this pipeline
  --> pipelines/tiny.toml:65:10
   |
65 | prompt = "@trian"
   |          ^^^^^^^^
   |
   = hint: did you mean `@train`?
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "prompt = \"@train\"",
        "prompt = \"@shots\"",
        str![[r#"
<stderr>
error: `prompt` takes a `train` stage, but `shots` is a `fewshot`
  --> pipelines/tiny.toml:65:10
   |
65 | prompt = "@shots"
   |          ^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "dataset = \"@data\"\nshots",
        "dataset = \"data\"\nshots",
        str![[r#"
<stderr>
error: `dataset` must name a stage
  --> pipelines/tiny.toml:38:11
   |
38 | dataset = "data"
   |           ^^^^^^
   |
   = hint: stages are named with `@`: `"@data"`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "axes = [\"dataset\", \"method\", \"seed\"]",
        "axes = [\"dataset\", \"method\"]",
        str![[r#"
<stderr>
error: `{seed}` is not an axis of this stage
  --> pipelines/tiny.toml:50:8
   |
50 | seed = "{seed}"
   |        ^^^^^^^^
   |
   = hint: add `seed` to its `axes`, or write `{{seed}}` for the plain text
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "exclude = { method = \"clip\" }\nprompt",
        "prompt",
        str![[r#"
<stderr>
error: `@train` has no node for dataset=shapes, method=clip, seed=1
  --> pipelines/tiny.toml:64:10
   |
64 | prompt = "@train"
   |          ^^^^^^^^
   |
   = hint: see `only`, `exclude` and `extra` of stage `train`

error: `@train` has no node for dataset=shapes, method=clip, seed=2
  --> pipelines/tiny.toml:64:10
   |
64 | prompt = "@train"
   |          ^^^^^^^^
   |
   = hint: see `only`, `exclude` and `extra` of stage `train`
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "evals = [\"@zeroshot\", \"@eval\"]",
        "evals = []",
        str![[r#"
<stderr>
error: `evals` of stage `table` matches no node
  --> pipelines/tiny.toml:72:9
   |
72 | evals = []
   |         ^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "prompt = \"@train\"",
        "prompt = [\"@train\"]",
        str![[r#"
<stderr>
error: `prompt` takes one reference, not a list
  --> pipelines/tiny.toml:65:10
   |
65 | prompt = ["@train"]
   |          ^^^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "shots = \"@shots\"\nweights = \"@clip\"",
        "shots = \"@shots\"\nweights = \"clip.safetensors\"",
        str![[r#"
<stderr>
error: there is no file `pipelines/clip.safetensors`
  --> pipelines/tiny.toml:49:11
   |
49 | weights = "clip.safetensors"
   |           ^^^^^^^^^^^^^^^^^^
   |
   = hint: paths start from the folder of the file they stand in

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
}

#[test]
fn circles() {
    let project = Project::new();
    project.write(
        "circle.toml",
        "[stage.a]\nkind = \"fewshot\"\ndataset = \"@b\"\nshots = 1\nseed = 1\n\n\
         [stage.b]\nkind = \"dataset\"\nroot = \"@a\"\nmanifest = \"manifests/shapes.toml\"\n",
    );
    project.prints(
        &["run", "circle.toml"],
        str![[r#"
<stderr>
error: stages need each other in a circle: `a` -> `b` -> `a`
 --> circle.toml:1:8
  |
1 | [stage.a]
  |        ^
<exit code 2>

"#]],
    );
    project
        .write("circle.toml", "[stage.a]\nkind = \"dataset\"\nroot = \"@a\"\nmanifest = \"manifests/shapes.toml\"\n");
    project.prints(
        &["run", "circle.toml"],
        str![[r#"
<stderr>
error: stages need each other in a circle: `a` -> `a`
 --> circle.toml:1:8
  |
1 | [stage.a]
  |        ^
<exit code 2>

"#]],
    );
    project.write("pipelines/methods/coop.toml", "include = \"coop.toml\"\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `coop.toml` includes itself
 --> pipelines/methods/coop.toml:1:11
  |
1 | include = "coop.toml"
  |           ^^^^^^^^^^^
<exit code 2>

"#]],
    );
}

#[test]
fn method_files() {
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1",
        "depht = 1",
        str![[r#"
<stderr>
error: unknown key `depht`
 --> pipelines/methods/maple.toml:3:1
  |
3 | depht = 1
  | ^^^^^
  |
  = hint: did you mean `depth`?
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1",
        "epoch = 1",
        str![[r#"
<stderr>
error: unknown key `epoch`
 --> pipelines/methods/maple.toml:6:1
  |
6 | epoch = 1
  | ^^^^^
  |
  = hint: did you mean `epochs`?
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1",
        "epochs = \"one\"",
        str![[r#"
<stderr>
error: invalid type: string "one", expected an integer from 0 up
 --> pipelines/methods/maple.toml:6:10
  |
6 | epochs = "one"
  |          ^^^^^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1\n",
        "",
        str![[r#"
<stderr>
error: a training needs `epochs` or `iterations`
 --> pipelines/methods/maple.toml:5:1
  |
5 | [training]
  | ^^^^^^^^^^
  |
  = hint: give one of the two, from 1 up
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1\n",
        "epochs = 0\n",
        str![[r#"
<stderr>
error: a training needs `epochs` or `iterations`
 --> pipelines/methods/maple.toml:5:1
  |
5 | [training]
  | ^^^^^^^^^^
  |
  = hint: give one of the two, from 1 up
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "learner = \"maple\"",
        "learner = \"mapel\"",
        str![[r#"
<stderr>
error: unknown value `mapel`
 --> pipelines/methods/maple.toml:1:11
  |
1 | learner = "mapel"
  |           ^^^^^^^
  |
  = hint: did you mean `maple`?
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "learner = \"maple\"\n",
        "",
        str![[r#"
<stderr>
error: missing key `learner`
 --> pipelines/methods/maple.toml:1:1
  |
1 | context_length = 2
  | ^^^^^^^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "[training]",
        "[training",
        str![[r#"
<stderr>
error: invalid TOML: unclosed table, expected `]`
 --> pipelines/methods/maple.toml:5:10
  |
5 | [training
  |          ^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/clip.toml",
        "zero-shot",
        "coop",
        str![[r#"
<stderr>
error: missing key `context_length`
 --> pipelines/methods/clip.toml:1:1
  |
1 | learner = "coop"
  | ^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1",
        "depth = true",
        str![[r#"
<stderr>
error: invalid type: boolean `true`, expected an integer
 --> pipelines/methods/maple.toml:3:9
  |
3 | depth = true
  |         ^^^^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1\n",
        "",
        str![[r#"
<stderr>
error: missing key `depth`
 --> pipelines/methods/maple.toml:1:1
  |
1 | learner = "maple"
  | ^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1",
        "depth = 0",
        str![[r#"
<stderr>
error: `depth` is 0
 --> pipelines/methods/maple.toml:3:9
  |
3 | depth = 0
  |         ^
  |
  = hint: give a number from 1 up
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "context_length = 2",
        "context_length = 8\ncontext_initial_words = \"a photo of a\"",
        str![[r#"
<stderr>
error: `context_length` is 8, but initial words start 4 tokens at most
 --> pipelines/methods/maple.toml:2:18
  |
2 | context_length = 8
  |                  ^
  |
  = hint: remove `context_initial_words` for a random start, as published, or set `context_length` to at most 4
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1",
        "depth = 1\ncontext_initial_words = \"a photo of a {}\"",
        str![[r#"
<stderr>
error: `context_initial_words` has `{}`: `a photo of a {}`
 --> pipelines/methods/maple.toml:4:25
  |
4 | context_initial_words = "a photo of a {}"
  |                         ^^^^^^^^^^^^^^^^^
  |
  = hint: leave it out: the learner puts the class name in its place
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "depth = 1",
        "depth = 1\ncontext_initial_words = \"a_photo_of_a\"",
        str![[r#"
<stderr>
error: `context_initial_words` has `_`: `a_photo_of_a`
 --> pipelines/methods/maple.toml:4:25
  |
4 | context_initial_words = "a_photo_of_a"
  |                         ^^^^^^^^^^^^^^
  |
  = hint: write spaces between the words
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1",
        "epochs = 1\nmomentum = 1.5",
        str![[r#"
<stderr>
error: `momentum` is 1.5, so no gradient is ever forgotten
 --> pipelines/methods/maple.toml:7:12
  |
7 | momentum = 1.5
  |            ^^^
  |
  = hint: give a number below 1
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "context_length = 2",
        "context_length = 1000000000",
        str![[r#"
<stderr>
error: `context_length` is 1000000000
 --> pipelines/methods/maple.toml:2:18
  |
2 | context_length = 1000000000
  |                  ^^^^^^^^^^
  |
  = hint: give a number from 1 to 75
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1",
        "epochs = 1\noptimizer = \"adam\"\nmomentum = 0.5",
        str![[r#"
<stderr>
error: `momentum` is an option of `sgd` alone
 --> pipelines/methods/maple.toml:8:12
  |
8 | momentum = 0.5
  |            ^^^
  |
  = hint: remove it
<exit code 2>

"#]],
    );
    refused(
        "pipelines/methods/maple.toml",
        "epochs = 1",
        "epochs = 1\noptimizer = \"adamv\"",
        str![[r#"
<stderr>
error: unknown value `adamv`
 --> pipelines/methods/maple.toml:7:13
  |
7 | optimizer = "adamv"
  |             ^^^^^^^
  |
  = hint: did you mean `adam`?
<exit code 2>

"#]],
    );
    let project = Project::new();
    fs::remove_file(project.file("pipelines/methods/maple.toml")).unwrap();
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: could not read `pipelines/methods/maple.toml`: No such file or directory (os error 2)
  --> pipelines/tiny.toml:47:10
   |
47 | method = "methods/{method}.toml"
   |          ^^^^^^^^^^^^^^^^^^^^^^^
<exit code 2>

"#]],
    );
}

#[test]
fn manifests() {
    refused(
        "manifests/shapes.toml",
        "a photo of a {}.",
        "a photo.",
        str![[r#"
<stderr>
error: `template` must have one `{}` for the class name, not `a photo.`
 --> pipelines/../manifests/shapes.toml:4:12
  |
4 | template = "a photo."
  |            ^^^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "manifests/shapes.toml",
        "split-json",
        "split-csv",
        str![[r#"
<stderr>
error: unknown value `split-csv`
 --> pipelines/../manifests/shapes.toml:7:8
  |
7 | kind = "split-csv"
  |        ^^^^^^^^^^^
  |
  = hint: did you mean `split-json`?
<exit code 2>

"#]],
    );
    refused(
        "manifests/shapes.toml",
        "template",
        "templates",
        str![[r#"
<stderr>
error: unknown key `templates`
 --> pipelines/../manifests/shapes.toml:4:1
  |
4 | templates = "a photo of a {}."
  | ^^^^^^^^^
  |
  = hint: did you mean `template`?
<exit code 2>

"#]],
    );
}

#[test]
fn overrides() {
    refused_with(
        &["--set", "shots"],
        str![[r#"
<stderr>
error: an override has the form `path=value`
 --> --set:1:1
  |
1 | shots
  | ^^^^^
  |
  = hint: for example `--set stage.shots.shots=8`
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage..shots=1"],
        str![[r#"
<stderr>
error: a word of the path is empty
 --> --set:1:1
  |
1 | stage..shots=1
  | ^^^^^^^^^^^^
  |
  = hint: for example `--set stage.shots.shots=8`
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage.shot.shots=1"],
        str![[r#"
<stderr>
error: the pipeline has no `stage.shot`
 --> --set:1:7
  |
1 | stage.shot.shots=1
  |       ^^^^
  |
  = hint: did you mean `shots`?
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage.shots.shotz=1"],
        str![[r#"
<stderr>
error: unknown key `shotz`
 --> --set:1:13
  |
1 | stage.shots.shotz=1
  |             ^^^^^
  |
  = hint: did you mean `shots`?
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage.shots.shots=many"],
        str![[r#"
<stderr>
error: invalid type: string "many", expected an integer from 1 up
 --> --set:1:19
  |
1 | stage.shots.shots=many
  |                   ^^^^
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "axes.seed=[1"],
        str![[r#"
<stderr>
error: invalid TOML value: unclosed array, expected `]`
 --> --set:1:11
  |
1 | axes.seed=[1
  |           ^^
  |
  = hint: lists look like `[1, 2]`, strings like `"text"`
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "axes.seed=[1, 1]"],
        str![[r#"
<stderr>
error: axis `seed` has the value `1` twice
 --> --set:1:15
  |
1 | axes.seed=[1, 1]
  |               ^
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "axes.seeds=[1]"],
        str![[r#"
<stderr>
error: the pipeline has no `axes.seeds`
 --> --set:1:6
  |
1 | axes.seeds=[1]
  |      ^^^^^
  |
  = hint: did you mean `seed`?
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage.train.method.training.epochs=0"],
        str![[r#"
<stderr>
error: a training needs `epochs` or `iterations`
 --> pipelines/methods/coop.toml:4:1
  |
4 | [training]
  | ^^^^^^^^^^
  |
  = hint: give one of the two, from 1 up

error: a training needs `epochs` or `iterations`
 --> pipelines/methods/maple.toml:5:1
  |
5 | [training]
  | ^^^^^^^^^^
  |
  = hint: give one of the two, from 1 up
<exit code 2>

"#]],
    );
    refused_with(
        &["--set", "stage.train.method.training.epoch=1"],
        str![[r#"
<stderr>
error: unknown key `epoch`
 --> --set:1:29
  |
1 | stage.train.method.training.epoch=1
  |                             ^^^^^
  |
  = hint: did you mean `epochs`?
<exit code 2>

"#]],
    );
}

#[test]
fn toml_that_is_none() {
    refused(
        PIPELINE,
        "shots = 2",
        "shots = = 2",
        str![[r#"
<stderr>
error: invalid TOML: extra `=`, expected nothing
  --> pipelines/tiny.toml:39:9
   |
39 | shots = = 2
   |         ^

error: invalid TOML: unexpected key or value, expected newline, `#`
  --> pipelines/tiny.toml:39:11
   |
39 | shots = = 2
   |           ^
<exit code 2>

"#]],
    );
    refused(
        PIPELINE,
        "shots = 2",
        "shots = 2\nshots = 3",
        str![[r#"
<stderr>
error: invalid TOML: duplicate key
  --> pipelines/tiny.toml:40:1
   |
40 | shots = 3
   | ^^^^^
<exit code 2>

"#]],
    );
    let project = Project::new();
    project.write(PIPELINE, "");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `pipelines/tiny.toml` has no stages
hint: a stage is a table like `[stage.data]` with a `kind`
<exit code 2>

"#]],
    );
}

#[test]
fn several_mistakes_are_told_at_once() {
    let project = Project::new();
    project.replace(PIPELINE, "shots = 2", "shotz = 2");
    project.replace(PIPELINE, "captioned = 32", "captioned = \"many\"");
    project.replace("pipelines/methods/maple.toml", "depth = 1", "depth = 1.5");
    project.replace(PIPELINE, "classes = \"base\"", "classes = \"basic\"\nshuffle = true");
    project.replace(PIPELINE, "\"@eval\"]", "\"@evil\"]");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: `@evil` refers to no stage of this pipeline
  --> pipelines/tiny.toml:73:23
   |
73 | evals = ["@zeroshot", "@evil"]
   |                       ^^^^^^^
   |
   = hint: did you mean `@eval`?

error: unknown key `shotz`
  --> pipelines/tiny.toml:39:1
   |
39 | shotz = 2
   | ^^^^^
   |
   = hint: did you mean `shots`?

error: unknown value `basic`
  --> pipelines/tiny.toml:41:11
   |
41 | classes = "basic"
   |           ^^^^^^^
   |
   = hint: did you mean `base`?

error: unknown key `shuffle`
  --> pipelines/tiny.toml:42:1
   |
42 | shuffle = true
   | ^^^^^^^
   |
   = hint: known here: `shots`, `seed`, `classes`, `generator`

error: invalid type: string "many", expected an integer from 0 up
  --> pipelines/tiny.toml:14:13
   |
14 | captioned = "many"
   |             ^^^^^^

error: invalid type: floating point `1.5`, expected an integer
 --> pipelines/methods/maple.toml:3:9
  |
3 | depth = 1.5
  |         ^^^
<exit code 2>

"#]],
    );
}

#[test]
fn files_that_are_not_there() {
    let project = Project::new();
    project.prints(
        &["run", "pipelines/tiney.toml"],
        str![[r#"
<stderr>
error: could not read `pipelines/tiney.toml`: No such file or directory (os error 2)
hint: the argument is the path of a pipeline, e.g. `pipelines/quickstart.toml`
<exit code 2>

"#]],
    );
    project.prints(
        &["run", "pipelines"],
        str![[r#"
<stderr>
error: could not read `pipelines`: Is a directory (os error 21)
hint: the argument is the path of a pipeline, e.g. `pipelines/quickstart.toml`
<exit code 2>

"#]],
    );
    fs::remove_file(project.file("data/shapes/split.json")).unwrap();
    project.prints(
        &["run", PIPELINE],
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
    fs::remove_dir_all(project.file("data")).unwrap();
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: there is no folder `pipelines/../data/shapes`
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
    project.replace(PIPELINE, "root = \"../data/{dataset}\"\n", "");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stderr>
error: stage `data` needs the folder of your data sets
  --> pipelines/tiny.toml:29:8
   |
29 | [stage.data]
   |        ^^^^
   |
   = hint: give `--data-root FOLDER` or set MAPLE_DATA; it should hold `shapes`

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
    project.prints(
        &["run", PIPELINE, "--data-root", "nowhere"],
        str![[r#"
<stderr>
error: there is no folder `nowhere/shapes`
  --> pipelines/tiny.toml:29:8
   |
29 | [stage.data]
   |        ^^^^
   |
   = hint: put the data set there, so that `nowhere/shapes` holds `images` and `split.json`

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
}

#[test]
fn selections() {
    refused_with(
        &["--only", "train/[*"],
        str![[r#"
<stderr>
error: `--only train/[*` is not a glob: unclosed character class; missing ']'
<exit code 2>

"#]],
    );
    refused_with(
        &["--only", "trian/*"],
        str![[r#"
<stderr>
error: `--only trian/*` matches no node
hint: `maple-pipe status --all` lists the nodes; `*` matches any text, e.g. `--only 'train/*/seed1'`
<exit code 2>

"#]],
    );
    let project = Project::new();
    project.prints(
        &["explain", PIPELINE, "train/shapes/mapel/seed1"],
        str![[r#"
<stderr>
error: the pipeline has no node `train/shapes/mapel/seed1`
hint: did you mean `train/shapes/maple/seed1`?
<exit code 2>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "everything"],
        str![[r#"
<stderr>
error: the pipeline has no node `everything`
hint: `maple-pipe status --all` lists the nodes
<exit code 2>

"#]],
    );
}

#[test]
fn stores() {
    refused_with(
        &["--store", "pipelines/tiny.toml"],
        str![[r#"
<stderr>
error: the store `pipelines/tiny.toml` is not a folder
hint: name another with `--store`
<exit code 2>

"#]],
    );
    refused_with(
        &["-j", "0"],
        str![[r#"
<stderr>
error: invalid value '0' for '--jobs <N>': 0 is not in 1..=1024

For more information, try '--help'.
<exit code 2>

"#]],
    );
    // A file in a folder's place cannot be written to by anyone, root included.
    let project = Project::new();
    project.write(".maple/records", "");
    project.prints(
        &["run", PIPELINE, "--only", "data/*"],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) data/shapes
error: could not create `[PROJECT]/.maple/records/c6`: Not a directory (os error 20)
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    let project = Project::new();
    fs::create_dir(project.file("closed")).unwrap();
    fs::set_permissions(project.file("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let command = project.command(&["run", PIPELINE, "--only", "data/*", "--store", "closed"]);
    let printed = project.printed(bound_by_permissions(command).output().unwrap());
    fs::set_permissions(project.file("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    printed.is(str![[r#"
<stderr>
      FAILED [TIME] (1/1) data/shapes
error: could not create `[PROJECT]/closed/work`: Permission denied (os error 13)
1 node: 0 ran, 0 cached, 1 failed in [TIME]
this run is not recorded: could not create `[PROJECT]/closed/runs`: Permission denied (os error 13)
<exit code 1>

"#]]);
}

#[test]
fn a_split_that_names_a_missing_image_fails_its_node() {
    let project = Project::new();
    let split = project.read("data/shapes/split.json");
    project.write("data/shapes/split.json", &split.replacen("0001.png", "9999.png", 1));
    project.prints(
        &["run", PIPELINE, "--only", "shots/*", "-j", "1"],
        str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: `[PROJECT]/pipelines/../data/shapes/images` lacks `striped_turquoise_crescent/9999.png`, which the split names
hint: the data set is incomplete: fetch or unpack it again
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]],
    );
    project.write("data/shapes/split.json", &split.replace("\"test\"", "\"tests\""));
    project.prints(&["run", PIPELINE, "--only", "shots/*", "-j", "1"], str![[r#"
<stderr>
      FAILED [TIME] (1/3) data/shapes
error: `[PROJECT]/pipelines/../data/shapes/split.json` is not a valid split file: missing field `test` at line 1 column 1949
3 nodes: 0 ran, 0 cached, 1 failed, 2 blocked in [TIME]
<exit code 1>

"#]]);
    project.write("data/shapes/split.json", &split);
    assert_eq!(project.ran(&["run", PIPELINE, "--only", "shots/*"]).len(), 3);
}

#[test]
fn without_keep_going_a_failure_ends_the_run() {
    let project = Project::after_a_run();
    // What took longer goes first: without the memory of it, the order is the pipeline's.
    fs::remove_dir_all(project.file(".maple/state")).unwrap();
    let diverge =
        ["--set", "stage.train.method.training.learning_rate=1e30", "--set", "stage.train.method.training.epochs=2"];
    let arguments = [&["run", PIPELINE, "--only", "eval/*/seed1/*", "-j", "1"][..], &diverge].concat();
    project.prints(
        &arguments,
        str![[r#"
<stderr>
      FAILED [TIME] ( 5/10) train/shapes/coop/seed1
error: the loss is NaN in epoch 1 of 2, step 2 of 2, at learning rate 1e30, on `images/solid_blue_square/0002.jpg`, `images/solid_blue_square/0001.png`
hint: a smaller `learning_rate` may help
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
10 nodes: 0 ran, 4 cached, 1 failed, 2 blocked, 3 not started in [TIME]
<exit code 1>

"#]],
    );
    project.prints(
        &[&arguments[..], &["--keep-going"]].concat(),
        str![[r#"
<stderr>
      FAILED [TIME] ( 5/10) train/shapes/coop/seed1
error: the loss is NaN in epoch 1 of 2, step 2 of 2, at learning rate 1e30, on `images/solid_blue_square/0002.jpg`, `images/solid_blue_square/0001.png`
hint: a smaller `learning_rate` may help
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
      FAILED [TIME] ( 6/10) train/shapes/maple/seed1
error: the loss is NaN in epoch 1 of 2, step 2 of 2, at learning rate 1e30, on `images/solid_blue_square/0002.jpg`, `images/solid_blue_square/0001.png`
hint: a smaller `learning_rate` may help
log: [PROJECT]/.maple/logs/tiny/train/shapes/maple/seed1.log
10 nodes: 0 ran, 4 cached, 2 failed, 4 blocked in [TIME]
<exit code 1>

"#]],
    );
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
}

#[test]
fn a_training_that_diverges_in_its_last_step_fails() {
    let project = Project::after_a_run();
    let set = |what: &str| format!("stage.train.method.training.{what}");
    let (rate, batch) = (set("learning_rate=1e39"), set("batch_size=4"));
    let arguments = ["run", PIPELINE, "--only", "train/*/maple/seed1", "-j", "1", "--set", &rate, "--set", &batch];
    project.prints(
        &arguments,
        str![[r#"
<stderr>
      FAILED [TIME] (5/5) train/shapes/maple/seed1
error: `prompt_learner.ctx` is no longer finite behind epoch 1 of 1, step 1 of 1, at learning rate 1e39
hint: a smaller `learning_rate` may help
log: [PROJECT]/.maple/logs/tiny/train/shapes/maple/seed1.log
5 nodes: 0 ran, 4 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn damaged_weights_are_suspected_before_the_learning_rate() {
    let project = Project::after_a_run();
    let checkpoint = Checkpoint::read(&project.artifact("clip", "weights")).unwrap();
    let mut tensors = checkpoint.tensors().clone();
    // All bits set are no number, in any precision.
    overwrite(tensors.get_mut("visual.proj").unwrap(), &[0xff; 8]);
    fs::write(project.file("damaged.safetensors"), to_safetensors(&tensors, None).unwrap()).unwrap();
    let known = "backbone = { activation = \"quick_gelu\", vision_heads = 1, text_heads = 1 }";
    let text = project.read(PIPELINE).replace("\"@clip\"", &format!("\"../damaged.safetensors\"\n{known}"));
    project.write(PIPELINE, &text);
    project.prints(&["run", PIPELINE, "--only", "train/*/coop/seed1", "-j", "1"], str![[r#"
<stderr>
      FAILED [TIME] (3/3) train/shapes/coop/seed1
error: the loss is NaN in epoch 1 of 1, step 1 of 2, at learning rate 0.01, on `images/striped_turquoise_crescent/0003.png`, `images/striped_turquoise_crescent/0002.jpg`
hint: nothing is learned yet: look for damaged weights with `maple-pipe weights check`; in 16 bits, large ones overflow
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
3 nodes: 0 ran, 2 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    project.prints(
        &["weights", "check", "damaged.safetensors"],
        str![[r#"
<stdout>
file        damaged.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 16, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 49408 words
embedding   16
heads       vision: not told; text: not told
activation  not told
values      3318977 in 38 tensors: 3318977 F16
sha-256     [DIGEST]
<stderr>
error: values that are infinite or no numbers: 4, the first of them in `visual.proj`
hint: nothing can be computed with them: fetch or convert the weights again
<exit code 1>

"#]],
    );
}

#[test]
fn a_prompt_that_cannot_be_read_names_its_class() {
    let project = Project::after_a_run();
    let arguments = ["run", PIPELINE, "--only", "train/*/coop/seed1", "-j", "1"];
    project.prints(&[&arguments[..], &["--set", "stage.train.method.context_length=75"]].concat(), str![[r#"
<stderr>
      FAILED [TIME] (5/5) train/shapes/coop/seed1
error: the prompt of class `striped turquoise crescent` with a context of 75 has 81 tokens, more than the 77 that the text tower reads
hint: shorten the class name, the words around it, or the context
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
5 nodes: 0 ran, 4 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    let split = project.read("data/shapes/split.json").replace("solid blue square", "solid <|endoftext|> square");
    project.write("data/shapes/split.json", &split);
    project.prints(&arguments, str![[r#"
<stderr>
        DONE [TIME] (3/5) data/shapes   4 classes, 32 images
        DONE [TIME] (4/5) shots/shapes/seed1   4 images
      FAILED [TIME] (5/5) train/shapes/coop/seed1
error: the prompt of class `solid <|endoftext|> square` with a context of 2 holds `<|startoftext|>` or `<|endoftext|>`, which mark the start and the end of a text
hint: give the class another name
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
5 nodes: 2 ran, 2 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

#[test]
fn an_image_that_does_not_decode_fails_what_reads_it() {
    let project = Project::after_a_run();
    let split: serde_json::Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
    let last = split["test"].as_array().unwrap().last().unwrap()[0].as_str().unwrap();
    project.write(&format!("data/shapes/images/{last}"), "no picture");
    let arguments = ["run", PIPELINE, "--only", "{zeroshot/*,data/*}", "--keep-going", "-j", "1"];
    project.prints(&arguments, str![[r#"
<stderr>
        DONE [TIME] (3/5) data/shapes   4 classes, 32 images
      FAILED [TIME] (5/5) zeroshot/shapes/clip/novel
error: `[PROJECT]/pipelines/../data/shapes/images/dotted_green_triangle/0008.jpg` is not a valid image: The image format could not be determined
hint: replace the file, or leave such images out with `on_bad_image = "skip"`
log: [PROJECT]/.maple/logs/tiny/zeroshot/shapes/clip/novel.log
5 nodes: 1 ran, 3 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    project.prints(
        &["status", PIPELINE, "--only", "zeroshot/*"],
        str![[r#"
<stdout>
changed: inputs.dataset.test-novel (1)
  zeroshot/shapes/clip/novel
<stderr>
5 nodes: 4 up to date, 1 stale, 0 waiting for them
<exit code 0>

"#]],
    );
}

#[test]
fn classes_without_images() {
    // One class is all there is: it is the base, and nothing is novel.
    let one = |project: &Project| {
        let split: serde_json::Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
        let first = |part: &str| {
            let items = split[part].as_array().unwrap().iter();
            items.filter(|item| item[1] == 0).cloned().collect::<Vec<_>>()
        };
        let split = serde_json::json!({ "train": first("train"), "val": first("val"), "test": first("test") });
        project.write("data/shapes/split.json", &split.to_string());
    };
    let project = Project::new();
    one(&project);
    project.prints(
        &["run", PIPELINE, "--only", "zeroshot/*", "--keep-going", "-j", "1"],
        str![[r#"
<stderr>
        DONE [TIME] (1/5) captioned
        DONE [TIME] (2/5) data/shapes   1 class, 8 images
        DONE [TIME] (3/5) clip   [NUMBER]
        DONE [TIME] (4/5) zeroshot/shapes/clip/base   [NUMBER]
      FAILED [TIME] (5/5) zeroshot/shapes/clip/novel
error: the data set in `[PROJECT]/pipelines/../data/shapes` has no test images of its novel classes, which are 0 of 1
hint: leave this data set out of the stage with `exclude`, or give it test images
log: [PROJECT]/.maple/logs/tiny/zeroshot/shapes/clip/novel.log
5 nodes: 4 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    project.replace(
        PIPELINE,
        "shots = 2\nseed = \"{seed}\"\nclasses = \"base\"",
        "shots = 2\nseed = 1\nclasses = \"novel\"",
    );
    project.prints(
        &["run", PIPELINE, "--only", "shots/*/seed1", "-j", "1"],
        str![[r#"
<stderr>
      FAILED [TIME] (2/2) shots/shapes/seed1
error: there is nothing to learn novel classes from: the data set in `[PROJECT]/pipelines/../data/shapes` has none
hint: leave this data set out of the stage with `exclude`, or give every class at least one training image
2 nodes: 0 ran, 1 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    // The last class is tested but not trained on, which a split file may not say.
    let project = Project::new();
    let split: serde_json::Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
    let without = |part: &str, label: u64| {
        let mut split = split.clone();
        split[part].as_array_mut().unwrap().retain(|item| item[1] != label);
        split.to_string()
    };
    project.write("data/shapes/split.json", &without("train", 3));
    project.prints(&["run", PIPELINE, "--only", "data/*"], str![[r#"
<stderr>
      FAILED [TIME] (1/1) data/shapes
error: `[PROJECT]/pipelines/../data/shapes/split.json` is not a valid split file: `val[3]` (`dotted_green_triangle/0005.png`) has label 3, which no image of `train` has
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    // A class without test images is no class to measure, and no mistake.
    project.write("data/shapes/split.json", &without("test", 1));
    project.ran(&["run", PIPELINE, "--only", "zeroshot/*/base"]);
    let per_class = fs::read_to_string(project.artifact("zeroshot/shapes/clip/base", "per-class")).unwrap();
    assert!(per_class.lines().nth(2).unwrap().ends_with(",,"), "{per_class}");
}

#[test]
fn sizes_that_no_model_can_have_are_refused_at_their_place() {
    let project = Project::new();
    project.replace(PIPELINE, "patch_size = 16", "patch_size = 0");
    project.prints(&["status", PIPELINE], str![[r#"
<stderr>
error: `architecture.patch_size` must be a number from 1 to 131072
  --> pipelines/tiny.toml:21:48
   |
21 | architecture = { image_size = 32, patch_size = 0, vision_width = 64, vision_layers = 1, text_width = 64, text_layers = 1, text_posit...
   |                                                ^
<exit code 2>

"#]]);
    project.replace(PIPELINE, "patch_size = 0", "patch_size = 16");
    project.replace(PIPELINE, "vision_width = 64", "vision_width = 100");
    project.prints(&["status", PIPELINE], str![[r#"
<stderr>
error: `architecture.vision_width` must be a multiple of 64, the width of an attention head
  --> pipelines/tiny.toml:21:67
   |
21 | architecture = { image_size = 32, patch_size = 16, vision_width = 100, vision_layers = 1, text_width = 64, text_layers = 1, text_pos...
   |                                                                   ^^^
<exit code 2>

"#]]);
}
