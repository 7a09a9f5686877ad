//! `pipelines/dassl.toml`: the trainer of a repository that builds on Dassl as nodes. `fixtures/dassl` stands in for one.

use std::fs;
use std::path::Path;

use snapbox::str;

use crate::support::{Project, copy, names};

const PIPELINE: &str = "pipelines/stand_in.toml";

/// A project with the shipped pipeline, whose axes name the stand-in, and with the stand-in as its repository.
fn project() -> Project {
    let project = Project::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipelines = project.file("pipelines");
    fs::copy(shipped.join("pipelines/dassl.toml"), pipelines.join("dassl.toml")).unwrap();
    copy(&shipped.join("pipelines/dassl"), &pipelines.join("dassl"));
    copy(&shipped.join("pipelines/tables"), &pipelines.join("tables"));
    copy(&shipped.join("results/published"), &project.file("results/published"));
    copy(&shipped.join("tests/fixtures/dassl"), &project.file("repository"));
    let tiny = project.read("pipelines/tiny.toml");
    let (_, rest) = tiny.split_once("[stage.captioned]").unwrap();
    let (clip, _) = rest.split_once("[stage.data]").unwrap();
    let axes = r#"include = "dassl.toml"
[axes]
dataset = [{ name = "shapes", folder = "shapes", config = "shapes" }]
method = [{ name = "coop16", trainer = "CoOp", config = "CoOp/tiny", epoch = 50, options = ["TRAINER.COOP.N_CTX", 16] }]
seed = [1, 2]
[stage.data]
manifest = "../manifests/shapes.toml"
root = "../data/shapes"
[stage.shots]
shots = 2
[stage.eval]
weights = "@clip"
[stage.captioned]"#;
    project.write(PIPELINE, &format!("{axes}{clip}"));
    let method =
        "learner = \"coop\"\ncontext_length = 16\n[training]\nepochs = 50\nbatch_size = 32\nlearning_rate = 0.002\n";
    project.write("pipelines/methods/coop16.toml", method);
    project
}

#[test]
fn a_trainer_of_a_repository_fills_tables_and_runs_again_when_it_changes() {
    let project = project();
    let printed = project.run(&["run", PIPELINE]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    // Of four classes two are trained on, with two images each; the seed is in the log, too.
    snapbox::assert_data_eq!(
        project.read("results/dassl/table.csv"),
        str![[r#"
table,method,dataset,metric,mean,std,seeds,note,published,delta,nodes
dassl,coop16,shapes,base,52.0750,0.0250,2,,,,21cebb5d5a40d23b 9a3db05ec02bba09
dassl,coop16,shapes,novel,52.0750,0.0250,2,,,,63f09b432a890d60 dfd9fa012471223b
dassl,coop16,shapes,hm,52.0750,,2,,,,21cebb5d5a40d23b 63f09b432a890d60 9a3db05ec02bba09 dfd9fa012471223b

"#]]
    );
    let here = project.read("results/dassl/table_here.csv");
    assert!(here.contains("coop16"), "{here}");

    let again = |expected: &[&str]| assert_eq!(project.ran(&["run", PIPELINE]), names(expected));
    project.write("repository/dassl/__pycache__/datasets.cpython-313.pyc", "what Python keeps");
    project.write("repository/output/log.txt", "of another run");
    again(&["code"]);
    project.write("repository/configs/trainers/CoOp/tiny.yaml", "OPTIM:\n  MAX_EPOCH: 51\n");
    let trained = ["code", "train/shapes/coop16/seed1", "train/shapes/coop16/seed2"];
    let tested =
        ["seed1/base", "seed1/novel", "seed2/base", "seed2/novel"].map(|node| format!("test/shapes/coop16/{node}"));
    // Their logs and checkpoints are the same as before, so that nothing more runs.
    again(&[&trained[..], &tested.each_ref().map(String::as_str)].concat());
}

#[test]
fn what_a_trainer_does_not_leave_is_told() {
    let project = project();
    let printed = project.run(&[
        "run",
        PIPELINE,
        "-j1",
        "--only",
        "train/*/seed1",
        "--set",
        "axes.method=[{name=\"coop16\",trainer=\"CoOp\",config=\"CoOp/tiny\",epoch=3,options=[]}]",
    ]);
    assert_eq!(printed.code, Some(1));
    snapbox::assert_data_eq!(
        printed.stderr,
        str![[r#"
        DONE [TIME] (1/4) data/shapes   4 classes, 32 images
        DONE [TIME] (2/4) shots/shapes/seed1   8 images
        DONE [TIME] (3/4) code
      FAILED [TIME] (4/4) train/shapes/coop16/seed1
error: its command ended with exit status: 1
  | Checkpoint saved to [PROJECT]/.maple/work/run-[ID]/4/output/prompt_learner
  | => result
  | * total: 2,000
  | * correct: 1,041
  | * accuracy: 52.05%
  | * error: 47.95%
  | * macro_f1: 51.55%
  | Elapsed: 0:00:01
  | error: the trainer left 0 files `model.pth.tar-3`, not one
  | hint: its checkpoints are: prompt_learner/model.pth.tar-50
log: [PROJECT]/.maple/logs/dassl/train/shapes/coop16/seed1.log
4 nodes: 3 ran, 0 cached, 1 failed in [TIME]

"#]]
    );
    let failed =
        ["run", PIPELINE, "--only", "train/*/seed1", "--set", "stage.train.parameters.options=[\"FAIL\",\"yes\"]"];
    snapbox::assert_data_eq!(
        project.run(&failed).stderr,
        str![[r#"
      FAILED [TIME] (4/4) train/shapes/coop16/seed1
error: its command ended with exit status: 1
  | Loading preprocessed few-shot data from shot_2-seed_1.pkl
  | # train_x  4
  | # val      4
  | RuntimeError: CUDA out of memory
  | error: the trainer ended with code 1
log: [PROJECT]/.maple/logs/dassl/train/shapes/coop16/seed1.log
4 nodes: 0 ran, 3 cached, 1 failed in [TIME]

"#]]
    );
    let lacking = ["run", PIPELINE, "--only", "train/*/seed1", "--set", "stage.train.parameters.config=\"CoOp/rn50\""];
    snapbox::assert_data_eq!(
        project.run(&lacking).stderr,
        str![[r#"
      FAILED [TIME] (4/4) train/shapes/coop16/seed1
error: its command ended with exit status: 1
  | error: the repository has no `configs/trainers/CoOp/rn50.yaml`
  | hint: look at the attributes of the axes
log: [PROJECT]/.maple/logs/dassl/train/shapes/coop16/seed1.log
4 nodes: 0 ran, 3 cached, 1 failed in [TIME]

"#]]
    );
}

#[test]
fn a_log_that_reports_nothing_is_told() {
    let project = Project::new();
    let pipeline = |lines: &str| {
        format!(
            "[axes]\ndataset = [\"shapes\"]\nmethod = [\"theirs\"]\n\
             [stage.theirs]\nkind = \"command\"\naxes = [\"dataset\", \"method\"]\n\
             run = \"printf 'epoch 1\\\\nTop-1 71.25, Top-5 93.10\\\\nDone\\\\n' > log\"\noutputs = {{ log = \"log\", folder = \"folder/\" }}\n\
             [stage.reported]\nkind = \"reported\"\naxes = [\"dataset\", \"method\"]\nlog = \"@theirs.log\"\n{lines}\n\
             [stage.table]\nkind = \"table\"\nevals = \"@reported\"\ncaption = \"Theirs.\"\n"
        )
        .replace("run = \"", "run = \"mkdir folder; ")
    };
    let run = |lines: &str| {
        project.write("theirs.toml", &pipeline(lines));
        project.run(&["run", "theirs.toml"])
    };
    snapbox::assert_data_eq!(
        run("").stderr,
        str![[r#"
        DONE [TIME] (1/3) theirs/shapes/theirs
      FAILED [TIME] (2/3) reported/shapes/theirs
error: the log reports no accuracy: no line has `* accuracy: {}%`; it ends with `Done`
hint: say in `lines` how the program reports it, with `{}` for the number
3 nodes: 1 ran, 0 cached, 1 failed, 1 blocked in [TIME]

"#]]
    );
    snapbox::assert_data_eq!(
        run("lines = { accuracy = \"Top-5 {}\", loss = \"epoch {}\" }").stderr,
        str![[r#"
        DONE [TIME] (2/3) reported/shapes/theirs   93.1 %
        DONE [TIME] (3/3) table   1 evaluations
3 nodes: 2 ran, 1 cached, 0 failed in [TIME]
wrote results/theirs

"#]]
    );
    let read = project.read("results/theirs/table.csv");
    assert!(read.contains("93.1"), "{read}");
    snapbox::assert_data_eq!(
        run("lines = { accuracy = \"Top-1\" }").stderr,
        str![[r#"
error: `lines.accuracy` does not hold `{}` once: `Top-1`
  --> theirs.toml:13:22
   |
13 | lines = { accuracy = "Top-1" }
   |                      ^^^^^^^
   |
   = hint: `{}` stands for the number, as in `* accuracy: {}%`

"#]]
    );
    snapbox::assert_data_eq!(
        run("lines = { loss = \"epoch {}\" }").stderr,
        str![[r#"
error: `lines` does not say how the log reports `accuracy`
  --> theirs.toml:13:9
   |
13 | lines = { loss = "epoch {}" }
   |         ^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: for example `lines = { accuracy = "* accuracy: {}%" }`

"#]]
    );
    snapbox::assert_data_eq!(
        run("lines = { accuracy = \"Done{}\" }").stderr,
        str![[r#"
      FAILED [TIME] (2/3) reported/shapes/theirs
error: the log reports no number as `accuracy`: `Done`
hint: the last line counts that looks as `lines` says
3 nodes: 0 ran, 1 cached, 1 failed, 1 blocked in [TIME]

"#]]
    );
    project.replace("theirs.toml", "@theirs.log", "@theirs.folder");
    snapbox::assert_data_eq!(
        project.run(&["run", "theirs.toml"]).stderr,
        str![[r#"
error: `log` takes a file, but `folder` is a folder
  --> theirs.toml:12:7
   |
12 | log = "@theirs.folder"
   |       ^^^^^^^^^^^^^^^^

"#]]
    );
}
