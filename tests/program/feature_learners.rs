//! Trainings behind the towers, which take all their image features from a `features` stage.

use serde_json::Value;

use crate::support::{PIPELINE, Project, names};

/// The stages: one sample, its features, and a training and an evaluation of each method.
pub const STAGES: &str = r#"
name = "behind"
results = ["@behind_eval.metrics"]
include = "tiny.toml"

[axes]
learner = ["linear_probe", "clap", "tip_adapter_f"]

[stage.views]
kind = "features"
axes = ["dataset", "seed"]
shots = "@shots"
split = "train"
weights = "@clip"
views = { epochs = 2, seed = "{seed}" }

[stage.validation]
kind = "features"
axes = ["dataset", "seed"]
shots = "@shots"
split = "val"
weights = "@clip"

[stage.behind]
kind = "train"
axes = ["dataset", "learner", "seed"]
method = "methods/{learner}.toml"
shots = "@shots"
weights = "@clip"
seed = "{seed}"
features = "@views"
validation = "@validation"

[stage.behind_eval]
kind = "eval"
axes = ["dataset", "learner", "seed"]
prompt = "@behind"
dataset = "@data"
weights = "@clip"
classes = "base"
"#;

const BEHIND: &str = "pipelines/behind.toml";

fn project() -> Project {
    let project = Project::after_a_run();
    project.write(BEHIND, STAGES);
    write_methods(&project);
    project
}

/// Writes the methods that [`STAGES`] name.
pub fn write_methods(project: &Project) {
    let training = "[training]\nepochs = 3\nbatch_size = 2\nlearning_rate = 0.01\n";
    project.write("pipelines/methods/linear_probe.toml", "learner = \"linear-probe\"\n");
    project.write(
        "pipelines/methods/clap.toml",
        &format!("learner = \"zs-lp\"\nclass_adaptive_penalty = true\n{training}"),
    );
    project.write("pipelines/methods/tip_adapter_f.toml", &format!("learner = \"tip-adapter\"\n{training}"));
}

fn refused(project: &Project, arguments: &[&str]) -> String {
    let printed = project.run(&[&["status", BEHIND], arguments].concat());
    assert_eq!(printed.code, Some(2), "{}{}", printed.stdout, printed.stderr);
    printed.stderr
}

#[test]
fn trainings_and_evaluations_run_once() {
    let project = project();
    let ran = project.ran(&["run", BEHIND, "--set", "axes.seed=[1]"]);
    let expected = names(&[
        "table",
        "views/shapes/seed1",
        "validation/shapes/seed1",
        "behind/shapes/linear_probe/seed1",
        "behind/shapes/clap/seed1",
        "behind/shapes/tip_adapter_f/seed1",
        "behind_eval/shapes/linear_probe/seed1",
        "behind_eval/shapes/clap/seed1",
        "behind_eval/shapes/tip_adapter_f/seed1",
    ]);
    assert_eq!(ran, expected);
    assert_eq!(project.ran(&["run", BEHIND, "--set", "axes.seed=[1]"]), names(&[]));
    // The log of a training without steps has no epochs; that of CLAP names its terms.
    let log = |node: &str| std::fs::read_to_string(project.artifact(node, "log")).unwrap();
    assert_eq!(log("behind/shapes/linear_probe/seed1").trim(), "");
    let first: Value = serde_json::from_str(log("behind/shapes/clap/seed1").lines().next().unwrap()).unwrap();
    let terms: Vec<&String> = first["terms"].as_object().unwrap().keys().collect();
    assert_eq!(terms, ["class_weights", "cross_entropy"]);
}

#[test]
fn what_was_learned_for_each_class_serves_no_others() {
    let project = project();
    let more = ["run", BEHIND, "--set", "axes.seed=[1]", "--set", "axes.learner=[\"clap\"]"];
    let printed = project.run(&[&more[..], &["--set", "stage.behind_eval.classes=novel"]].concat());
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(printed.stderr.contains("hold what was learned for each class, which serves its own classes alone"));
}

#[test]
fn features_that_are_not_the_methods_are_refused() {
    let project = project();
    for (set, expected) in [
        ("stage.behind.method.augmentation.crop_scale=[0.5, 1.0]", "those that are given are not of its method"),
        ("stage.behind.method.precision=bf16", "those that are given are not of its method"),
        ("stage.views.views.seed=7", "`features` are those of views drawn with seed 7"),
        ("stage.validation.split=train", "`validation` are not features of whole validation images"),
        ("stage.validation.precision=bf16", "`validation` are not features of this method's image tower"),
    ] {
        let stderr = refused(&project, &["--set", set]);
        assert!(stderr.contains(expected), "{set}:\n{stderr}");
    }
    project.replace(BEHIND, "validation = \"@validation\"\n", "");
    let stderr = refused(&project, &[]);
    assert!(stderr.contains("`linear-probe` chooses by validation images, and this stage has none"), "{stderr}");
    project.replace(BEHIND, "features = \"@views\"\n", "");
    let stderr = refused(&project, &[]);
    assert!(stderr.contains("`linear-probe` learns from image features, and this stage has none"), "{stderr}");
}

/// Epochs chosen on test images need them, and are in the key of the training.
#[test]
fn a_choice_on_test_images_needs_these() {
    let project = project();
    let tip = ["--set", "axes.learner=[\"tip_adapter_f\"]", "--set", "axes.seed=[1]"];
    let on_test = [&tip[..], &["--set", "stage.behind.method.chosen_on_test=true"]].concat();
    let stderr = refused(&project, &on_test);
    assert!(stderr.contains("`tip-adapter` chooses by test images, and this stage has none"), "{stderr}");
    let stage = "[stage.test]\nkind = \"features\"\naxes = [\"dataset\"]\ndataset = \"@data\"\nweights = \"@clip\"\nclasses = \"base\"\n";
    project.replace(BEHIND, "[stage.behind]\n", &format!("{stage}\n[stage.behind]\ntest = \"@test\"\n"));
    let ran = project.ran(&[&["run", BEHIND], &tip[..]].concat());
    assert!(!ran.contains("test/shapes"), "{ran:?}");
    let ran = project.ran(&[&["run", BEHIND], &on_test[..]].concat());
    assert!(ran.contains("test/shapes") && ran.contains("behind/shapes/tip_adapter_f/seed1"), "{ran:?}");
    let stderr = refused(&project, &[&on_test[..], &["--set", "stage.test.classes=all"]].concat());
    assert!(stderr.contains("`test` are features of all classes, and the sample has others"), "{stderr}");
}

/// Views serve a training on images where it changes them in the same way; elsewhere it makes its own.
#[test]
fn views_of_another_augmentation_are_not_taken() {
    let project = Project::after_a_run();
    let stage = "[stage.views]\nkind = \"features\"\naxes = [\"dataset\", \"seed\"]\nshots = \"@shots\"\nsplit = \"train\"\nweights = \"@clip\"\n\
                 views = { epochs = 1, seed = \"{seed}\", augmentation = { flip = false } }\n\n[stage.captioned]";
    project.replace(PIPELINE, "[stage.captioned]", stage);
    project.replace(
        PIPELINE,
        "method = \"methods/{method}.toml\"\nshots",
        "method = \"methods/{method}.toml\"\nfeatures = \"@views\"\nshots",
    );
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    let ran = project.ran(&["run", PIPELINE, "--set", "stage.train.method.augmentation.flip=false"]);
    assert!(ran.contains("views/shapes/seed1") && ran.contains("train/shapes/coop/seed1"), "{ran:?}");
}
