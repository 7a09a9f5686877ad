//! `maple-pipe weights`: list, fetch, check, convert.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use maple_pipe::architecture::{Architecture, VisionLayers};
use maple_pipe::weights::{Array, to_safetensors};
use safetensors::Dtype;
use snapbox::str;

use crate::support::{PIPELINE, Project, overwrite};

/// Writes the weights of a small CLIP, in half precision.
fn write(project: &Project, path: &str, change: impl Fn(&mut BTreeMap<String, Array>)) {
    let layers = VisionLayers::Transformer(1);
    let small =
        Architecture { vocabulary: 9, vision_width: 64, vision_layers: layers, text_layers: 1, ..Architecture::tiny() };
    let tensors = small.tensors().into_iter().map(|(name, shape)| {
        let count = shape.iter().product::<i64>() as usize;
        (name, Array { dtype: Dtype::F16, shape, bytes: vec![0x3c; 2 * count].into() })
    });
    let mut tensors = tensors.collect();
    change(&mut tensors);
    std::fs::create_dir_all(project.file(path).parent().unwrap()).unwrap();
    std::fs::write(project.file(path), to_safetensors(&tensors, None).unwrap()).unwrap();
}

#[test]
fn published_weights_are_listed() {
    let project = Project::new();
    project.prints(
        &["weights", "list"],
        str![[r#"
<stdout>
openai/RN50              224 pixels, ResNet of 3+4+6+3 blocks from width 64   quick_gelu  no data root
openai/RN101             224 pixels, ResNet of 3+4+23+3 blocks from width 64  quick_gelu  no data root
openai/RN50x4            288 pixels, ResNet of 4+6+10+6 blocks from width 80  quick_gelu  no data root
openai/RN50x16           384 pixels, ResNet of 6+8+18+8 blocks from width 96  quick_gelu  no data root
openai/ViT-B-32          224 pixels, patches of 32, 12 blocks of width 768    quick_gelu  no data root
openai/ViT-B-16          224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  no data root
openai/ViT-L-14          224 pixels, patches of 14, 24 blocks of width 1024   quick_gelu  no data root
openai/ViT-L-14-336      336 pixels, patches of 14, 24 blocks of width 1024   quick_gelu  no data root
laion2b/ViT-B-16         224 pixels, patches of 16, 12 blocks of width 768    gelu        no data root
datacomp-xl/ViT-B-16     224 pixels, patches of 16, 12 blocks of width 768    gelu        no data root
metaclip-400m/ViT-B-16   224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  no data root
metaclip-fullcc/ViT-B-16 224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  no data root
dfn2b/ViT-B-16           224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  no data root
<exit code 0>

"#]],
    );
    project.write("data/weights/openai/ViT-B-16.pt", "not really");
    project.prints(
        &["weights", "list", "--data-root", "data"],
        str![[r#"
<stdout>
openai/RN50              224 pixels, ResNet of 3+4+6+3 blocks from width 64   quick_gelu  not there
openai/RN101             224 pixels, ResNet of 3+4+23+3 blocks from width 64  quick_gelu  not there
openai/RN50x4            288 pixels, ResNet of 4+6+10+6 blocks from width 80  quick_gelu  not there
openai/RN50x16           384 pixels, ResNet of 6+8+18+8 blocks from width 96  quick_gelu  not there
openai/ViT-B-32          224 pixels, patches of 32, 12 blocks of width 768    quick_gelu  not there
openai/ViT-B-16          224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  data/weights/openai/ViT-B-16.pt
openai/ViT-L-14          224 pixels, patches of 14, 24 blocks of width 1024   quick_gelu  not there
openai/ViT-L-14-336      336 pixels, patches of 14, 24 blocks of width 1024   quick_gelu  not there
laion2b/ViT-B-16         224 pixels, patches of 16, 12 blocks of width 768    gelu        not there
datacomp-xl/ViT-B-16     224 pixels, patches of 16, 12 blocks of width 768    gelu        not there
metaclip-400m/ViT-B-16   224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  not there
metaclip-fullcc/ViT-B-16 224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  not there
dfn2b/ViT-B-16           224 pixels, patches of 16, 12 blocks of width 768    quick_gelu  not there
<exit code 0>

"#]],
    );
}

#[test]
fn a_file_is_checked_and_converted() {
    let project = Project::new();
    write(&project, "small.safetensors", |_| ());
    project.prints(
        &["weights", "check", "small.safetensors"],
        str![[r#"
<stdout>
file        small.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 8, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 9 words
embedding   32
heads       vision: not told; text: not told
activation  not told
values      123393 in 38 tensors: 123393 F16
sha-256     [DIGEST]
<exit code 0>

"#]],
    );
    let convert = ["weights", "convert", "small.safetensors", "out/small.fp32.safetensors", "--precision", "fp32"];
    project.prints(
        &convert,
        str![[r#"
<stderr>
wrote out/small.fp32.safetensors: 123393 in 38 tensors: 123393 F32
<exit code 0>

"#]],
    );
    project.prints(
        &["weights", "check", "out/small.fp32.safetensors"],
        str![[r#"
<stdout>
file        out/small.fp32.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 8, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 9 words
embedding   32
heads       vision: not told; text: not told
activation  not told
values      123393 in 38 tensors: 123393 F32
sha-256     [DIGEST]
<exit code 0>

"#]],
    );
}

/// What people give in place of a checkpoint is called by its name.
#[test]
fn a_file_that_is_something_else_is_called_by_its_name() {
    let project = Project::new();
    project.write("lfs.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 4\n");
    project.prints(
        &["weights", "check", "lfs.pt"],
        str![[r#"
<stderr>
error: `lfs.pt` is a Git LFS pointer, not a checkpoint
hint: run `git lfs pull` in the repository that it is from
<exit code 2>

"#]],
    );
    write(&project, "hf/model-00001-of-00002.safetensors", |tensors| {
        tensors.retain(|name, _| !name.starts_with("visual."));
    });
    project.write(
        "hf/model.safetensors.index.json",
        r#"{"metadata": {"total_size": 9}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#,
    );
    project.prints(&["weights", "check", "hf/model.safetensors.index.json"], str![[r#"
<stderr>
error: `hf/model.safetensors.index.json` is an index of shards, not a checkpoint: `model-00001-of-00002.safetensors`, `model-00002-of-00002.safetensors`
hint: the shards hold the model together: give one file that holds all of it; Hugging Face's `save_pretrained(..., max_shard_size="100GB")` writes it
<exit code 2>

"#]]);
    project.prints(&["weights", "check", "hf/model-00001-of-00002.safetensors"], str![[r#"
<stderr>
error: the weights `hf/model-00001-of-00002.safetensors` have no `visual.conv1.weight` of 4 axes; they have `ln_final.bias`, `ln_final.weight`, `logit_scale`, `positional_embedding`, `text_projection` and 13 more
hint: it is one of several shards, which hold the model together: give one file that holds all of it; Hugging Face's `save_pretrained(..., max_shard_size="100GB")` writes it
<exit code 2>

"#]]);
    project.prints(
        &["weights", "check", "hf"],
        str![[r#"
<stderr>
error: `hf` is a folder, not a checkpoint
hint: give a file in it: `hf/model-00001-of-00002.safetensors`
<exit code 2>

"#]],
    );
    project.write("empty/notes.txt", "");
    project.prints(
        &["weights", "check", "empty"],
        str![[r#"
<stderr>
error: `empty` is a folder, not a checkpoint
hint: give a file
<exit code 2>

"#]],
    );
    project.prints(
        &["weights", "check", "empty/notes.txt"],
        str![[r#"
<stderr>
error: `empty/notes.txt` is empty, not a checkpoint
hint: copy or fetch it again
<exit code 2>

"#]],
    );
    // As Dassl leaves them.
    write(&project, "out/MultiModalPromptLearner/model.pth.tar-5", |_| ());
    project.write("out/MultiModalPromptLearner/checkpoint", "model.pth.tar-5\n");
    project.prints(
        &["weights", "check", "out"],
        str![[r#"
<stderr>
error: `out` is a folder, not a checkpoint
hint: give a file in it: `out/MultiModalPromptLearner/model.pth.tar-5`
<exit code 2>

"#]],
    );
    project.prints(
        &["prompts", "import", "out/MultiModalPromptLearner/checkpoint"],
        str![[r#"
<stderr>
error: `out/MultiModalPromptLearner/checkpoint` is a text that names a checkpoint
hint: give what it names: `out/MultiModalPromptLearner/model.pth.tar-5`
<exit code 2>

"#]],
    );
    project.write(
        "pipelines/folder.toml",
        "results = [\"@released\"]\n[stage.released]\nkind = \"imported\"\nmethod = \"methods/coop.toml\"\n\
         checkpoint = \"../out\"\n",
    );
    project.prints(
        &["status", "pipelines/folder.toml"],
        str![[r#"
<stderr>
error: `pipelines/../out` is a folder, but `checkpoint` takes a file
 --> pipelines/folder.toml:5:14
  |
5 | checkpoint = "../out"
  |              ^^^^^^^^
  |
  = hint: give a file in it
<exit code 2>

"#]],
    );
    let whole = std::fs::read(project.file("out/MultiModalPromptLearner/model.pth.tar-5")).unwrap();
    std::fs::write(project.file("half.safetensors"), &whole[..whole.len() / 2]).unwrap();
    project.prints(
        &["weights", "check", "half.safetensors"],
        str![[r#"
<stderr>
error: `half.safetensors` is not a valid checkpoint: it is cut off: copy or fetch it again
<exit code 2>

"#]],
    );
    std::fs::write(project.file("numbers.pkl"), b"\x80\x04]\x94.").unwrap();
    project.prints(
        &["weights", "check", "numbers.pkl"],
        str![[r#"
<stderr>
error: `numbers.pkl` is not a valid checkpoint: it is a pickle, but `torch.save` did not write it
<exit code 2>

"#]],
    );
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let project = Project::new();
    write(&project, "odd.safetensors", |tensors| {
        tensors.remove("ln_final.bias");
        let surplus = Array { dtype: Dtype::F32, shape: vec![], bytes: vec![0; 4].into() };
        tensors.insert("logit_bias".to_owned(), surplus);
    });
    project.prints(
        &["weights", "check", "odd.safetensors"],
        str![[r#"
<stderr>
error: the weights `odd.safetensors` do not fit: missing: `ln_final.bias`; unknown: `logit_bias`
<exit code 2>

"#]],
    );
    project.prints(
        &["weights", "convert", "odd.safetensors", "out.safetensors"],
        str![[r#"
<stderr>
error: the weights `odd.safetensors` do not fit: missing: `ln_final.bias`; unknown: `logit_bias`
<exit code 2>

"#]],
    );
    assert!(!project.file("out.safetensors").exists());
    write(&project, "whole.safetensors", |tensors| {
        let array = tensors.get_mut("ln_final.bias").unwrap();
        *array = Array { dtype: Dtype::I64, shape: array.shape.clone(), bytes: vec![0; 8 * 64].into() };
    });
    project.prints(
        &["weights", "check", "whole.safetensors"],
        str![[r#"
<stderr>
error: the weights `whole.safetensors` hold `ln_final.bias` as I64, which is no floating-point number
hint: give weights in F16, BF16, F32 or F64; quantized ones cannot be used
<exit code 2>

"#]],
    );
    write(&project, "damaged.safetensors", |tensors| {
        overwrite(tensors.get_mut("ln_final.bias").unwrap(), &[0x00, 0x7c, 0x01, 0x7e]);
        overwrite(tensors.get_mut("visual.proj").unwrap(), &[0x01, 0x7e]);
    });
    project.prints(
        &["weights", "check", "damaged.safetensors"],
        str![[r#"
<stdout>
file        damaged.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 8, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 9 words
embedding   32
heads       vision: not told; text: not told
activation  not told
values      123393 in 38 tensors: 123393 F16
sha-256     [DIGEST]
<stderr>
error: values that are infinite or no numbers: 3, the first of them in `ln_final.bias`
hint: nothing can be computed with them: fetch or convert the weights again
<exit code 1>

"#]],
    );
    project.write("page.pt", "<html>404 Not Found</html>");
    project.prints(
        &["weights", "check", "page.pt"],
        str![[r#"
<stderr>
error: `page.pt` is a web page, not a checkpoint
hint: open the address in a browser: it asks for something, or says what is wrong
<exit code 2>

"#]],
    );
    project.prints(
        &["weights", "check", "openai/ViT-B-17"],
        str![[r#"
<stderr>
error: there is no file `openai/ViT-B-17`, and no published weights of that name
hint: `maple-pipe weights list` names those that are known
<exit code 2>

"#]],
    );
}

#[test]
fn weights_that_are_not_there_are_explained() {
    let project = Project::new();
    project.prints(
        &["weights", "check", "openai/ViT-B-16"],
        str![[r#"
<stderr>
error: the weights `openai/ViT-B-16` lie in the folder of your data sets, which is not given
hint: give `--data-root FOLDER` or set MAPLE_DATA
<exit code 2>

"#]],
    );
    project.prints(&["weights", "check", "openai/ViT-B-16", "--data-root", "data"], str![[r#"
<stderr>
error: the weights `openai/ViT-B-16` are not there
hint: run `maple-pipe weights fetch openai/ViT-B-16`, or download https://openaipublic.azureedge.net/clip/models/[DIGEST]/ViT-B-16.pt on another machine and put it at `data/weights/openai/ViT-B-16.pt`
<exit code 2>

"#]]);
    project.prints(
        &["weights", "fetch", "openai/ViT-B-16"],
        str![[r#"
<stderr>
error: the folder of your data sets and weights is not given
hint: give `--data-root FOLDER` or set MAPLE_DATA
<exit code 2>

"#]],
    );
    project.prints(
        &["weights", "fetch", "ViT-B/16", "--data-root", "data"],
        str![[r#"
<stderr>
error: there are no published weights `ViT-B/16`
hint: `maple-pipe weights list` names those that are known
<exit code 2>

"#]],
    );
    // Nothing listens there.
    let url = "http://127.0.0.1:1/w.pt";
    project.prints(
        &["weights", "fetch", "openai/RN50", "--data-root", "data", "--url", url],
        str![[r#"
<stderr>
error: could not download `http://127.0.0.1:1/w.pt`: io: Connection refused (os error 111)
hint: download https://openaipublic.azureedge.net/clip/models/[DIGEST]/RN50.pt on another machine and put it at `data/weights/openai/RN50.pt`
<exit code 1>

"#]],
    );
}

#[test]
fn a_download_with_another_content_is_refused() {
    let project = Project::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).lines().map(Result::unwrap).find(String::is_empty);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").unwrap();
    });
    let url = format!("http://127.0.0.1:{port}/w.pt");
    let mut printed = project.run(&["weights", "fetch", "openai/RN50", "--data-root", "data", "--url", &url]);
    printed.stderr = printed.stderr.replace(&format!(":{port}"), ":[PORT]");
    printed.is(str![[r#"
<stderr>
error: `http://127.0.0.1:[PORT]/w.pt` is another file: its SHA-256 is [DIGEST], not [DIGEST]
hint: what that server sends is damaged, or no longer the published file: find another copy, and put it at `data/weights/openai/RN50.pt`
<exit code 2>

"#]]);
    server.join().unwrap();
    assert_eq!(std::fs::read_dir(project.file("data/weights/openai")).unwrap().count(), 0);
    project.write("data/weights/openai/RN50.pt", "hello");
    project.prints(
        &["weights", "fetch", "openai/RN50", "--data-root", "data"],
        str![[r#"
<stderr>
error: `data/weights/openai/RN50.pt` is not `openai/RN50`: its SHA-256 is [DIGEST]
hint: remove it, and fetch it again
<exit code 2>

"#]],
    );
}

#[test]
fn a_pipeline_names_published_weights() {
    let project = Project::new();
    project.replace(PIPELINE, "[stage.clip]\nkind = \"pretrain\"", "[stage.unused]\nkind = \"pretrain\"");
    let text = project.read(PIPELINE).replace("weights = \"@clip\"", "weights = \"openai/ViT-B-16\"");
    project.write(PIPELINE, &text);
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stdout>
never run (2)
  data/shapes
  captioned
waiting for stale nodes (3)
  shots/shapes/seed1
  shots/shapes/seed2
  unused
blocked: something that they need is not there (15)
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
  train/shapes/coop/seed1
  train/shapes/coop/seed2
  train/shapes/maple/seed1
  train/shapes/maple/seed2
  eval/shapes/coop/seed1/base
  eval/shapes/coop/seed1/novel
  ... and 7 more (`--all` lists them)
<stderr>
warning: the weights `openai/ViT-B-16` lie in the folder of your data sets, which is not given
  --> pipelines/tiny.toml:58:11
   |
58 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: give `--data-root FOLDER` or set MAPLE_DATA

20 nodes: 0 up to date, 2 stale, 3 waiting for them, 15 blocked
<exit code 0>

"#]],
    );
    project.prints(&["status", PIPELINE, "--data-root", "data"], str![[r#"
<stdout>
never run (2)
  data/shapes
  captioned
waiting for stale nodes (3)
  shots/shapes/seed1
  shots/shapes/seed2
  unused
blocked: something that they need is not there (15)
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
  train/shapes/coop/seed1
  train/shapes/coop/seed2
  train/shapes/maple/seed1
  train/shapes/maple/seed2
  eval/shapes/coop/seed1/base
  eval/shapes/coop/seed1/novel
  ... and 7 more (`--all` lists them)
<stderr>
warning: the weights `openai/ViT-B-16` are not there
  --> pipelines/tiny.toml:58:11
   |
58 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: run `maple-pipe weights fetch openai/ViT-B-16`, or download https://openaipublic.azureedge.net/clip/models/[DIGEST]/ViT-B-16.pt on another machine and put it at `data/weights/openai/ViT-B-16.pt`

20 nodes: 0 up to date, 2 stale, 3 waiting for them, 15 blocked
<exit code 0>

"#]]);
}

#[test]
fn what_no_tensor_tells_can_be_said() {
    let project = Project::new();
    write(&project, "small.safetensors", |_| ());
    let said = ["--activation", "gelu", "--vision-heads", "4", "--text-heads", "8"];
    project.prints(
        &[&["weights", "check", "small.safetensors"], &said[..]].concat(),
        str![[r#"
<stdout>
file        small.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 8, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 9 words
embedding   32
heads       vision: 4, as given; text: 8, as given
activation  gelu, as given
values      123393 in 38 tensors: 123393 F16
sha-256     [DIGEST]
<exit code 0>

"#]],
    );
    project.prints(
        &["weights", "check", "small.safetensors", "--vision-heads", "7"],
        str![[r#"
<stderr>
error: `backbone.vision_heads` is 7, but the tower is 64 wide
hint: give a divisor of 64
<exit code 2>

"#]],
    );
    // A converted file says of itself what was said of the other one.
    project.prints(
        &[&["weights", "convert", "small.safetensors", "told.safetensors"], &said[..]].concat(),
        str![[r#"
<stderr>
wrote told.safetensors: 123393 in 38 tensors: 123393 F16
<exit code 0>

"#]],
    );
    project.prints(
        &["weights", "check", "told.safetensors"],
        str![[r#"
<stdout>
file        told.safetensors
format      safetensors, OpenAI's names
vision      32 pixels, patches of 8, 1 blocks of width 64
text        1 blocks of width 64, 77 positions, 9 words
embedding   32
heads       vision: 4, as the file says; text: 8, as the file says
activation  gelu, as the file says
values      123393 in 38 tensors: 123393 F16
sha-256     [DIGEST]
<exit code 0>

"#]],
    );
    project.prints(
        &["weights", "check", "told.safetensors", "--activation", "quick_gelu"],
        str![[r#"
<stderr>
error: `backbone.activation` is quick_gelu (as given), but also gelu (as the file says)
hint: remove what is wrong
<exit code 2>

"#]],
    );
}

/// Weights that nobody knows are asked about where they are named, before anything runs; the answer is part of the key.
#[test]
fn a_pipeline_says_what_its_weights_do_not() {
    let project = Project::after_a_run();
    std::fs::copy(project.artifact("clip", "weights"), project.file("mine.safetensors")).unwrap();
    let text = project.read(PIPELINE).replace("\"@clip\"", "\"../mine.safetensors\"");
    project.write(PIPELINE, &text);
    project.prints(&["status", PIPELINE], str![[r#"
<stderr>
error: the weights `pipelines/../mine.safetensors` do not tell the activation, nor the attention heads of the vision tower, which is 64 wide, nor the attention heads of the text tower, which is 64 wide
  --> pipelines/tiny.toml:58:11
   |
58 | weights = "../mine.safetensors"
   |           ^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: add `backbone = { activation = "gelu", vision_heads = N, text_heads = N }` to the stage, or `quick_gelu`: that is OpenAI's, and that of models named so; others of OpenCLIP have `gelu`; Hugging Face's `config.json` has them as `hidden_act` and `num_attention_heads`

error: the weights `pipelines/../mine.safetensors` do not tell the activation, nor the attention heads of the vision tower, which is 64 wide, nor the attention heads of the text tower, which is 64 wide
  --> pipelines/tiny.toml:49:11
   |
49 | weights = "../mine.safetensors"
   |           ^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: add `backbone = { activation = "gelu", vision_heads = N, text_heads = N }` to the stage, or `quick_gelu`: that is OpenAI's, and that of models named so; others of OpenCLIP have `gelu`; Hugging Face's `config.json` has them as `hidden_act` and `num_attention_heads`
<exit code 2>

"#]]);
    let said = |activation: &str| {
        let heads = "vision_heads = 1, text_heads = 1";
        let said = format!("\"../mine.safetensors\"\nbackbone = {{ activation = \"{activation}\", {heads} }}");
        project.write(PIPELINE, &text.replace("\"../mine.safetensors\"", &said));
        project.ran(&["run", PIPELINE, "--only", "zeroshot/*/novel", "-j", "1"]);
        std::fs::read_to_string(project.artifact("zeroshot/shapes/clip/novel", "predictions")).unwrap()
    };
    let ours = std::fs::read_to_string(project.artifact("zeroshot/shapes/clip/novel", "predictions")).unwrap();
    assert_eq!(said("quick_gelu"), ours);
    assert_ne!(said("gelu"), ours);
    project.write(PIPELINE, &project.read(PIPELINE).replace("vision_heads = 1", "vision_heads = 5"));
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: `backbone.vision_heads` is 5, but the tower is 64 wide
  --> pipelines/tiny.toml:60:50
   |
60 | backbone = { activation = "gelu", vision_heads = 5, text_heads = 1 }
   |                                                  ^
   |
   = hint: give a divisor of 64

error: `backbone.vision_heads` is 5, but the tower is 64 wide
  --> pipelines/tiny.toml:50:50
   |
50 | backbone = { activation = "gelu", vision_heads = 5, text_heads = 1 }
   |                                                  ^
   |
   = hint: give a divisor of 64
<exit code 2>

"#]],
    );
}

/// What a command makes cannot be looked at before it is there.
#[test]
fn weights_that_a_command_made_are_asked_about_when_they_are_read() {
    let project = Project::after_a_run();
    let copy = "[stage.copy]\nkind = \"command\"\ninputs = { w = \"@clip\" }\nrun = \"cp inputs/w out\"\n\
                outputs = { weights = \"out\" }\n\n[stage.zeroshot]";
    project.replace(PIPELINE, "[stage.zeroshot]", copy);
    let method = "method = \"methods/{method}.toml\"\ndataset = \"@data\"\nweights = ";
    project.replace(PIPELINE, &format!("{method}\"@clip\""), &format!("{method}\"@copy\""));
    // The same bytes have a result already, which would be found.
    let other = "stage.zeroshot.on_bad_image=skip";
    let printed = project.run(&["run", PIPELINE, "--only", "zeroshot/*/novel", "-j", "1", "--set", other]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(printed.stderr.contains("do not tell the activation"), "{}", printed.stderr);
    assert!(printed.stderr.contains("hint: add `backbone = { activation = \"gelu\""), "{}", printed.stderr);
}
