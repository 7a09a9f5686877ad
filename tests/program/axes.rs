//! What stages expand to: axes with attributes, `only`, `exclude`, `extra`, and `defaults`.

use snapbox::{IntoData, str};

use crate::support::{PIPELINE, Project, graph, names};

const PLAN: &str = "pipelines/plan.toml";

/// Nodes that write down what they were told.
const TEXT: &str = r#"
results = ["@note"]

[axes]
include = "../shared/axes.toml"
seed = [1, 2]

[defaults.command]
outputs = { text = "note.txt" }
parameters = { rate = 0.5, steps = 10 }

[stage.note]
kind = "command"
axes = ["dataset", "seed"]
run = "cat inputs/manifest parameters.json > note.txt"
inputs = { manifest = "{dataset.manifest}" }
parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
"#;

const AXES: &str = r#"
dataset = [
    { name = "pets", manifest = "pets.txt", rate = 0.25, title = "Pets" },
    { name = "cars", manifest = "cars.txt", rate = 2, title = "Cars" },
]
"#;

fn project() -> Project {
    let project = Project::new();
    project.write(PLAN, TEXT);
    project.write("shared/axes.toml", AXES);
    project.write("shared/pets.txt", "cats and dogs\n");
    project.write("shared/cars.txt", "wheels\n");
    project
}

/// The nodes of a pipeline, one a line.
fn nodes(project: &Project, arguments: &[&str]) -> String {
    let printed = project.run(&[&["status", PLAN, "--all"], arguments].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let nodes = printed.stdout.lines().filter_map(|line| line.split_whitespace().find(|word| word.contains("note")));
    nodes.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn refused(from: &str, to: &str, expected: impl IntoData) {
    let project = project();
    let file = if AXES.contains(from) { "shared/axes.toml" } else { PLAN };
    project.replace(file, from, to);
    project.prints(&["run", PLAN], expected);
    assert!(!project.file(".maple").exists());
}

#[track_caller]
fn refused_stage(line: &str, expected: impl IntoData) {
    let axes = "axes = [\"dataset\", \"seed\"]";
    refused(axes, &format!("{axes}\n{line}"), expected);
}

#[track_caller]
fn refused_before(text: &str, expected: impl IntoData) {
    refused("[stage.note]", &format!("{text}\n\n[stage.note]"), expected);
}

#[test]
fn values_bring_their_attributes() {
    let project = project();
    assert_eq!(project.ran(&["run", PLAN]).len(), 4);
    let note = |node: &str| std::fs::read_to_string(project.artifact(&format!("note/{node}"), "text")).unwrap();
    assert_eq!(note("pets/seed1"), "cats and dogs\n{\"rate\":0.25,\"steps\":10,\"title\":\"Pets (pets 1)\"}\n");
    assert_eq!(note("cars/seed2"), "wheels\n{\"rate\":2,\"steps\":10,\"title\":\"Cars (cars 2)\"}\n");
    // An override that names a value keeps what is known of it, and may say more.
    let narrow = ["run", PLAN, "--set", "axes.dataset=['cars']", "--set", "axes.seed=[2, 3]"];
    assert_eq!(project.ran(&narrow), names(&["note/cars/seed3"]));
    let other = ["run", PLAN, "--set", "axes.dataset=[{ name = 'cars', rate = 3 }]"];
    assert_eq!(project.ran(&other), names(&["note/cars/seed1", "note/cars/seed2"]));
    assert_eq!(note("cars/seed2"), "wheels\n{\"rate\":3,\"steps\":10,\"title\":\"Cars (cars 2)\"}\n");
    // A value without attributes will do where none is read.
    project.replace(PLAN, "manifest = \"{dataset.manifest}\"", "");
    project.replace(PLAN, "rate = \"{dataset.rate}\", title = \"{dataset.title} ({dataset} {seed})\"", "");
    project.replace(PLAN, "cat inputs/manifest parameters.json", "cat parameters.json");
    let new = ["run", PLAN, "--set", "axes.dataset=['new']", "--set", "axes.seed=[1]"];
    assert_eq!(project.ran(&new), names(&["note/new/seed1"]));
    assert_eq!(note("new/seed1"), "{\"rate\":0.5,\"steps\":10}\n");
}

#[test]
fn attributes_that_are_not_read_change_nothing() {
    let project = project();
    project.ran(&["run", PLAN]);
    project.replace("shared/axes.toml", "title = \"Pets\"", "title = \"Pets\", label = \"Oxford Pets\"");
    assert_eq!(project.ran(&["run", PLAN]), names(&[]));
    project.replace("shared/axes.toml", "rate = 2", "rate = 4");
    assert_eq!(project.ran(&["run", PLAN]), names(&["note/cars/seed1", "note/cars/seed2"]));
}

#[test]
fn a_table_may_come_from_an_attribute() {
    let project = Project::new();
    let table =
        "{ learner = \"coop\", context_length = 4, training = { epochs = 1, batch_size = 4, learning_rate = 1 } }";
    project.replace(
        PIPELINE,
        "method = [\"clip\", \"coop\", \"maple\"]",
        &format!(
            "method = [\"clip\", {{ name = \"coop\", file = \"methods/coop.toml\" }}, {{ name = \"short\", file = {table} }}]"
        ),
    );
    project.replace(
        PIPELINE,
        "[\"dataset\", \"method\", \"seed\"]\nexclude = { method = \"clip\" }\nmethod = \"methods/{method}.toml\"",
        "[\"dataset\", \"method\", \"seed\"]\nexclude = { method = \"clip\" }\nmethod = \"{method.file}\"",
    );
    let printed = project.run(&["status", PIPELINE, "--all", "--only", "train/*"]);
    assert!(printed.stdout.contains("train/shapes/short/seed2"), "{}{}", printed.stdout, printed.stderr);
}

#[test]
fn combinations() {
    let project = project();
    assert_eq!(nodes(&project, &[]), "note/pets/seed1 note/pets/seed2 note/cars/seed1 note/cars/seed2");
    let with = |line: &str| {
        let project = self::project();
        project.replace(PLAN, "axes = [\"dataset\", \"seed\"]", &format!("axes = [\"dataset\", \"seed\"]\n{line}"));
        project
    };
    let any = "[{ dataset = 'pets', seed = 1 }, { dataset = 'cars', seed = [2] }]";
    assert_eq!(nodes(&with(&format!("exclude = {any}")), &[]), "note/pets/seed2 note/cars/seed1");
    assert_eq!(nodes(&with(&format!("only = {any}")), &[]), "note/pets/seed1 note/cars/seed2");
    let both = "only = { seed = 1 }\nexclude = { dataset = 'pets' }";
    assert_eq!(nodes(&with(both), &[]), "note/cars/seed1");
    let extra =
        with("only = { seed = 1 }\nextra = [{ dataset = 'pets', seed = [1, 7] }, { dataset = 'cars', seed = 2 }]");
    assert_eq!(nodes(&extra, &[]), "note/pets/seed1 note/cars/seed1 note/pets/seed7 note/cars/seed2");
    let narrowed = ["--set", "axes.dataset=['pets']"];
    assert_eq!(nodes(&extra, &narrowed), "note/pets/seed1 note/pets/seed7");
    let printed = extra.run(&["run", PLAN]);
    assert!(printed.done().contains("note/pets/seed7"), "{}", printed.stderr);
}

#[test]
fn defaults_stand_below_what_a_stage_says() {
    let project = Project::new();
    project.replace(PIPELINE, "[stage.captioned]", "[defaults.fewshot]\nshots = 3\nclasses = \"all\"\nseed = \"{seed}\"\n\n[defaults.train]\nmethod = \"methods/{method}.toml\"\nseed = 9\n\n[stage.captioned]");
    project.replace(PIPELINE, "shots = 2\nseed = \"{seed}\"\n", "");
    project.replace(
        PIPELINE,
        "exclude = { method = \"clip\" }\nmethod = \"methods/{method}.toml\"\nshots",
        "exclude = { method = \"clip\" }\nshots",
    );
    project.ran(&["run", PIPELINE, "--only", "train/shapes/coop/seed2"]);
    let record = &project.records()["shots/shapes/seed2"]["manifest"]["parameters"];
    assert_eq!(record.to_string(), r#"{"classes":"base","seed":2,"shots":3}"#);
    let record = &project.records()["train/shapes/coop/seed2"]["manifest"]["parameters"];
    assert_eq!((&record["seed"], &record["method"]["learner"]), (&2.into(), &"coop".into()));
    // What a stage includes is its own, too.
    project.write("pipelines/shots.toml", "shots = 1");
    project.replace(PIPELINE, "kind = \"fewshot\"", "kind = \"fewshot\"\ninclude = \"shots.toml\"");
    project.ran(&["run", PIPELINE, "--only", "shots/*"]);
    assert_eq!(project.records()["shots/shapes/seed2"]["manifest"]["parameters"]["shots"], 1);
    project.ran(&["run", PIPELINE, "--only", "shots/*", "--set", "stage.shots.shots=2"]);
    assert_eq!(project.records()["shots/shapes/seed2"]["manifest"]["parameters"]["shots"], 2);
}

#[test]
fn attributes_that_are_not_there() {
    refused(
        "{dataset.rate}",
        "{dataset.rat}",
        str![[r#"
<stderr>
error: `pets` of axis `dataset` has no attribute `rat`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.rat}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^
   |
   = hint: did you mean `rate`?

error: `cars` of axis `dataset` has no attribute `rat`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.rat}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^
   |
   = hint: did you mean `rate`?
<exit code 2>

"#]],
    );
    refused(
        "{dataset.rate}",
        "{dataset.width}",
        str![[r#"
<stderr>
error: `pets` of axis `dataset` has no attribute `width`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.width}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "pets", width = ... }`

error: `cars` of axis `dataset` has no attribute `width`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.width}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "cars", width = ... }`
<exit code 2>

"#]],
    );
    refused(
        "rate = 2, ",
        "",
        str![[r#"
<stderr>
error: `cars` of axis `dataset` has no attribute `rate`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "cars", rate = ... }`
<exit code 2>

"#]],
    );
    refused(
        "{dataset.rate}",
        "{data.rate}",
        str![[r#"
<stderr>
error: `{data}` is not an axis of this stage
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{data.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^
   |
   = hint: add `data` to its `axes`, or write `{{data.rate}}` for the plain text
<exit code 2>

"#]],
    );
    refused(
        "rate = 2, title = \"Cars\"",
        "rate = 2, title = [\"Cars\"]",
        str![[r#"
<stderr>
error: `{dataset.title}` is an array, which no text can hold
  --> pipelines/plan.toml:17:49
   |
17 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: write `"{dataset.title}"` alone
<exit code 2>

"#]],
    );
    refused(
        "name = \"pets\", ",
        "",
        str![[r#"
<stderr>
error: an axis value with attributes needs a `name`
 --> pipelines/../shared/axes.toml:3:5
  |
3 |     { manifest = "pets.txt", rate = 0.25, title = "Pets" },
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = hint: for example `{ name = "pets", manifest = "pets.toml" }`
<exit code 2>

"#]],
    );
    refused(
        "name = \"pets\"",
        "name = true",
        str![[r#"
<stderr>
error: an axis value is a string or a number, not a boolean
 --> pipelines/../shared/axes.toml:3:14
  |
3 |     { name = true, manifest = "pets.txt", rate = 0.25, title = "Pets" },
  |              ^^^^
<exit code 2>

"#]],
    );
    refused(
        "name = \"pets\"",
        "name = \"cars\"",
        str![[r#"
<stderr>
error: axis `dataset` has the value `cars` twice
 --> pipelines/../shared/axes.toml:4:5
  |
4 |     { name = "cars", manifest = "cars.txt", rate = 2, title = "Cars" },
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "pets.txt",
        "pet.txt",
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/../shared/pet.txt`
 --> pipelines/../shared/axes.toml:3:33
  |
3 |     { name = "pets", manifest = "pet.txt", rate = 0.25, title = "Pets" },
  |                                 ^^^^^^^^^
  |
  = hint: did you mean `pipelines/../shared/pets.txt`?
<exit code 2>

"#]],
    );
    refused(
        "../shared/axes.toml",
        "../shared/axis.toml",
        str![[r#"
<stderr>
error: could not read `pipelines/../shared/axis.toml`: No such file or directory (os error 2)
 --> pipelines/plan.toml:5:11
  |
5 | include = "../shared/axis.toml"
  |           ^^^^^^^^^^^^^^^^^^^^^
  |
  = hint: did you mean `pipelines/../shared/axes.toml`?
<exit code 2>

"#]],
    );
    let project = project();
    project.prints(
        &["run", PLAN, "--set", "axes.dataset=['new']"],
        str![[r#"
<stderr>
error: `new` of axis `dataset` has no attribute `manifest`
  --> pipelines/plan.toml:16:23
   |
16 | inputs = { manifest = "{dataset.manifest}" }
   |                       ^^^^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", manifest = ... }`

error: `new` of axis `dataset` has no attribute `rate`
  --> pipelines/plan.toml:17:23
   |
17 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", rate = ... }`

error: `new` of axis `dataset` has no attribute `title`
  --> pipelines/plan.toml:17:49
   |
17 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", title = ... }`
<exit code 2>

"#]],
    );
}

#[test]
fn combinations_that_mean_nothing() {
    refused_stage(
        "exclude = [{ datasets = 'pets' }, { dataset = 'pet', seed = 3 }]",
        str![[r#"
<stderr>
error: `datasets` is not an axis of this stage
  --> pipelines/plan.toml:15:14
   |
15 | exclude = [{ datasets = 'pets' }, { dataset = 'pet', seed = 3 }]
   |              ^^^^^^^^
   |
   = hint: did you mean `dataset`?

error: axis `dataset` has no value `pet`
  --> pipelines/plan.toml:15:47
   |
15 | exclude = [{ datasets = 'pets' }, { dataset = 'pet', seed = 3 }]
   |                                               ^^^^^
   |
   = hint: did you mean `pets`?

error: axis `seed` has no value `3`
  --> pipelines/plan.toml:15:61
   |
15 | exclude = [{ datasets = 'pets' }, { dataset = 'pet', seed = 3 }]
   |                                                             ^
   |
   = hint: did you mean `1`?
<exit code 2>

"#]],
    );
    refused_stage(
        "only = ['pets']",
        str![[r#"
<stderr>
error: `only` must be a table of axis values, not a string
  --> pipelines/plan.toml:15:9
   |
15 | only = ['pets']
   |         ^^^^^^
   |
   = hint: for example `{ method = "clip" }`, or a list of such tables
<exit code 2>

"#]],
    );
    refused_stage(
        "extra = { dataset = 'pets' }",
        str![[r#"
<stderr>
error: this combination has no value of axis `seed`
  --> pipelines/plan.toml:15:9
   |
15 | extra = { dataset = 'pets' }
   |         ^^^^^^^^^^^^^^^^^^^^
   |
   = hint: give one for each of the stage's `axes`
<exit code 2>

"#]],
    );
    refused_stage(
        "extra = [{ dataset = 'pets', seed = 1, method = 'x' }]",
        str![[r#"
<stderr>
error: `method` is not an axis of this stage
  --> pipelines/plan.toml:15:40
   |
15 | extra = [{ dataset = 'pets', seed = 1, method = 'x' }]
   |                                        ^^^^^^
   |
   = hint: known here: `dataset`, `seed`
<exit code 2>

"#]],
    );
    refused_stage(
        "extra = [{ dataset = 'new', seed = 1 }]",
        str![[r#"
<stderr>
error: `new` of axis `dataset` has no attribute `manifest`
  --> pipelines/plan.toml:17:23
   |
17 | inputs = { manifest = "{dataset.manifest}" }
   |                       ^^^^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", manifest = ... }`

error: `new` of axis `dataset` has no attribute `rate`
  --> pipelines/plan.toml:18:23
   |
18 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                       ^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", rate = ... }`

error: `new` of axis `dataset` has no attribute `title`
  --> pipelines/plan.toml:18:49
   |
18 | parameters = { rate = "{dataset.rate}", title = "{dataset.title} ({dataset} {seed})" }
   |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: in `axes`: `{ name = "new", title = ... }`
<exit code 2>

"#]],
    );
}

#[test]
fn defaults_that_mean_nothing() {
    refused_before(
        "[defaults.comand]\nrun = 'true'",
        str![[r#"
<stderr>
error: unknown kind of stage `comand`
  --> pipelines/plan.toml:12:11
   |
12 | [defaults.comand]
   |           ^^^^^^
   |
   = hint: did you mean `command`?
<exit code 2>

"#]],
    );
    refused_before(
        "[defaults.table]\ncaption.x = 1\n\n[stage.table]\nkind = \"table\"\nevals = \"@note\"",
        str![[r#"
<stderr>
error: invalid type: table, expected a string
  --> pipelines/plan.toml:13:1
   |
13 | caption.x = 1
   | ^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "[defaults.command]\n",
        "[defaults]\ntrain = 1\n\n[defaults.command]\n",
        str![[r#"
<stderr>
error: `defaults.train` must be a table, not an integer
 --> pipelines/plan.toml:9:9
  |
9 | train = 1
  |         ^
<exit code 2>

"#]],
    );
    refused(
        "[defaults.command]\n",
        "[defaults.command]\noutput = 3\n",
        str![[r#"
<stderr>
error: unknown key `output`
 --> pipelines/plan.toml:9:1
  |
9 | output = 3
  | ^^^^^^
  |
  = hint: did you mean `outputs`?
<exit code 2>

"#]],
    );
}

/// A value that differs from node to node stands in one table, also in an included file, which the stage may lay values over.
#[test]
fn an_axis_chooses_values() {
    let project = project();
    project.write(
        "shared/speed.toml",
        "rate = { per = \"dataset\", cars = 9, otherwise = 3 }\nsteps = { per = \"none\", otherwise = 7 }\n",
    );
    project.replace(PLAN, "rate = \"{dataset.rate}\", ", "include = \"../shared/speed.toml\", ");
    let notes = |arguments: &[&str]| {
        let printed = project.run(&[&["run", PLAN, "--set", "axes.seed=[1]"], arguments].concat());
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        let mut lines = Vec::new();
        for entry in walkdir::WalkDir::new(project.file("results")).sort_by_file_name() {
            let path = entry.unwrap().into_path();
            if path.is_file() {
                lines.extend(
                    std::fs::read_to_string(&path)
                        .unwrap()
                        .lines()
                        .filter(|line| line.contains("rate"))
                        .map(str::to_owned),
                );
            }
        }
        std::fs::remove_dir_all(project.file("results")).unwrap();
        lines.join("\n") + "\n"
    };
    snapbox::assert_data_eq!(
        notes(&[]),
        str![[r#"
{"rate":9,"steps":7,"title":"Cars (cars 1)"}
{"rate":3,"steps":7,"title":"Pets (pets 1)"}

"#]]
    );
    snapbox::assert_data_eq!(
        notes(&["--set", "stage.note.parameters.rate.pets=4"]),
        str![[r#"
{"rate":9,"steps":7,"title":"Cars (cars 1)"}
{"rate":4,"steps":7,"title":"Pets (pets 1)"}

"#]]
    );
    snapbox::assert_data_eq!(
        notes(&["--set", "stage.note.parameters.rate=5"]),
        str![[r#"
{"rate":5,"steps":7,"title":"Cars (cars 1)"}
{"rate":5,"steps":7,"title":"Pets (pets 1)"}

"#]]
    );
}

/// On which axes a table depends may differ with the value of one of them.
#[test]
fn a_node_has_what_its_own_values_say() {
    let project = project();
    project.write("shared/slow.toml", "rate = 1\nsteps = { per = \"dataset\", cars = 9, otherwise = \"{seed}\" }\n");
    project.write("shared/fast.toml", "rate = \"{dataset.rate}\"\n");
    project.replace(PLAN, "seed = [1, 2]\n", "seed = [1, 2]\nspeed = [\"slow\", \"fast\"]\n");
    project.replace(PLAN, "axes = [\"dataset\", \"seed\"]", "axes = [\"speed\", \"dataset\", \"seed\"]");
    project.replace(
        PLAN,
        "{ rate = \"{dataset.rate}\", title = \"{dataset.title} ({dataset} {seed})\" }",
        "\"../shared/{speed}.toml\"",
    );
    let graph = graph(&project.file(PLAN));
    let line = |&index| {
        let node = graph.node(index);
        format!("{} {}\n", node.name, node.parameters.value()["parameters"])
    };
    snapbox::assert_data_eq!(
        graph.order().iter().map(line).collect::<String>(),
        str![[r#"
note/slow/pets/seed1 {"rate":1,"steps":1}
note/slow/pets/seed2 {"rate":1,"steps":2}
note/slow/cars/seed1 {"rate":1,"steps":9}
note/slow/cars/seed2 {"rate":1,"steps":9}
note/fast/pets/seed1 {"rate":0.25,"steps":10}
note/fast/pets/seed2 {"rate":0.25,"steps":10}
note/fast/cars/seed1 {"rate":2,"steps":10}
note/fast/cars/seed2 {"rate":2,"steps":10}

"#]]
    );
}
