//! What ships, copied to where a test may add to it.

use std::path::{Path, PathBuf};

use maple_pipe::data::catalogue::shipped;
use tempfile::TempDir;

/// A project with the shipped pipelines, and a data root with what they look for, empty.
pub fn with_empty_data() -> TempDir {
    let project = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["pipelines", "data-manifests", "results/published"] {
        for entry in walkdir::WalkDir::new(root.join(folder)) {
            let entry = entry.unwrap();
            let copy = project.path().join(entry.path().strip_prefix(root).unwrap());
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(copy).unwrap();
            } else {
                std::fs::copy(entry.path(), copy).unwrap();
            }
        }
    }
    let write = |path: PathBuf| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    };
    let data = project.path().join("data");
    for (_, manifest) in shipped() {
        for path in manifest.within() {
            let path = data.join(&manifest.folder).join(path);
            if path.extension().is_some() { write(path) } else { std::fs::create_dir_all(path).unwrap() }
        }
    }
    write(data.join("weights/openai/ViT-B-16.pt"));
    std::fs::create_dir(project.path().join("repository")).unwrap();
    let released = project.path().join("released");
    let models = [("vpt", "prompt_learner"), ("language", "VLPromptLearner"), ("ivlp", "VLPromptLearner"), MAPLE];
    for seed in 1..=3 {
        for (method, model) in models {
            // Those of the papers' base-to-novel table come first.
            for (dataset, _) in shipped().take(11) {
                let folder = format!("base2novel/{method}/{dataset}/base/seed{seed}/{model}");
                write(released.join(folder).join("model.pth.tar-5"));
            }
        }
        let folder = format!("cross_dataset/maple/imagenet/seed{seed}/{}", MAPLE.1);
        write(released.join(folder).join("model.pth.tar-2"));
    }
    project
}

const MAPLE: (&str, &str) = ("maple", "MultiModalPromptLearner");

/// Where the results of a pipeline are that ran with `--set`.
pub fn set_results(results: &Path, pipeline: &str) -> PathBuf {
    let folders = std::fs::read_dir(results).unwrap().map(|folder| folder.unwrap().path());
    let begins = |folder: &PathBuf| folder.file_name().unwrap().to_str().unwrap().starts_with(&format!("{pipeline}+"));
    let found: Vec<PathBuf> = folders.filter(begins).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}
