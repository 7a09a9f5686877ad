//! PromptSRC: a loss of several terms, an average over epochs that a stopped training does not lose, and what an evaluation
//! makes of CLIP's own tensors.

use std::collections::BTreeMap;
use std::fs;

use maple_pipe::weights::{Array, Checkpoint, to_safetensors};
use safetensors::Dtype;
use serde_json::Value;
use snapbox::str;

use crate::running::{Running, eventually};
use crate::support::{PIPELINE, Project};

const METHOD: &str = "pipelines/methods/promptsrc.toml";
const TRAIN: &str = "train/shapes/promptsrc/seed1";
const EVAL: &str = "eval/shapes/promptsrc/seed1/novel";

/// Three epochs, of which the second counts most.
const TEXT: &str = r#"learner = "promptsrc"
context_length = 2
context_initial_words = "a photo of a"
depth = 1
vision_context_length = 2
vision_depth = 1
teacher_templates = ["a photo of a {}.", "art of a {}."]
aggregation_mean = 2
aggregation_deviation = 1

[training]
epochs = 3
batch_size = 2
learning_rate = 0.05
"#;

fn project() -> Project {
    let project = Project::new();
    project.write(METHOD, TEXT);
    project.replace(PIPELINE, "[\"clip\", \"coop\", \"maple\"]", "[\"clip\", \"promptsrc\"]");
    let manifest = project.read("manifests/shapes.toml");
    project.write("manifests/shapes.toml", &format!("{manifest}\n[counts]\nclasses = 4\ntest = 12\n"));
    project
}

#[test]
fn a_training_names_the_terms_of_its_loss() {
    let project = project();
    project.ran(&["run", PIPELINE, "--only", TRAIN]);
    let log = fs::read_to_string(project.artifact(TRAIN, "log")).unwrap();
    assert_eq!(log.lines().count(), 3);
    for line in log.lines() {
        let epoch: Value = serde_json::from_str(line).unwrap();
        let terms: BTreeMap<String, f64> = serde_json::from_value(epoch["terms"].clone()).unwrap();
        let names: Vec<&str> = terms.keys().map(String::as_str).collect();
        assert_eq!(names, ["cross_entropy", "image_features", "logits", "text_features"]);
        assert!((terms.values().sum::<f64>() - epoch["loss"].as_f64().unwrap()).abs() < 1e-4, "{line}");
    }
}

/// A training runs each image through two towers, and the teacher's texts once; an evaluation does neither.
#[test]
fn what_the_teacher_is_asked_is_known_before() {
    let project = project();
    let numbers = |value: &Value| ["image_passes", "text_passes"].map(|field| value[field].as_u64().unwrap());
    let only = ["run", PIPELINE, "--only", EVAL];
    project.ran(&["run", PIPELINE, "--only", "clip"]);
    let forecast = project.json(&[&only[..], &["--dry-run", "--json"]].concat())["forecast"]["passes"].clone();
    // Six steps of two images of two classes, and six test images of two others.
    assert_eq!(numbers(&forecast), [2 * 6 * 2 + 6, 6 * 2 + 2 * 2 + 2]);
    let printed = project.run(&[&only[..], &["--json"]].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let finished: Value = serde_json::from_str(printed.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(numbers(&finished), numbers(&forecast));
}

/// What was averaged before a stop or a kill is not lost.
#[test]
fn an_average_survives_the_end_of_its_process() {
    let text = TEXT.replace("epochs = 3", "epochs = 100").replace("deviation = 1", "deviation = 100");
    let long = ["run", PIPELINE, "--only", TRAIN, "--json"];
    let trained = |signal: Option<&str>| {
        let project = project();
        project.write(METHOD, &text);
        if let Some(signal) = signal {
            let run = Running::start(&project, "run", &long);
            let events = project.file("run.out");
            let has_averaged = |event: &str| event.contains("\"progress\"") && event.contains(TRAIN);
            eventually("an epoch is done", || fs::read_to_string(&events).unwrap().lines().any(has_averaged));
            run.signal(signal);
            assert_ne!(run.end().code, Some(0));
        }
        assert_eq!(project.run(&long).code, Some(0));
        project.digests()[&format!("{TRAIN}:prompt")].clone()
    };
    let whole = trained(None);
    assert_eq!([trained(Some("INT")), trained(Some("KILL"))], [whole.clone(), whole]);
}

/// What is learned is the same, and in fp32 the rest of the model nearly so; in half, CLIP's own tensors are rounded.
#[test]
fn an_evaluation_averages_the_whole_model_where_the_training_did() {
    let project = project();
    for (aggregate, precision) in [("prompts", "fp32"), ("all", "fp32"), ("prompts", "fp16"), ("all", "fp16")] {
        let text = format!("precision = \"{precision}\"\naggregate = \"{aggregate}\"\n{TEXT}");
        project.write(METHOD, &text.replace("epochs = 3", "epochs = 9"));
        project.ran(&["run", PIPELINE, "--only", EVAL]);
        let name = format!("{aggregate}-{precision}");
        fs::copy(project.artifact(TRAIN, "prompt"), project.file(&format!("{name}.safetensors"))).unwrap();
        fs::copy(project.artifact(EVAL, "predictions"), project.file(&format!("{name}.csv"))).unwrap();
    }
    let prompt = |name: &str| Checkpoint::read(&project.file(&format!("{name}.safetensors"))).unwrap();
    let tensors = |name: &str| prompt(name).tensors().clone();
    let wide = |name: &str| -> Vec<(String, Vec<u8>)> {
        let is_wide = |(name, array): (&String, &Array)| {
            (array.dtype == Dtype::F32).then(|| (name.clone(), array.bytes.to_vec()))
        };
        tensors(name).iter().filter_map(is_wide).collect()
    };
    assert_eq!((wide("all-fp32").len(), wide("all-fp16").len()), (2, 1));
    for precision in ["fp32", "fp16"] {
        let [all, prompts] = ["all", "prompts"].map(|aggregate| format!("{aggregate}-{precision}"));
        assert_eq!(wide(&all), wide(&prompts), "{precision}");
        let note = prompt(&all).note().unwrap().to_owned();
        assert!(note.contains("\"aggregate\":\"all\""), "{note}");
    }
    let predictions = |name: &str| project.read(&format!("{name}.csv"));
    assert_ne!(predictions("all-fp16"), predictions("prompts-fp16"));
}

#[test]
fn a_prompt_says_that_it_is_promptsrc_s() {
    let project = project();
    project.ran(&["run", PIPELINE, "--only", TRAIN]);
    fs::copy(project.artifact(TRAIN, "prompt"), project.file("prompt.safetensors")).unwrap();
    let shown = project.run(&["prompts", "show", "prompt.safetensors"]).stdout;
    let learner = "learner    learner = \"promptsrc\", context_length = 2, depth = 1, vision_context_length = 2, vision_depth = 1";
    assert!(shown.lines().any(|line| line == learner), "{shown}");
}

/// A checkpoint of the published code: what is learned in so many blocks, the whole model, perturbed, and perhaps a second image
/// tower, by which it differs from one of independent prompts.
fn write_checkpoint(project: &Project, tokens: i64, depth: usize, has_teacher: bool) {
    let array = |shape: Vec<i64>| Array {
        dtype: Dtype::F32,
        bytes: vec![0; 4 * shape.iter().product::<i64>() as usize].into(),
        shape,
    };
    let mut tensors = BTreeMap::from(
        [
            ("prompt_learner.ctx", vec![tokens, 64]),
            ("prompt_learner.token_prefix", vec![3, 1, 64]),
            ("image_encoder.VPT", vec![tokens, 64]),
            ("image_encoder.class_embedding", vec![64]),
            ("text_encoder.ln_final.bias", vec![64]),
            ("logit_scale", vec![]),
        ]
        .map(|(name, shape)| (name.to_owned(), array(shape))),
    );
    for block in 1..depth {
        for tower in ["image_encoder", "text_encoder"] {
            let name = format!("{tower}.transformer.resblocks.{block}.VPT_shallow");
            tensors.insert(name, array(vec![tokens, 64]));
        }
    }
    if has_teacher {
        tensors.insert("prompt_learner.ZS_image_encoder.class_embedding".to_owned(), array(vec![64]));
    }
    fs::write(project.file("model.safetensors"), to_safetensors(&tensors, None).unwrap()).unwrap();
}

const IMPORT: [&str; 5] = ["prompts", "import", "model.safetensors", "-o", "made.safetensors"];

#[test]
fn a_published_checkpoint_is_imported() {
    let project = project();
    write_checkpoint(&project, 2, 1, true);
    project.write("whole.toml", &format!("aggregate = \"all\"\n{TEXT}"));
    project.write("deeper.toml", &TEXT.replace("vision_depth = 1", "vision_depth = 2"));
    project.prints(&[&IMPORT[..], &["-m", "whole.toml"]].concat(), str![[r#"
<stderr>
wrote made.safetensors: learner = "promptsrc", context_length = 2, depth = 1, vision_context_length = 2, vision_depth = 1
CLIP's own tensors are not taken: an evaluation averages those of its weights, as the training did
<exit code 0>

"#]]);
    project.prints(&[&IMPORT[..], &["-m", METHOD]].concat(), str![[r#"
<stderr>
wrote made.safetensors: learner = "promptsrc", context_length = 2, depth = 1, vision_context_length = 2, vision_depth = 1
<exit code 0>

"#]]);
    project.prints(&[&IMPORT[..], &["-m", "deeper.toml"]].concat(), str![[r#"
<stderr>
error: the weights `model.safetensors` have `vision_depth` 1, but the method says 2
hint: a method that fits has: learner = "promptsrc", context_length = 2, depth = 1, vision_context_length = 2, vision_depth = 1
<exit code 2>

"#]]);
}

/// How CLIP's own tensors were averaged follows from the epochs, so a checkpoint of another one is not taken.
#[test]
fn a_checkpoint_is_of_the_epoch_at_which_the_model_is_averaged() {
    let project = project();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prompts/ivlp/model.pth.tar-5");
    fs::copy(file, project.file("model.pth.tar-5")).unwrap();
    let text = TEXT.replace("depth = 1", "depth = 3");
    let import = ["prompts", "import", "model.pth.tar-5", "-o", "made.safetensors", "-m", "method.toml"];
    project.write("method.toml", &format!("aggregate = \"all\"\n{text}"));
    project.prints(&import, str![[r#"
<stderr>
error: the weights `model.pth.tar-5` are of epoch 5, but the method averages the model over 3 epochs
hint: give the method that it was trained with; a checkpoint from before the last epoch is not averaged, and needs `aggregate = "prompts"`
<exit code 2>

"#]]);
    project.write("method.toml", &text);
    assert_eq!(project.run(&import).code, Some(0));
    project.write("method.toml", &format!("aggregate = \"all\"\n{text}").replace("epochs = 3", "epochs = 5"));
    assert_eq!(project.run(&import).code, Some(0));
}

/// Independent prompts have the same tensors, and another evaluation where PromptSRC has averaged the whole model.
#[test]
fn a_checkpoint_is_told_from_one_of_independent_prompts() {
    let project = project();
    write_checkpoint(&project, 4, 3, true);
    project.prints(&IMPORT, str![[r#"
<stderr>
took `pipelines/methods/promptsrc_cross_dataset.toml`, the one shipped method that fits
wrote made.safetensors: learner = "promptsrc", context_length = 4, depth = 3, vision_context_length = 4, vision_depth = 3
CLIP's own tensors are not taken: an evaluation averages those of its weights, as the training did
<exit code 0>

"#]]);
    write_checkpoint(&project, 4, 3, false);
    project.prints(&IMPORT, str![[r#"
<stderr>
error: `model.safetensors` does not say with which method it was trained; its tensors tell: learner = "ivlp", context_length = 4, depth = 3, vision_context_length = 4, vision_depth = 3
hint: no shipped method fits: write one that does, and name it with `--method`
<exit code 2>

"#]]);
    write_checkpoint(&project, 4, 9, true);
    project.prints(&IMPORT, str![[r#"
<stderr>
error: `model.safetensors` does not say with which method it was trained; its tensors tell: learner = "promptsrc", context_length = 4, depth = 9, vision_context_length = 4, vision_depth = 9
hint: name the method with `--method`; these fit: `pipelines/methods/promptsrc.toml`, `pipelines/methods/promptsrc_fewshot.toml`, `pipelines/methods/promptsrc_fewshot_late.toml`
<exit code 2>

"#]]);
}
