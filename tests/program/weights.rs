//! `maple-pipe weights`: list, fetch, check, convert.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use maple_pipe::architecture::{Architecture, VisionLayers};
use maple_pipe::weights::{Array, to_safetensors};
use safetensors::Dtype;
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// Writes the weights of a small CLIP, in half precision.
fn write(project: &Project, path: &str, change: impl Fn(&mut BTreeMap<String, Array>)) {
    let layers = VisionLayers::Transformer(1);
    let small =
        Architecture { vocabulary: 9, vision_width: 64, vision_layers: layers, text_layers: 1, ..Architecture::tiny() };
    let tensors = small.tensors().into_iter().map(|(name, shape)| {
        let count = shape.iter().product::<i64>() as usize;
        (name, Array { dtype: Dtype::F16, shape, bytes: vec![0x3c; 2 * count] })
    });
    let mut tensors = tensors.collect();
    change(&mut tensors);
    std::fs::write(project.file(path), to_safetensors(&tensors, None).unwrap()).unwrap();
}

#[test]
fn published_weights_are_listed() {
    let project = Project::new();
    project.prints(
        &["weights", "list"],
        str![[r#"
<stdout>
openai/RN50          224 pixels, ResNet of 3+4+6+3 blocks from width 64   no data root
openai/RN101         224 pixels, ResNet of 3+4+23+3 blocks from width 64  no data root
openai/RN50x4        288 pixels, ResNet of 4+6+10+6 blocks from width 80  no data root
openai/RN50x16       384 pixels, ResNet of 6+8+18+8 blocks from width 96  no data root
openai/ViT-B-32      224 pixels, patches of 32, 12 blocks of width 768    no data root
openai/ViT-B-16      224 pixels, patches of 16, 12 blocks of width 768    no data root
openai/ViT-L-14      224 pixels, patches of 14, 24 blocks of width 1024   no data root
openai/ViT-L-14-336  336 pixels, patches of 14, 24 blocks of width 1024   no data root
<exit code 0>

"#]],
    );
    project.write("data/weights/openai/ViT-B-16.pt", "not really");
    project.prints(
        &["weights", "list", "--data-root", "data"],
        str![[r#"
<stdout>
openai/RN50          224 pixels, ResNet of 3+4+6+3 blocks from width 64   not there
openai/RN101         224 pixels, ResNet of 3+4+23+3 blocks from width 64  not there
openai/RN50x4        288 pixels, ResNet of 4+6+10+6 blocks from width 80  not there
openai/RN50x16       384 pixels, ResNet of 6+8+18+8 blocks from width 96  not there
openai/ViT-B-32      224 pixels, patches of 32, 12 blocks of width 768    not there
openai/ViT-B-16      224 pixels, patches of 16, 12 blocks of width 768    data/weights/openai/ViT-B-16.pt
openai/ViT-L-14      224 pixels, patches of 14, 24 blocks of width 1024   not there
openai/ViT-L-14-336  336 pixels, patches of 14, 24 blocks of width 1024   not there
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
activation  taken as QuickGELU, which no tensor tells
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
activation  taken as QuickGELU, which no tensor tells
values      123393 in 38 tensors: 123393 F32
sha-256     [DIGEST]
<exit code 0>

"#]],
    );
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let project = Project::new();
    write(&project, "odd.safetensors", |tensors| {
        tensors.remove("ln_final.bias");
        let surplus = Array { dtype: Dtype::F32, shape: vec![], bytes: vec![0; 4] };
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
        *array = Array { dtype: Dtype::I64, shape: array.shape.clone(), bytes: vec![0; 8 * 64] };
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
        tensors.get_mut("ln_final.bias").unwrap().bytes[..4].copy_from_slice(&[0x00, 0x7c, 0x01, 0x7e]);
        tensors.get_mut("visual.proj").unwrap().bytes[..2].copy_from_slice(&[0x01, 0x7e]);
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
activation  taken as QuickGELU, which no tensor tells
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
error: `page.pt` is not a valid checkpoint: it is neither PyTorch's nor safetensors (header too large)
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
<stderr>
error: the weights `openai/ViT-B-16` lie in the folder of your data sets, which is not given
  --> pipelines/tiny.toml:58:11
   |
58 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: give `--data-root FOLDER` or set MAPLE_DATA

error: the weights `openai/ViT-B-16` lie in the folder of your data sets, which is not given
  --> pipelines/tiny.toml:49:11
   |
49 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: give `--data-root FOLDER` or set MAPLE_DATA

error: the weights `openai/ViT-B-16` lie in the folder of your data sets, which is not given
  --> pipelines/tiny.toml:67:11
   |
67 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: give `--data-root FOLDER` or set MAPLE_DATA
<exit code 2>

"#]],
    );
    project.prints(&["status", PIPELINE, "--data-root", "data"], str![[r#"
<stderr>
error: the weights `openai/ViT-B-16` are not there
  --> pipelines/tiny.toml:58:11
   |
58 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: run `maple-pipe weights fetch openai/ViT-B-16`, or download https://openaipublic.azureedge.net/clip/models/[DIGEST]/ViT-B-16.pt on another machine and put it at `data/weights/openai/ViT-B-16.pt`

error: the weights `openai/ViT-B-16` are not there
  --> pipelines/tiny.toml:49:11
   |
49 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: run `maple-pipe weights fetch openai/ViT-B-16`, or download https://openaipublic.azureedge.net/clip/models/[DIGEST]/ViT-B-16.pt on another machine and put it at `data/weights/openai/ViT-B-16.pt`

error: the weights `openai/ViT-B-16` are not there
  --> pipelines/tiny.toml:67:11
   |
67 | weights = "openai/ViT-B-16"
   |           ^^^^^^^^^^^^^^^^^
   |
   = hint: run `maple-pipe weights fetch openai/ViT-B-16`, or download https://openaipublic.azureedge.net/clip/models/[DIGEST]/ViT-B-16.pt on another machine and put it at `data/weights/openai/ViT-B-16.pt`
<exit code 2>

"#]]);
}
