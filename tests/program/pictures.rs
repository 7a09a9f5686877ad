//! `maple-pipe predict` and `maple-pipe features`: a person's own pictures.

use std::fs;
use std::path::Path;

use maple_pipe::evaluation::PredictionRow;
use maple_pipe::files::read_csv;
use maple_pipe::weights::{Array, Checkpoint};
use serde::Deserialize;
use serde_json::Value;
use snapbox::str;

use crate::support::Project;

/// A row that `predict` prints.
#[derive(Deserialize)]
struct Row {
    image: String,
    rank: usize,
    class: String,
    probability: f64,
}

/// A row of `per-class.csv`.
#[derive(Deserialize)]
struct Class {
    class: String,
}

/// The prompt of a training in `prompt.safetensors`, and the names of the classes of an evaluation in `classes.txt`; what that
/// evaluation took images for.
fn prepare(project: &Project, training: &str, evaluation: &str) -> Vec<PredictionRow<'static>> {
    fs::copy(project.artifact(training, "prompt"), project.file("prompt.safetensors")).unwrap();
    let classes: Vec<Class> = read_csv(&project.artifact(evaluation, "per-class")).unwrap();
    let names: String = classes.iter().map(|class| format!("{}\n", class.class)).collect();
    project.write("classes.txt", &names);
    read_csv(&project.artifact(evaluation, "predictions")).unwrap()
}

/// The pictures of the evaluation, in its order, are taken for the same.
fn agrees(project: &Project, expected: &[PredictionRow<'_>], more: &[&str]) {
    let images: Vec<String> = expected.iter().map(|row| format!("data/shapes/{}", row.path)).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let printed = project.run(&[&["predict", "prompt.safetensors"], &images[..], &["--format", "csv"], more].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    project.write("predicted.csv", &printed.stdout);
    let rows: Vec<Row> = read_csv(&project.file("predicted.csv")).unwrap();
    let first: Vec<&Row> = rows.iter().filter(|row| row.rank == 1).collect();
    assert_eq!(first.len(), expected.len());
    for (row, expected) in first.into_iter().zip(expected) {
        assert_eq!(row.image, format!("data/shapes/{}", expected.path));
        assert_eq!(row.class, expected.predicted_class, "{}", row.image);
        assert!((row.probability - expected.probability).abs() < 1e-4, "{}: {}", row.image, row.probability);
    }
    for image in rows.chunk_by(|row, next| row.image == next.image) {
        assert!(image.is_sorted_by(|row, next| row.rank < next.rank && row.probability >= next.probability));
    }
}

/// The weights are those of the training, which the store knows.
#[test]
fn pictures_are_taken_for_what_an_evaluation_takes_them() {
    let project = Project::after_a_run();
    for method in ["coop", "maple"] {
        let expected =
            prepare(&project, &format!("train/shapes/{method}/seed1"), &format!("eval/shapes/{method}/seed1/novel"));
        agrees(&project, &expected, &["--classes", "classes.txt"]);
    }
}

/// What was learned behind the towers brings its classes with it.
#[test]
fn a_prompt_that_belongs_to_its_classes_brings_their_names() {
    let project = Project::after_a_run();
    project.write(
        "pipelines/behind.toml",
        "name = \"behind\"\ninclude = \"tiny.toml\"\nresults = [\"@behind_eval.metrics\"]\n\
         [stage.validation]\nkind = \"features\"\naxes = [\"dataset\", \"seed\"]\nshots = \"@shots\"\nsplit = \"val\"\n\
         weights = \"@clip\"\n\
         [stage.views]\nkind = \"features\"\naxes = [\"dataset\", \"seed\"]\nshots = \"@shots\"\nsplit = \"train\"\n\
         weights = \"@clip\"\nviews = { epochs = 1, seed = \"{seed}\" }\n\
         [stage.behind]\nkind = \"train\"\naxes = [\"dataset\", \"seed\"]\nmethod = { learner = \"linear-probe\" }\n\
         shots = \"@shots\"\nweights = \"@clip\"\nseed = \"{seed}\"\nfeatures = \"@views\"\nvalidation = \"@validation\"\n\
         [stage.behind_eval]\nkind = \"eval\"\naxes = [\"dataset\", \"seed\"]\nprompt = \"@behind\"\ndataset = \"@data\"\n\
         weights = \"@clip\"\nclasses = \"base\"\n",
    );
    project.ran(&["run", "pipelines/behind.toml", "--set", "axes.seed=[1]"]);
    let expected = prepare(&project, "behind/shapes/seed1", "behind_eval/shapes/seed1");
    agrees(&project, &expected, &[]);
    project.write("classes.txt", "a\nb\n");
    let other = ["predict", "prompt.safetensors", "data/shapes", "--classes", "classes.txt"];
    let printed = project.run(&other);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
    assert!(printed.stderr.contains("which serves its own classes alone"), "{}", printed.stderr);
}

/// A broken picture is named, and the others are told.
#[test]
fn a_broken_picture_is_left_out() {
    let project = Project::after_a_run();
    let expected = prepare(&project, "train/shapes/maple/seed1", "eval/shapes/maple/seed1/base");
    fs::create_dir_all(project.file("holidays/2026")).unwrap();
    fs::copy(project.file(&format!("data/shapes/{}", expected[0].path)), project.file("holidays/2026/b.png")).unwrap();
    project.write("holidays/a.png", "no picture");
    project.write("holidays/notes.txt", "not looked at");
    let predict = ["predict", "prompt.safetensors", "holidays", "--classes", "classes.txt"];
    let output = project.command(&[&predict[..], &["--json"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["images"].as_array().unwrap().len(), 1);
    assert_eq!(report["images"][0]["image"], "holidays/2026/b.png");
    assert_eq!(report["images"][0]["top"][0]["class"], *expected[0].predicted_class);
    assert_eq!(report["left_out"].as_array().unwrap().len(), 1);
    let printed = project.run(&predict);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stdout.starts_with("holidays/2026/b.png   "), "{}", printed.stdout);
    assert_eq!(printed.stdout.matches(" % ").count(), 2, "{}", printed.stdout);
    snapbox::assert_data_eq!(
        printed.stderr,
        str![[r#"
warning: left out: `holidays/a.png` is not a valid image: The image format could not be determined
error: 1 of 2 pictures are left out

"#]]
    );
    project.prints(
        &["features", "prompt.safetensors", "holidays/a.png", "-o", "features.safetensors"],
        str![[r#"
<stderr>
warning: left out: `holidays/a.png` is not a valid image: The image format could not be determined
error: 1 of 1 picture is left out
<exit code 1>

"#]],
    );
    assert!(!project.file("features.safetensors").exists());
}

#[test]
fn what_is_missing_is_asked_for() {
    let project = Project::after_a_run();
    prepare(&project, "train/shapes/maple/seed1", "eval/shapes/maple/seed1/base");
    let predict = ["predict", "prompt.safetensors"];
    project.prints(
        &[&predict[..], &["data/shapes"]].concat(),
        str![[r#"
<stderr>
error: there are no classes to choose from
hint: name a file of them with `--classes`
<exit code 2>

"#]],
    );
    project.prints(
        &[&predict[..], &["data/shape", "--classes", "classes.txt"]].concat(),
        str![[r#"
<stderr>
error: there is no picture or folder `data/shape`
hint: did you mean `data/shapes`?
<exit code 2>

"#]],
    );
    project.prints(
        &[&predict[..], &["manifests", "--classes", "classes.txt"]].concat(),
        str![[r#"
<stderr>
error: there are no pictures in what is named
hint: of folders, files with these extensions are taken: .jpg, .jpeg, .png, .webp, .gif, .bmp; name others yourself
<exit code 2>

"#]],
    );
    let elsewhere = ["data/shapes", "--classes", "classes.txt", "--store", "elsewhere"];
    fs::create_dir(project.file("elsewhere")).unwrap();
    project.prints(
        &[&predict[..], &elsewhere].concat(),
        str![[r#"
<stderr>
error: the store does not know with which weights `prompt.safetensors` was trained
hint: name them with `--weights`: a file, or published ones such as `openai/ViT-B-16`
<exit code 2>

"#]],
    );
    // The weights say nothing of their heads, which the store that has made them knows.
    let weights = project.artifact("clip", "weights");
    fs::copy(weights, project.file("clip.safetensors")).unwrap();
    let named = [&predict[..], &elsewhere, &["--weights", "clip.safetensors"]].concat();
    project.prints(&named, str![[r#"
<stderr>
error: the weights `clip.safetensors` do not tell the activation, nor the attention heads of the vision tower, which is 64 wide, nor the attention heads of the text tower, which is 64 wide
hint: add `--activation gelu` (or `quick_gelu`: that is OpenAI's), `--vision-heads N` or `--text-heads N`; Hugging Face's `config.json` has them as `hidden_act` and `num_attention_heads`
<exit code 2>

"#]]);
    let told = [&named[..], &["--activation", "quick_gelu", "--vision-heads", "1", "--text-heads", "1"]].concat();
    let (here, there) = (project.run(&[&predict[..], &elsewhere[..3]].concat()), project.run(&told));
    assert_eq!((there.code, &there.stdout), (Some(0), &here.stdout), "{}", there.stderr);
    project.prints(
        &["predict", "clip.safetensors", "data/shapes", "--classes", "classes.txt"],
        str![[r#"
<stderr>
error: the weights `clip.safetensors` are no trained prompt: they name no method
hint: train the prompt again, or import a published checkpoint with `maple-pipe prompts import`
<exit code 2>

"#]],
    );
}

fn features(project: &Project, source: &Path) -> (Array, Vec<String>) {
    let (source, output) = (source.to_str().unwrap(), "features.safetensors");
    let printed = project.run(&["features", source, "data/shapes", "-o", output]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let file = Checkpoint::read(&project.file(output)).unwrap();
    let note: Value = serde_json::from_str(file.note().unwrap()).unwrap();
    let images = note["images"].as_array().unwrap().iter().map(|image| image.as_str().unwrap().to_owned());
    (file.tensors()["features"].clone(), images.collect())
}

/// Those of a learner with a plain image tower are CLIP's own.
#[test]
fn features_are_those_of_the_image_tower() {
    let project = Project::after_a_run();
    let prompt = |method: &str| project.artifact(&format!("train/shapes/{method}/seed1"), "prompt");
    let (plain, images) = features(&project, &project.artifact("clip", "weights"));
    assert_eq!(plain.shape, [images.len() as i64, 16]);
    assert!(images.is_sorted() && images.iter().all(|image| image.starts_with("data/shapes/")));
    assert_eq!(features(&project, &prompt("coop")), (plain.clone(), images.clone()));
    let (prompted, same_images) = features(&project, &prompt("maple"));
    assert_eq!((&prompted.shape, same_images), (&plain.shape, images));
    assert_ne!(prompted, plain);
}
