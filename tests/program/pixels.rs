//! Prepared pixels, and images that cannot be decoded.

use std::fs;
use std::path::PathBuf;

use maple_pipe::data::world::World;
use snapbox::str;

use crate::support::{PIPELINE, Project};

fn pixels(project: &Project) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.file(".maple/pixels")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn pixels_are_prepared_once_and_change_nothing() {
    let project = Project::after_a_run();
    // One file for the base and one for the novel test images, and one for the pictures of each seed, whatever the method.
    assert_eq!(pixels(&project).len(), 4);
    let digests = project.digests();
    let without = Project::new();
    without.ran(&["run", PIPELINE, "--no-pixel-cache"]);
    assert!(pixels(&without).is_empty());
    assert_eq!(without.digests(), digests);
    // They are no part of any key, and may go at any time.
    fs::remove_dir_all(project.file(".maple/pixels")).unwrap();
    assert!(project.ran(&["run", PIPELINE]).is_empty());
    let changed = ["run", PIPELINE, "--set", "stage.train.method.training.learning_rate=0.5"];
    project.ran(&changed);
    assert_eq!(pixels(&project).len(), 4);
    // Whoever wants all classes finds them.
    let all = ["--only", "zeroshot/*/clip/all", "--set", "axes.classes=[\"base\", \"novel\", \"all\"]"];
    assert_eq!(project.ran(&[&["run", PIPELINE], &all[..]].concat()).len(), 1);
    assert_eq!(pixels(&project).len(), 4);
}

#[test]
fn damaged_pixels_are_found_and_old_ones_go() {
    let project = Project::after_a_run();
    let all = pixels(&project);
    let mut bytes = fs::read(&all[0]).unwrap();
    bytes[100] ^= 1;
    fs::write(&all[0], bytes).unwrap();
    let printed = project.run(&["verify"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stdout);
    assert!(printed.stdout.contains(".pixels"), "{}", printed.stdout);
    project.run(&["verify", "--remove"]);
    assert_eq!(pixels(&project), all[1..]);

    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 3600);
    for path in &all[1..] {
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    let printed = project.run(&["gc", PIPELINE]);
    let expected = "prepared pixels that nobody has read for 30 days";
    assert!(printed.stdout.contains(expected), "{}\n{}", printed.stdout, printed.stderr);
    assert!(pixels(&project).is_empty());
}

/// The first so many files of a part of the data set are no images, though they are there.
fn with_bad_images(part: &str, count: usize) -> Project {
    let project = Project::new();
    let split: serde_json::Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
    for item in &split[part].as_array().unwrap()[..count] {
        project.write(&format!("data/shapes/images/{}", item[0].as_str().unwrap()), "no image");
    }
    project
}

#[test]
fn images_that_cannot_be_decoded_may_be_skipped() {
    let project = with_bad_images("test", 1);
    let skip = ["--set", "stage.zeroshot.on_bad_image=skip"];
    project.prints(
        &[&["run", PIPELINE, "--only", "zeroshot/shapes/clip/base", "-j", "1"], &skip[..]].concat(),
        str![[r#"
<stderr>
        DONE [TIME] (1/4) captioned
        DONE [TIME] (2/4) data/shapes   4 classes, 32 images
        DONE [TIME] (3/4) clip   [NUMBER]
        DONE [TIME] (4/4) zeroshot/shapes/clip/base   [NUMBER], 1 image skipped
4 nodes: 4 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    let project = with_bad_images("train", 4);
    project.prints(
        &["run", PIPELINE, "--only", "train/shapes/coop/seed1", "-j", "1", "--set", "stage.train.on_bad_image=skip"],
        str![[r#"
<stderr>
        DONE [TIME] (1/5) data/shapes   4 classes, 32 images
        DONE [TIME] (2/5) captioned
        DONE [TIME] (3/5) shots/shapes/seed1   4 images
        DONE [TIME] (4/5) clip   [NUMBER]
        DONE [TIME] (5/5) train/shapes/coop/seed1   [NUMBER], 2 images skipped
5 nodes: 5 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
}

#[test]
fn a_training_without_any_image_fails() {
    let project = with_bad_images("train", 16);
    project.prints(
        &["run", PIPELINE, "--only", "train/shapes/coop/seed1", "-j", "1", "--set", "stage.train.on_bad_image=skip"],
        str![[r#"
<stderr>
        DONE [TIME] (1/5) data/shapes   4 classes, 32 images
        DONE [TIME] (2/5) captioned
        DONE [TIME] (3/5) shots/shapes/seed1   4 images
        DONE [TIME] (4/5) clip   [NUMBER]
      FAILED [TIME] (5/5) train/shapes/coop/seed1
error: none of the training images of epoch 1 of 1 could be decoded
log: [PROJECT]/.maple/logs/tiny/train/shapes/coop/seed1.log
5 nodes: 4 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

/// A batch is 100 images. Of 104 the last four cannot be decoded, so there is nothing in the second batch.
#[test]
fn a_batch_in_which_nothing_decodes_is_skipped() {
    let project = Project::new();
    let parameters = serde_json::json!({
        "dataset": "shapes", "size": 32, "classes": 4, "train": 4, "val": 1, "test": 52
    });
    fs::remove_dir_all(project.file("data/shapes")).unwrap();
    World { parameters: serde_json::from_value(parameters).unwrap() }.write(&project.file("data/shapes")).unwrap();
    let split: serde_json::Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
    let of_base = split["test"].as_array().unwrap().iter().filter(|item| item[1].as_u64().unwrap() < 2);
    let of_base: Vec<&str> = of_base.map(|item| item[0].as_str().unwrap()).collect();
    assert_eq!(of_base.len(), 104);
    for path in &of_base[100..] {
        project.write(&format!("data/shapes/images/{path}"), "no image");
    }
    let run = ["run", PIPELINE, "--only", "zeroshot/shapes/clip/base", "-j", "1"];
    let skip = ["--set", "stage.zeroshot.on_bad_image=skip"];
    project.prints(
        &[&run[..], &skip, &["--no-pixel-cache"]].concat(),
        str![[r#"
<stderr>
        DONE [TIME] (1/4) captioned
        DONE [TIME] (2/4) data/shapes   4 classes, 228 images
        DONE [TIME] (3/4) clip   [NUMBER]
        DONE [TIME] (4/4) zeroshot/shapes/clip/base   [NUMBER], 4 images skipped
4 nodes: 4 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    let predictions = fs::read_to_string(project.artifact("zeroshot/shapes/clip/base", "predictions")).unwrap();
    assert_eq!(predictions.lines().count(), 1 + 100);
}

#[test]
fn an_evaluation_without_any_image_fails() {
    let project = with_bad_images("test", 12);
    let run = ["run", PIPELINE, "--only", "zeroshot/shapes/clip/base", "-j", "1"];
    let skip = ["--set", "stage.zeroshot.on_bad_image=skip"];
    project.prints(
        &[&run[..], &skip].concat(),
        str![[r#"
<stderr>
        DONE [TIME] (1/4) captioned
        DONE [TIME] (2/4) data/shapes   4 classes, 32 images
        DONE [TIME] (3/4) clip   [NUMBER]
      FAILED [TIME] (4/4) zeroshot/shapes/clip/base
error: none of the test images could be decoded
log: [PROJECT]/.maple/logs/tiny/zeroshot/shapes/clip/base.log
4 nodes: 3 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    // Prepared pixels remember what could not be decoded; without them it is tried again.
    for more in [&[][..], &["--no-pixel-cache"]] {
        let printed = project.run(&[&run[..], &skip, more].concat());
        assert!(printed.stderr.contains("error: none of the test images could be decoded"), "{}", printed.stderr);
    }
}
