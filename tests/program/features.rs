//! Evaluations that take image features which were computed once.

use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

/// A project whose evaluations are offered features.
fn project() -> Project {
    let project = Project::after_a_run();
    offer(&project, "precision = \"fp32\"");
    project
}

/// Offers the evaluations features, of which `more` is said.
fn offer(project: &Project, more: &str) {
    let stage = format!(
        "[defaults]\neval = {{ features = \"@features\" }}\n\n[stage.features]\nkind = \"features\"\naxes = [\"dataset\", \"classes\"]\n\
         dataset = \"@data\"\nweights = \"@clip\"\nclasses = \"{{classes}}\"\n{more}\n\n[stage.captioned]"
    );
    project.replace(PIPELINE, "[stage.captioned]", &stage);
}

/// What the evaluations found, each output by node.
fn found(project: &Project) -> Vec<(String, String)> {
    let digests = project.digests().into_iter();
    digests.filter(|(output, _)| output.starts_with("eval/") || output.starts_with("zeroshot/")).collect()
}

#[test]
fn methods_with_a_plain_image_tower_take_them_and_find_the_same() {
    let project = project();
    let before = found(&Project::after_a_run());
    // MaPLe has prompts in the image tower: its evaluations stay as they are.
    let expected = names(&[
        "features/shapes/base",
        "features/shapes/novel",
        "zeroshot/shapes/clip/base",
        "zeroshot/shapes/clip/novel",
        "eval/shapes/coop/seed1/base",
        "eval/shapes/coop/seed1/novel",
        "eval/shapes/coop/seed2/base",
        "eval/shapes/coop/seed2/novel",
        "table",
    ]);
    assert_eq!(project.ran(&["run", PIPELINE]), expected);
    assert_eq!(found(&project), before);
    let images: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(project.artifact("features/shapes/novel", "images")).unwrap())
            .unwrap();
    assert_eq!(images.len(), 2 * 3);
}

#[test]
fn features_of_all_classes_serve_each_subset() {
    let project = project();
    project.replace(PIPELINE, "axes = [\"dataset\", \"classes\"]\ndataset = \"@data\"\nweights = \"@clip\"\nclasses = \"{classes}\"\nprecision",
        "axes = [\"dataset\"]\ndataset = \"@data\"\nweights = \"@clip\"\nprecision");
    let ran = project.ran(&["run", PIPELINE]);
    assert!(ran.contains("features/shapes") && ran.contains("eval/shapes/coop/seed1/novel"), "{ran:?}");
    let accuracy = |project: &Project, node: &str| {
        let text = fs::read_to_string(project.artifact(node, "metrics")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    for node in ["zeroshot/shapes/clip/base", "zeroshot/shapes/clip/novel", "eval/shapes/coop/seed2/novel"] {
        assert_eq!(accuracy(&project, node), accuracy(&Project::after_a_run(), node), "{node}");
    }
}

#[test]
fn features_in_another_precision_are_ignored_and_not_made() {
    let project = Project::after_a_run();
    offer(&project, "precision = \"bf16\"");
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    // What nobody reads is made where it is asked for.
    project.replace(PIPELINE, "name = \"tiny\"\n", "name = \"tiny\"\nresults = [\"@features.images\"]\n");
    assert_eq!(project.ran(&["run", PIPELINE]), names(&["features/shapes/base", "features/shapes/novel"]));
}

#[test]
fn a_methods_own_images_are_not_mixed_with_others() {
    let project = project();
    project.write(
        "pipelines/other.toml",
        "include = \"tiny.toml\"\n[stage.other]\nkind = \"pretrain\"\ncaptioned = \"@captioned\"\nseed = 2\nepochs = 1\nbatch_size = 16\n\
         learning_rate = 1e-3\nwarmup_epochs = 0.5\nweight_decay = 0.1\ncrop = [0.7, 1.0]\n[stage.features]\nweights = \"@other\"\n",
    );
    project.prints(
        &["status", "pipelines/other.toml"],
        str![[r#"
<stderr>
error: `features` of stage `eval` is made with other `weights` than its own
  --> pipelines/tiny.toml:12:21
   |
12 | eval = { features = "@features" }
   |                     ^^^^^^^^^^^
   |
   = hint: give both stages the same `weights`

error: `features` of stage `zeroshot` is made with other `weights` than its own
  --> pipelines/tiny.toml:12:21
   |
12 | eval = { features = "@features" }
   |                     ^^^^^^^^^^^
   |
   = hint: give both stages the same `weights`
<exit code 2>

"#]],
    );
}

#[test]
fn what_features_cannot_be_of() {
    for (wrong, expected) in [
        (
            "shots = \"@shots\"",
            str![[r#"
<stderr>
error: a stage of kind `features` takes the images of a `dataset` or of `shots`, not of both
  --> pipelines/tiny.toml:14:8
   |
14 | [stage.features]
   |        ^^^^^^^^
   |
   = hint: remove one of the two inputs
<exit code 2>

"#]],
        ),
        (
            "split = \"train\"",
            str![[r#"
<stderr>
error: `features` are not those of test images
  --> pipelines/tiny.toml:72:8
   |
72 | [stage.eval]
   |        ^^^^
   |
   = hint: give that stage `split = "test"`

error: `features` are not those of test images
  --> pipelines/tiny.toml:63:8
   |
63 | [stage.zeroshot]
   |        ^^^^^^^^
   |
   = hint: give that stage `split = "test"`
<exit code 2>

"#]],
        ),
        (
            "classes = \"novel\"",
            str![[r#"
<stderr>
error: `features` are those of novel classes, but base classes are told apart
  --> pipelines/tiny.toml:71:8
   |
71 | [stage.eval]
   |        ^^^^
   |
   = hint: give both stages the same `classes`

error: `features` are those of novel classes, but base classes are told apart
  --> pipelines/tiny.toml:62:8
   |
62 | [stage.zeroshot]
   |        ^^^^^^^^
   |
   = hint: give both stages the same `classes`
<exit code 2>

"#]],
        ),
    ] {
        let project = project();
        let classes = if wrong.starts_with("classes") { "classes = \"{classes}\"\n" } else { "" };
        project.replace(PIPELINE, &format!("{classes}precision = \"fp32\"\n\n"), &format!("{wrong}\n\n"));
        project.prints(&["status", PIPELINE], expected);
    }
    let project = project();
    project.replace(
        PIPELINE,
        "dataset = \"@data\"\nweights = \"@clip\"\nclasses = \"{classes}\"\nprecision",
        "shots = \"@shots\"\nweights = \"@clip\"\nprecision",
    );
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: `split` is `test`, of which a few-shot sample has no images
  --> pipelines/tiny.toml:14:8
   |
14 | [stage.features]
   |        ^^^^^^^^
   |
   = hint: `split = "train"` takes the images of the sample, `split = "val"` those to choose parameters by
<exit code 2>

"#]],
    );
}

#[test]
fn an_image_that_the_features_lack_is_no_test_image_less_in_silence() {
    let project = project();
    let broken = project.read("data/shapes/split.json");
    let split: Value = serde_json::from_str(&broken).unwrap();
    let image = split["test"][0][0].as_str().unwrap();
    project.write(&format!("data/shapes/images/{image}"), "no image");
    project.replace(PIPELINE, "precision = \"fp32\"\n", "on_bad_image = \"skip\"\n");
    project.prints(
        &["run", PIPELINE, "--only", "zeroshot/shapes/clip/base", "-j", "1"],
        str![[r#"
<stderr>
        DONE [TIME] (3/5) data/shapes   4 classes, 32 images
        DONE [TIME] (4/5) features/shapes/base   5 images, 1 image skipped
      FAILED [TIME] (5/5) zeroshot/shapes/clip/base
error: the features lack the image `images/striped_turquoise_crescent/0006.jpg`
hint: the `features` stage left it out: `on_bad_image = "skip"` does so here, too
log: [PROJECT]/.maple/logs/tiny/zeroshot/shapes/clip/base.log
5 nodes: 2 ran, 2 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    project.replace(
        PIPELINE,
        "eval = { features = \"@features\" }",
        "eval = { features = \"@features\", on_bad_image = \"skip\" }",
    );
    project.prints(
        &["run", PIPELINE, "--only", "zeroshot/shapes/clip/base", "-j", "1"],
        str![[r#"
<stderr>
        DONE [TIME] (5/5) zeroshot/shapes/clip/base   [NUMBER], 1 image skipped
5 nodes: 1 ran, 4 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
}

#[test]
fn a_few_shot_sample_has_features_too() {
    let project = project();
    project.write(
        "pipelines/sample.toml",
        "include = \"tiny.toml\"\nresults = [\"@sample.features\", \"@sample.images\"]\n[stage.sample]\nkind = \"features\"\naxes = [\"dataset\", \"seed\"]\n\
         shots = \"@shots\"\nsplit = \"train\"\nweights = \"@clip\"\n",
    );
    let ran = project.ran(&["run", "pipelines/sample.toml", "--only", "sample/*"]);
    assert_eq!(ran, names(&["sample/shapes/seed1", "sample/shapes/seed2"]));
    let listed = fs::read(project.artifact("sample/shapes/seed1", "images")).unwrap();
    assert_eq!(listed, fs::read(project.artifact("shots/shapes/seed1", "train")).unwrap());
}

/// Offers the trainings views, of which `more` is said.
fn offer_views(project: &Project, more: &str) {
    let stage = format!(
        "[defaults]\ntrain = {{ features = \"@views\" }}\n\n[stage.views]\nkind = \"features\"\naxes = [\"dataset\", \"seed\"]\n\
         shots = \"@shots\"\nsplit = \"train\"\nweights = \"@clip\"\nprecision = \"fp32\"\n{more}\n\n[stage.captioned]"
    );
    project.replace(PIPELINE, "[stage.captioned]", &stage);
}

/// The losses of a training's epochs.
fn losses(project: &Project) -> Vec<f64> {
    let log = fs::read_to_string(project.artifact("train/shapes/coop/seed1", "log")).unwrap();
    log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect()
}

/// The views are those that the training would see, of as many epochs as there are; the others it computes itself.
#[test]
fn trainings_with_a_plain_image_tower_take_views_and_learn_the_same() {
    let longer = || {
        let project = Project::after_a_run();
        project.replace("pipelines/methods/coop.toml", "epochs = 1\n", "epochs = 3\n");
        project
    };
    let before = {
        let project = longer();
        project.run(&["run", PIPELINE]);
        losses(&project)
    };
    assert_eq!(before.len(), 3);
    for epochs in [1, 4] {
        let project = longer();
        offer_views(&project, &format!("views = {{ epochs = {epochs}, seed = \"{{seed}}\" }}"));
        let expected = names(&[
            "views/shapes/seed1",
            "views/shapes/seed2",
            "train/shapes/coop/seed1",
            "train/shapes/coop/seed2",
            "eval/shapes/coop/seed1/base",
            "eval/shapes/coop/seed1/novel",
            "eval/shapes/coop/seed2/base",
            "eval/shapes/coop/seed2/novel",
            "table",
        ]);
        assert_eq!(project.ran(&["run", PIPELINE]), expected, "{epochs}");
        let found = losses(&project);
        assert_eq!(found.len(), before.len());
        for (found, before) in found.iter().zip(&before) {
            assert!((found - before).abs() < 1e-4 * before, "{epochs}: {found}, {before}");
        }
    }
}

#[test]
fn what_views_cannot_be_of() {
    let project = Project::new();
    offer_views(&project, "views = { epochs = 1, seed = 7 }");
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: `features` are those of views drawn with seed 7, and this training has seed 1
  --> pipelines/tiny.toml:55:8
   |
55 | [stage.train]
   |        ^^^^^
   |
   = hint: give both stages the same seed

error: `features` are those of views drawn with seed 7, and this training has seed 2
  --> pipelines/tiny.toml:55:8
   |
55 | [stage.train]
   |        ^^^^^
   |
   = hint: give both stages the same seed
<exit code 2>

"#]],
    );
    project.replace(PIPELINE, "views = { epochs = 1, seed = 7 }\n", "");
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: `features` are those of whole images, and a training sees random views of them
  --> pipelines/tiny.toml:54:8
   |
54 | [stage.train]
   |        ^^^^^
   |
   = hint: give that stage `views = { epochs = 10, seed = "{seed}" }`, with the seed of this one
<exit code 2>

"#]],
    );
    let project = Project::new();
    offer_views(&project, "views = { epochs = 1, seed = \"{seed}\" }");
    project.replace(PIPELINE, "shots = \"@shots\"\nsplit = \"train\"", "dataset = \"@data\"\nsplit = \"train\"");
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: `views` are what trainings see, which are images of a few-shot sample to train on
  --> pipelines/tiny.toml:21:9
   |
21 | views = { epochs = 1, seed = "{seed}" }
   |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: give `shots` in place of `dataset`, and `split = "train"`
<exit code 2>

"#]],
    );
}

/// The texts of a method without training stand beside the images, and change nothing of what evaluations find.
#[test]
fn texts_are_kept_where_a_method_is_given() {
    let project = Project::after_a_run();
    offer(&project, "precision = \"fp32\"\nmethod = \"methods/clip.toml\"");
    let before = found(&Project::after_a_run());
    project.ran(&["run", PIPELINE]);
    assert_eq!(found(&project), before);
    let file = fs::read(project.artifact("features/shapes/novel", "features")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("features").unwrap().shape(), [6, 16]);
    let texts = tensors.tensor("texts").unwrap();
    assert_eq!(texts.shape(), [2, 16]);
    for text in texts.data().as_chunks::<64>().0 {
        let length: f32 = text.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    // The report shows them: a triangle for each of two classes, in each of two plots.
    project.run(&["report", PIPELINE, "-o", "report.html"]);
    let html = project.read("report.html");
    let section = html.split("<section id=\"features\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!((section.matches("<svg").count(), section.matches("<polygon").count()), (2, 4), "{section}");
}

#[test]
fn texts_that_a_stage_cannot_have_are_refused() {
    for (more, expected) in [
        (
            "precision = \"bf16\"\nmethod = \"methods/clip.toml\"",
            str![[r#"
<stderr>
error: `method` computes in fp32, the stage in bf16
  --> pipelines/tiny.toml:20:13
   |
20 | precision = "bf16"
   |             ^^^^^^
   |
   = hint: give both the same `precision`
<exit code 2>

"#]],
        ),
        (
            "precision = \"fp32\"\nmethod = \"methods/coop.toml\"",
            str![[r#"
<stderr>
error: the texts of this `method` are learned
 --> pipelines/methods/coop.toml:1:1
  |
1 | learner = "coop"
  | ^^^^^^^
  |
  = hint: give one that needs no training: `method = "methods/clip.toml"`
<exit code 2>

"#]],
        ),
    ] {
        let project = Project::new();
        offer(&project, more);
        project.prints(&["status", PIPELINE], expected);
    }
}
