//! `maple-pipe prompts`, and the stage that imports released checkpoints. `fixtures/prompts/write.py` says how the
//! checkpoints were made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use maple_pipe::weights::{Array, Checkpoint, to_safetensors};
use safetensors::Dtype;
use serde::Deserialize;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

#[derive(Deserialize)]
struct Expected {
    epoch: u32,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<i64>,
    dtype: String,
    sum: f64,
    last: f64,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts")
}

/// A project with the recorded checkpoints in `released/`, and methods that fit them.
fn project() -> Project {
    let project = Project::new();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        for file in fs::read_dir(&folder).into_iter().flatten() {
            let file = file.unwrap().path();
            let target = project.file("released").join(folder.file_name().unwrap());
            fs::create_dir_all(&target).unwrap();
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    let training = "\n[training]\nepochs = 5\nbatch_size = 4\nlearning_rate = 0.0035\n";
    let methods = [
        ("maple", "learner = \"maple\"\ncontext_length = 2\ncontext_initial_words = \"a photo of a\"\ndepth = 3\n"),
        ("ivlp", "learner = \"ivlp\"\ncontext_length = 2\ndepth = 3\nvision_context_length = 2\nvision_depth = 3\n"),
        (
            "language",
            "learner = \"ivlp\"\ncontext_length = 4\ndepth = 3\nvision_context_length = 0\nvision_depth = 0\n",
        ),
        ("vpt", "learner = \"vpt\"\nvision_context_length = 8\nvision_depth = 4\n"),
        ("coop", "learner = \"coop\"\ncontext_length = 16\n"),
        ("coop_class_specific", "learner = \"coop\"\ncontext_length = 4\nclass_specific_context = true\n"),
        ("cocoop", "learner = \"cocoop\"\ncontext_length = 4\n"),
    ];
    methods
        .iter()
        .for_each(|(name, text)| project.write(&format!("methods/{name}.toml"), &format!("{text}{training}")));
    project.write("classes.txt", "cat\ndog\nfish\nnewt\nowl\n");
    project
}

/// What was recorded of the checkpoints, by their names.
fn expected() -> BTreeMap<String, Expected> {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Imports the checkpoint of a name as `prompt.safetensors`, with the method that fits.
#[track_caller]
fn import(project: &Project, name: &str, file: &str) {
    let method = name.trim_end_matches("_module").trim_end_matches("_legacy");
    let method = format!("methods/{method}.toml");
    let mut arguments = vec!["prompts", "import", file, "--method", &method, "-o", "prompt.safetensors"];
    if name == "coop_class_specific" {
        arguments.extend(["--classes", "classes.txt"]);
    }
    let printed = project.run(&arguments);
    assert_eq!(printed.code, Some(0), "{name}: {}", printed.stderr);
}

fn value(array: &Array, place: usize) -> f64 {
    let array = array.to_float(Dtype::F64);
    f64::from_le_bytes(array.bytes[8 * place..][..8].try_into().unwrap())
}

#[test]
fn published_checkpoints_of_every_method_are_imported() {
    let expected = expected();
    assert_eq!(expected.len(), 9);
    let project = project();
    for (name, Expected { epoch, tensors }) in expected {
        import(&project, &name, &format!("released/{name}/model.pth.tar-{epoch}"));
        let prompt = Checkpoint::read(&project.file("prompt.safetensors")).unwrap();
        assert_eq!(prompt.tensors().len(), tensors.len(), "{name}");
        let note: serde_json::Value = serde_json::from_str(prompt.note().unwrap()).unwrap();
        assert_eq!(note["epoch"], epoch, "{name}");
        assert_eq!(note["classes"].as_array().unwrap().len(), if name == "coop_class_specific" { 5 } else { 0 });
        for (tensor, expected) in tensors {
            let short = tensor.trim_start_matches("module.");
            let prefix =
                if short.contains("VPT") || short.starts_with("prompt_learner") { "" } else { "prompt_learner." };
            let found = &prompt.tensors()[&format!("{prefix}{short}")];
            assert_eq!(found.shape, expected.shape, "{name} {tensor}");
            let dtype = if expected.dtype == "float16" { Dtype::F16 } else { Dtype::F32 };
            assert_eq!(found.dtype, dtype, "{name} {tensor}");
            let sum: f64 = (0..found.count()).map(|place| value(found, place)).sum();
            assert!((sum - expected.sum).abs() < 1e-9, "{name} {tensor}: {sum}, not {}", expected.sum);
            assert_eq!(value(found, found.count() - 1), expected.last, "{name} {tensor}");
        }
    }
}

#[test]
fn what_a_checkpoint_contradicts_is_named() {
    let project = project();
    let maple = "released/maple/model.pth.tar-5";
    project.write("methods/deeper.toml", &project.read("methods/maple.toml").replace("depth = 3", "depth = 9"));
    project.prints(
        &["prompts", "import", maple, "--method", "methods/deeper.toml"],
        str![[r#"
<stderr>
error: the weights `released/maple/model.pth.tar-5` have `depth` 3, but the method says 9
hint: a method that fits has: learner = "maple", context_length = 2, depth = 3
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "import", maple, "--method", "methods/coop.toml"],
        str![[r#"
<stderr>
error: the weights `released/maple/model.pth.tar-5` are of the learner "maple", not "coop"
hint: a method that fits has: learner = "maple", context_length = 2, depth = 3
<exit code 2>

"#]],
    );
    project.prints(
        &[
            "prompts",
            "import",
            "released/coop_class_specific/model.pth.tar-50",
            "-m",
            "methods/coop_class_specific.toml",
        ],
        str![[r#"
<stderr>
error: the weights `released/coop_class_specific/model.pth.tar-50` have a context for each of 5 classes, not of 0
hint: name the classes that it was trained on, in the order of their labels
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "import", "released/other/model.pth.tar-1", "--method", "methods/coop.toml"],
        str![[r#"
<stderr>
error: the weights `released/other/model.pth.tar-1` hold no learned prompt; they have `fc.bias`, `layer1.weight`
hint: give a trained prompt, or a checkpoint of the published code such as `model.pth.tar-5`
<exit code 2>

"#]],
    );
    project.write("methods/wrong.toml", "learner = \"maple\"\ncontext_length = 2\ndepht = 3\n");
    project.prints(
        &["prompts", "import", maple, "--method", "methods/wrong.toml"],
        str![[r#"
<stderr>
error: unknown key `depht`
 --> methods/wrong.toml:3:1
  |
3 | depht = 3
  | ^^^^^
  |
  = hint: did you mean `depth`?
<exit code 2>

"#]],
    );
    assert!(!project.file("released/maple/prompt.safetensors").exists());
}

/// Adapters beside a prompt make another method of it, wherever they lie; CLIP's own tensors and buffers do not.
#[test]
fn tensors_that_no_learner_knows_are_not_dropped() {
    let project = project();
    let import = |given: &[(&str, &[i64])]| {
        let array = |shape: &&[i64]| Array {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: vec![0; 4 * shape.iter().product::<i64>() as usize].into(),
        };
        let tensors = given.iter().map(|(name, shape)| ((*name).to_owned(), array(shape))).collect();
        fs::write(project.file("given.safetensors"), to_safetensors(&tensors, None).unwrap()).unwrap();
        project.run(&["prompts", "import", "given.safetensors", "-m", "methods/coop.toml", "-o", "made.safetensors"])
    };
    let context: (&str, &[i64]) = ("prompt_learner.ctx", &[16, 8]);
    for known in [
        "prompt_learner.token_suffix",
        "logit_scale",
        "image_encoder.transformer.resblocks.3.mlp.c_fc.bias",
        "text_encoder.ln_final.weight",
        "prompt_learner.ZS_image_encoder.conv1.weight",
    ] {
        assert_eq!(import(&[context, (known, &[2])]).code, Some(0), "{known}");
        fs::remove_file(project.file("made.safetensors")).unwrap();
    }
    for unknown in [
        "adapter_image.fc.0.weight",
        "film_img.weight",
        "image_encoder.transformer.resblocks.3.adapter.down.weight",
        "text_encoder.transformer.resblocks.0.attn.lora_A",
        "prompt_learner.temperature",
    ] {
        let printed = import(&[context, (unknown, &[2])]);
        assert_eq!(printed.code, Some(2), "{unknown}");
        assert!(printed.stderr.contains(&format!("not CLIP's: `{unknown}`")), "{}", printed.stderr);
        assert!(!project.file("made.safetensors").exists());
    }
    assert_eq!(import(&[("model.prompt_learner.ctx", &[16, 8]), ("model.logit_scale", &[])]).code, Some(0));
    import(&[("ctx", &[16, 8]), ("adapter.fc.weight", &[4, 4]), ("adapter.fc.bias", &[4])]);
    project.prints(&["prompts", "import", "given.safetensors"], str![[r#"
<stderr>
error: the weights `given.safetensors` hold tensors that no learner has and that are not CLIP's: `adapter.fc.bias`, `adapter.fc.weight`
hint: they are of another method: without these tensors it would compute other numbers
<exit code 2>

"#]]);
    project.prints(
        &["prompts", "show", "given.safetensors"],
        str![[r#"
<stdout>
file       given.safetensors
learner    learner = "coop", context_length = 16, class_specific_context = false
unknown    adapter.fc.bias, adapter.fc.weight
prompt_learner.ctx  16 x 8       F32
<exit code 0>

"#]],
    );
    project.write(
        "pipelines/released.toml",
        "results = [\"@released\"]\n[stage.released]\nkind = \"imported\"\nmethod = \"../methods/coop.toml\"\n\
         checkpoint = \"../given.safetensors\"\n",
    );
    let printed = project.run(&["run", "pipelines/released.toml"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(printed.stderr.contains("not CLIP's: `adapter.fc.bias`, `adapter.fc.weight`"), "{}", printed.stderr);
}

/// KgCoOp's checkpoints hold layers that its code makes and never uses.
#[test]
fn what_published_code_leaves_over_is_named() {
    let project = project();
    let array = |shape: &[i64]| Array {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: vec![0; 4 * shape.iter().product::<i64>() as usize].into(),
    };
    let tensors: [(&str, &[i64]); 6] = [
        ("bias_vectors", &[1, 8]),
        ("ctx", &[4, 8]),
        ("meta_net.linear1.bias", &[8]),
        ("meta_net.linear1.weight", &[8, 8]),
        ("token_prefix", &[5, 1, 8]),
        ("token_suffix", &[5, 72, 8]),
    ];
    let tensors = tensors.iter().map(|(name, shape)| ((*name).to_owned(), array(shape))).collect();
    fs::write(project.file("kgcoop.safetensors"), to_safetensors(&tensors, None).unwrap()).unwrap();
    project.prints(&["prompts", "import", "kgcoop.safetensors"], str![[r#"
<stderr>
took `pipelines/methods/kgcoop.toml`, the one shipped method that fits
left out what the method does not use: `prompt_learner.bias_vectors`, `prompt_learner.meta_net.linear1.bias`, `prompt_learner.meta_net.linear1.weight`
wrote prompt.safetensors: learner = "kgcoop", context_length = 4
<exit code 0>

"#]]);
    project.prints(&["prompts", "show", "prompt.safetensors"], str![[r#"
<stdout>
file       prompt.safetensors
learner    learner = "kgcoop", context_length = 4
epochs     100
method     {"learner":"kgcoop","context_length":4,"context_initial_words":"a photo of a","teacher_template":"a photo of a {}.","teacher_weight":8.0,"precision":"fp16","training":{"epochs":100,"batch_size":128,"learning_rate":0.002,"momentum":0.9,"weight_decay":0.0005,"warmup_epochs":1,"warmup_learning_rate":0.00001}}
prompt_learner.ctx  4 x 8        F32
<exit code 0>

"#]]);
    project.prints(
        &["prompts", "show", "kgcoop.safetensors"],
        str![[r#"
<stdout>
file       kgcoop.safetensors
learner    learner = "kgcoop", context_length = 4
left over  prompt_learner.bias_vectors, prompt_learner.meta_net.linear1.bias, prompt_learner.meta_net.linear1.weight
prompt_learner.ctx  4 x 8        F32
<exit code 0>

"#]],
    );
}

#[test]
fn without_a_method_the_shipped_one_that_fits_is_taken() {
    let project = project();
    project.prints(
        &["prompts", "import", "released/maple/model.pth.tar-5", "-o", "maple.safetensors"],
        str![[r#"
<stderr>
took `pipelines/methods/maple_cross_dataset.toml`, the one shipped method that fits
wrote maple.safetensors: learner = "maple", context_length = 2, depth = 3
<exit code 0>

"#]],
    );
    // Those of CoOp learn the same; that of as many epochs is taken.
    project.prints(
        &["prompts", "import", "released/coop/model.pth.tar-50", "-o", "coop.safetensors"],
        str![[r#"
<stderr>
took `pipelines/methods/coop_ep50.toml`, the one shipped method that fits
wrote coop.safetensors: learner = "coop", context_length = 16, class_specific_context = false
<exit code 0>

"#]],
    );
    // Two start from other words.
    project.prints(&["prompts", "import", "released/cocoop/model.pth.tar-10"], str![[r#"
<stderr>
error: `released/cocoop/model.pth.tar-10` does not say with which method it was trained; its tensors tell: learner = "cocoop", context_length = 4
hint: name the method with `--method`; these fit: `pipelines/methods/cocoop.toml`, `pipelines/methods/cocoop_random.toml`
<exit code 2>

"#]]);
    project.prints(&["prompts", "import", "released/ivlp/model.pth.tar-5"], str![[r#"
<stderr>
error: `released/ivlp/model.pth.tar-5` does not say with which method it was trained; its tensors tell: learner = "ivlp", context_length = 2, depth = 3, vision_context_length = 2, vision_depth = 3
hint: no shipped method fits: write one that does, and name it with `--method`
<exit code 2>

"#]]);
    // What is a trained prompt already says it itself.
    project.prints(
        &["prompts", "import", "maple.safetensors", "-o", "again.safetensors"],
        str![[r#"
<stderr>
wrote again.safetensors: learner = "maple", context_length = 2, depth = 3
<exit code 0>

"#]],
    );
    assert_eq!(
        fs::read(project.file("again.safetensors")).unwrap(),
        fs::read(project.file("maple.safetensors")).unwrap()
    );
}

/// An exported prompt has the names, values and epoch of the checkpoint that it came from, and is imported to the same bytes.
#[test]
fn an_exported_prompt_is_the_checkpoint_that_it_came_from() {
    let expected = expected();
    let project = project();
    for (name, Expected { epoch, tensors }) in expected {
        let file = format!("released/{name}/model.pth.tar-{epoch}");
        import(&project, &name, &file);
        assert_eq!(project.run(&["prompts", "export", "prompt.safetensors", "exported.pth"]).code, Some(0), "{name}");
        let [exported, published] = ["exported.pth", &file].map(|path| Checkpoint::read(&project.file(path)).unwrap());
        assert_eq!((exported.epoch(), exported.tensors().len()), (published.epoch(), tensors.len()), "{name}");
        for (tensor, values) in exported.tensors() {
            let published = published.tensors().iter().find(|(name, _)| name.trim_start_matches("module.") == tensor);
            assert_eq!(published.map(|(_, values)| values), Some(values), "{name} {tensor}");
        }
        let printed = project.run(&["prompts", "import", "exported.pth", "-o", "again.safetensors"]);
        assert_eq!(printed.code, Some(0), "{name}: {}", printed.stderr);
        let read = |path: &str| fs::read(project.file(path)).unwrap();
        assert_eq!(read("prompt.safetensors"), read("again.safetensors"), "{name}");
    }
}

#[test]
fn a_prompt_is_exported_for_code_whose_checkpoints_hold_the_same() {
    let project = project();
    for (name, epoch) in [("ivlp", 5), ("coop", 50)] {
        let (file, method) = (format!("released/{name}/model.pth.tar-{epoch}"), format!("methods/{name}.toml"));
        let output = format!("{name}.safetensors");
        assert_eq!(project.run(&["prompts", "import", &file, "-m", &method, "-o", &output]).code, Some(0));
    }
    project.prints(
        &["prompts", "export", "ivlp.safetensors", "model.pth.tar-5", "--like", "promptsrc"],
        str![[r#"
<stderr>
wrote model.pth.tar-5: a checkpoint of `promptsrc` after epoch 5
hint: with `--model-dir FOLDER --load-epoch 5` the published code loads `FOLDER/VLPromptLearner/model.pth.tar-5`
<exit code 0>

"#]],
    );
    project.prints(
        &["prompts", "export", "coop.safetensors", "model.pth.tar-50", "--like", "kgcoop"],
        str![[r#"
<stderr>
wrote model.pth.tar-50: a checkpoint of `kgcoop` after epoch 50
hint: with `--model-dir FOLDER --load-epoch 50` the published code loads `FOLDER/prompt_learner/model.pth.tar-50`
<exit code 0>

"#]],
    );
    project.prints(
        &["prompts", "export", "coop.safetensors", "no.pth", "--like", "maple"],
        str![[r#"
<stderr>
error: the weights `coop.safetensors` hold other tensors than a checkpoint of `maple`
hint: they are as in a checkpoint of: `coop`, `ivlp`, `promptsrc`, `kgcoop`, `prograd`
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "export", "coop.safetensors", "no.pth", "--like", "kgcop"],
        str![[r#"
<stderr>
error: no published code is known that loads checkpoints of `kgcop`
hint: did you mean `kgcoop`?
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "export", "coop.safetensors", "no.pth", "--like", "zs-lp"],
        str![[r#"
<stderr>
error: no published code is known that loads checkpoints of `zs-lp`
hint: it is known for: `coop`, `cocoop`, `vpt`, `ivlp`, `maple`, `promptsrc`, `kgcoop`, `tcp`, `prograd`
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "export", "released/coop/model.pth.tar-50", "no.pth"],
        str![[r#"
<stderr>
error: the weights `released/coop/model.pth.tar-50` are no trained prompt: they name no method
hint: `maple-pipe prompts import` makes one of a published checkpoint
<exit code 2>

"#]],
    );
    assert!(!project.file("no.pth").exists());
}

#[test]
fn a_prompt_says_what_it_is() {
    let project = project();
    project.prints(
        &["prompts", "import", "released/maple/model.pth.tar-5", "--method", "methods/maple.toml"],
        str![[r#"
<stderr>
wrote released/maple/prompt.safetensors: learner = "maple", context_length = 2, depth = 3
<exit code 0>

"#]],
    );
    project.prints(&["prompts", "show", "released/maple/prompt.safetensors"], str![[r#"
<stdout>
file       released/maple/prompt.safetensors
learner    learner = "maple", context_length = 2, depth = 3
epochs     5
method     {"learner":"maple","context_length":2,"context_initial_words":"a photo of a","depth":3,"precision":"fp32","training":{"epochs":5,"batch_size":4,"learning_rate":0.0035,"momentum":0.9,"weight_decay":0.0005,"warmup_epochs":1,"warmup_learning_rate":0.00001}}
prompt_learner.compound_prompt_projections.0.bias    12           F32
prompt_learner.compound_prompt_projections.0.weight  12 x 8       F32
prompt_learner.compound_prompt_projections.1.bias    12           F32
prompt_learner.compound_prompt_projections.1.weight  12 x 8       F32
prompt_learner.compound_prompts_text.0               2 x 8        F32
prompt_learner.compound_prompts_text.1               2 x 8        F32
prompt_learner.ctx                                   2 x 8        F16
prompt_learner.proj.bias                             12           F16
prompt_learner.proj.weight                           12 x 8       F16
<exit code 0>

"#]]);
    project.prints(
        &["prompts", "show", "released/cocoop/model.pth.tar-10"],
        str![[r#"
<stdout>
file       released/cocoop/model.pth.tar-10
learner    learner = "cocoop", context_length = 4
epochs     10
prompt_learner.ctx                      4 x 8        F32
prompt_learner.meta_net.linear1.bias    1            F32
prompt_learner.meta_net.linear1.weight  1 x 16       F32
prompt_learner.meta_net.linear2.bias    8            F32
prompt_learner.meta_net.linear2.weight  8 x 1        F32
<exit code 0>

"#]],
    );
}

/// The context is the embeddings of "photo" and of "of", the latter moved by 0.003 and by 0.004 at right angles.
#[test]
fn the_nearest_words_are_found() {
    let project = Project::after_a_run();
    let weights = project.artifact("clip", "weights");
    let checkpoint = Checkpoint::read(&weights).unwrap();
    let embedding = &checkpoint.tensors()["token_embedding.weight"];
    let width = embedding.shape[1] as usize;
    let row = |token: usize| (0..width).map(|place| value(embedding, token * width + place)).collect::<Vec<f64>>();
    let mut moved = row(539);
    moved[0] += 0.003;
    moved[5] -= 0.004;
    let array = |rows: &[Vec<f64>]| Array {
        dtype: Dtype::F32,
        shape: vec![rows.len() as i64, width as i64],
        bytes: rows.concat().iter().flat_map(|value| (*value as f32).to_le_bytes()).collect(),
    };
    let tensors = BTreeMap::from([
        ("prompt_learner.ctx".to_owned(), array(&[row(1125), moved])),
        ("text_encoder.transformer.resblocks.1.VPT_shallow".to_owned(), array(&[row(320), row(2368)])),
    ]);
    fs::write(project.file("deep.safetensors"), to_safetensors(&tensors, None).unwrap()).unwrap();
    let interpret = ["prompts", "interpret", "deep.safetensors", "--weights", weights.to_str().unwrap()];
    project.prints(
        &[&interpret[..], &["--top", "1"]].concat(),
        str![[r#"
<stdout>
prompt_learner.ctx (block 1)
   1  photo</w>        0.0000
   2  of</w>           0.0050

text_encoder.transformer.resblocks.1.VPT_shallow (block 2)
   1  a</w>            0.0000
   2  cat</w>          0.0000
<exit code 0>

"#]],
    );
    let json = project.json(&[&interpret[..], &["--top", "2", "--json"]].concat());
    assert_eq!(json[1]["depth"], 2);
    let second = &json[0]["vectors"][1];
    assert_eq!(second.as_array().unwrap().len(), 2);
    assert!(second[0]["distance"].as_f64().unwrap() <= second[1]["distance"].as_f64().unwrap());

    project.prints(
        &["prompts", "interpret", "deep.safetensors", "--weights", "deep.safetensors"],
        str![[r#"
<stderr>
error: the weights `deep.safetensors` have no `token_embedding.weight`
hint: give the weights of the CLIP model that the prompt was trained with
<exit code 2>

"#]],
    );
}

/// What the program trained, taken for a released checkpoint, evaluates to the same.
#[test]
fn an_imported_prompt_evaluates_as_the_trained_one() {
    let project = Project::after_a_run();
    for method in ["coop", "maple"] {
        let prompt = project.artifact(&format!("train/shapes/{method}/seed1"), "prompt");
        fs::create_dir_all(project.file("released")).unwrap();
        fs::copy(prompt, project.file(&format!("released/{method}.pth"))).unwrap();
    }
    let text = project.read(PIPELINE);
    let (head, rest) = text.split_once("[stage.train]").unwrap();
    let (_, rest) = rest.split_once("[stage.zeroshot]").unwrap();
    let imported = "[stage.released]\nkind = \"imported\"\naxes = [\"method\"]\nexclude = { method = \"clip\" }\n\
                    method = \"methods/{method}.toml\"\ncheckpoint = \"../released/{method}.pth\"\n\n[stage.zeroshot]";
    let rest = rest
        .replace("\"@train\"", "\"@released\"")
        .replace("[\"dataset\", \"method\", \"seed\", \"classes\"]", "[\"dataset\", \"method\", \"classes\"]");
    project.write(
        "pipelines/released.toml",
        &format!("{head}{imported}{rest}").replace("name = \"tiny\"", "name = \"released\""),
    );
    let metrics = |node: &str| fs::read_to_string(project.artifact(node, "metrics")).unwrap();
    let expected = metrics("eval/shapes/maple/seed1/novel");
    let ran = project.ran(&["run", "pipelines/released.toml"]);
    // The file is the same prompt, byte by byte, so its evaluations need not run.
    assert_eq!(ran, names(&["released/coop", "released/maple", "table"]));
    let table = project.read("results/released/table.csv");
    let accuracy: f64 = serde_json::from_str::<serde_json::Value>(&expected).unwrap()["accuracy"].as_f64().unwrap();
    assert!(table.contains(&format!("maple,shapes,novel,{accuracy:.4}")), "{table}");
}
