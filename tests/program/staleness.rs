//! A change reruns exactly what depends on it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use maple_pipe::download::sha256;
use serde_json::Value;

use crate::support::{PIPELINE, Project, damage, names};

/// Runs the pipeline. What ran must be `expected`, and the table as well if evaluations are in it, since it names their keys.
#[track_caller]
fn reruns(project: &Project, expected: &[&str]) {
    let mut expected = names(expected);
    if expected.iter().any(|node| node.starts_with("eval/") || node.starts_with("zeroshot/")) {
        expected.insert("table".to_owned());
    }
    assert_eq!(project.ran(&["run", PIPELINE]), expected);
}

/// Nothing runs, and all is as it was.
#[track_caller]
fn reruns_nothing(project: &Project) {
    assert_eq!(project.ran(&["run", PIPELINE]), BTreeSet::new());
}

/// The images in one output of the data set or of a sample, as paths in `data/shapes`.
fn images(project: &Project, node: &str, output: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(project.artifact(node, output)).unwrap();
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    list.iter().map(|item| format!("data/shapes/{}", item["path"].as_str().unwrap())).collect()
}

/// Draws something else in an image's place.
fn redraw(project: &Project, path: &str) {
    let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, 200]));
    picture.save(project.file(path)).unwrap();
}

const SEED_2: [&str; 7] = [
    "shots/shapes/seed2",
    "train/shapes/coop/seed2",
    "train/shapes/maple/seed2",
    "eval/shapes/coop/seed2/base",
    "eval/shapes/coop/seed2/novel",
    "eval/shapes/maple/seed2/base",
    "eval/shapes/maple/seed2/novel",
];

#[test]
fn another_seed_runs_what_has_that_seed() {
    let project = Project::after_a_run();
    project.replace(PIPELINE, "seed = [1, 2]", "seed = [1, 3]");
    let mut expected = SEED_2.map(|name| name.replace("seed2", "seed3")).to_vec();
    expected.push("table".to_owned());
    assert_eq!(project.ran(&["run", PIPELINE]), expected.into_iter().collect());
    project.replace(PIPELINE, "seed = [1, 3]", "seed = [1, 2]");
    reruns_nothing(&project);
}

#[test]
fn another_number_of_shots_reruns_samples_and_what_learns_from_them() {
    let project = Project::after_a_run();
    project.replace(PIPELINE, "shots = 2", "shots = 3");
    let seed_1 = SEED_2.map(|name| name.replace("seed2", "seed1"));
    reruns(&project, &seed_1.each_ref().map(String::as_str).into_iter().chain(SEED_2).collect::<Vec<_>>());
    project.replace(PIPELINE, "shots = 3", "shots = 2");
    reruns_nothing(&project);
}

#[test]
fn a_learning_rate_reruns_its_method_alone() {
    let project = Project::after_a_run();
    project.replace("pipelines/methods/maple.toml", "learning_rate = 0.01", "learning_rate = 0.02");
    let expected = [
        "train/shapes/maple/seed1",
        "train/shapes/maple/seed2",
        "eval/shapes/maple/seed1/base",
        "eval/shapes/maple/seed1/novel",
        "eval/shapes/maple/seed2/base",
        "eval/shapes/maple/seed2/novel",
    ];
    reruns(&project, &expected);
    project.replace("pipelines/methods/maple.toml", "learning_rate = 0.02", "learning_rate = 1e-2");
    reruns_nothing(&project);
}

#[test]
fn writing_the_same_otherwise_reruns_nothing() {
    let project = Project::after_a_run();
    let training = "[training]\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.01\nwarmup_epochs = 0\n";
    let inline =
        "\n# As in the paper.\ntraining = { warmup_epochs=0, learning_rate = 1.0e-2, batch_size = 0x2, epochs = 1 }\n";
    project.replace("pipelines/methods/maple.toml", training, inline);
    project.replace("pipelines/methods/coop.toml", "context_length = 2", "context_length   =  +2 # tokens");
    project.replace(PIPELINE, "learning_rate = 1e-3", "learning_rate = 0.001");
    project.replace(PIPELINE, "shots = 2\nseed = \"{seed}\"", "seed = '{seed}'\nshots = 2");
    project.replace("manifests/shapes.toml", "name = \"Shapes\"", "name = \"Drawn shapes\"");
    let inputs = "shots = \"@shots\"\nweights = \"@clip\"\n";
    project.replace(PIPELINE, inputs, "include = \"shared/train.toml\"\n");
    project.write("pipelines/shared/train.toml", inputs);
    reruns_nothing(&project);
}

#[test]
fn a_training_image_outside_the_samples_reruns_no_training() {
    let project = Project::after_a_run();
    let sampled = &images(&project, "shots/shapes/seed1", "train") | &images(&project, "shots/shapes/seed2", "train");
    let all = images(&project, "data/shapes", "train");
    redraw(&project, all.difference(&sampled).next().unwrap());
    reruns(&project, &["data/shapes", "shots/shapes/seed1", "shots/shapes/seed2"]);
}

#[test]
fn a_training_image_reruns_what_learned_from_it() {
    let project = Project::after_a_run();
    let sampled = images(&project, "shots/shapes/seed2", "train");
    let elsewhere = images(&project, "shots/shapes/seed1", "train");
    redraw(&project, sampled.difference(&elsewhere).next().unwrap());
    reruns(&project, &[&["data/shapes", "shots/shapes/seed1"][..], &SEED_2].concat());
}

#[test]
fn a_test_image_of_a_novel_class_reruns_novel_evaluations() {
    let project = Project::after_a_run();
    redraw(&project, images(&project, "data/shapes", "test-novel").first().unwrap());
    let expected = [
        "data/shapes",
        "zeroshot/shapes/clip/novel",
        "eval/shapes/coop/seed1/novel",
        "eval/shapes/coop/seed2/novel",
        "eval/shapes/maple/seed1/novel",
        "eval/shapes/maple/seed2/novel",
    ];
    reruns(&project, &expected);
}

#[test]
fn an_image_that_the_split_does_not_name_changes_no_index() {
    let project = Project::after_a_run();
    redraw(&project, "data/shapes/images/unused.png");
    reruns(&project, &["data/shapes"]);
    project.write("data/shapes/readme.txt", "Neither images nor split: not read.");
    reruns_nothing(&project);
}

#[test]
fn times_folder_jobs_and_threads_rerun_nothing() {
    // This project is itself a copy of the one that ran, in another folder.
    let project = Project::after_a_run();
    reruns_nothing(&project);
    for image in images(&project, "data/shapes", "train") {
        let file = fs::File::options().write(true).open(project.file(&image)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1_000_000)).unwrap();
    }
    fs::rename(project.file("data"), project.file("pictures")).unwrap();
    project.replace(PIPELINE, "../data/", "../pictures/");
    assert_eq!(project.ran(&["run", PIPELINE, "-j", "3", "--threads", "2"]), BTreeSet::new());
}

#[test]
fn the_caption_reruns_the_table_alone() {
    let project = Project::after_a_run();
    project.replace(PIPELINE, "Two methods on drawn shapes.", "Three methods on drawn shapes.");
    assert_eq!(project.ran(&["run", PIPELINE]), names(&["table"]));
    assert!(project.read("results/tiny/table.md").starts_with("Three methods on drawn shapes.\n"));
    project.replace(PIPELINE, "Three methods on drawn shapes.", "Two methods on drawn shapes.");
    reruns_nothing(&project);
    assert!(project.read("results/tiny/table.md").starts_with("Two methods on drawn shapes.\n"));
}

#[test]
fn the_template_reruns_zero_shot_evaluations_alone() {
    let project = Project::after_a_run();
    project.replace("manifests/shapes.toml", "a photo of a {}.", "a drawing of a {}.");
    reruns(&project, &["data/shapes", "zeroshot/shapes/clip/base", "zeroshot/shapes/clip/novel"]);
}

/// A check that decides whether a node succeeds is made whatever the store holds, and renews nothing below the node.
#[test]
fn what_a_manifest_asserts_is_checked_again() {
    const MANIFEST: &str = "manifests/shapes.toml";
    let project = Project::after_a_run();
    let plain = project.read(MANIFEST);
    let sha256 = sha256(&project.file("data/shapes/split.json")).unwrap();
    let zeros = "0".repeat(64);
    let counts = |text: &str| format!("{plain}\n[counts]\n{text}\n");
    for (right, wrong, says) in [
        (counts("classes = 4"), counts("classes = 5"), "has 4 classes, not 5"),
        (counts("train = 16"), counts("train = 15"), "has 16 training images, not 15"),
        (counts("val = 4"), counts("val = 3"), "has 4 validation images, not 3"),
        (counts("test = 12"), counts("test = 999"), "has 12 test images, not 999"),
        (counts("test_per_class = 3"), counts("test_per_class = 4"), "has not 4 test images of each class"),
        (format!("{plain}sha256 = '{sha256}'"), format!("{plain}sha256 = '{zeros}'"), "is not the published file"),
    ] {
        project.write(MANIFEST, &wrong);
        let printed = project.run(&["run", PIPELINE]);
        assert!(printed.code == Some(1) && printed.stderr.contains(says), "{says}: {}", printed.stderr);
        project.write(MANIFEST, &right);
        reruns(&project, &["data/shapes"]);
        reruns_nothing(&project);
    }
    let prose = "licence = 'any'\nnotes = ['Drawn.']\n";
    let source = "\n[[source]]\nfile = 'shapes.zip'\nurl = 'http://127.0.0.1/shapes.zip'\n";
    project.write(MANIFEST, &format!("{prose}{plain}{source}"));
    reruns_nothing(&project);
}

#[test]
fn a_lost_artifact_reruns_its_node_alone() {
    let project = Project::after_a_run();
    for (node, output) in [
        ("data/shapes", "train"),
        ("shots/shapes/seed1", "train"),
        ("train/shapes/maple/seed1", "prompt"),
        ("table", "latex"),
    ] {
        let digests = project.digests();
        fs::remove_file(project.artifact(node, output)).unwrap();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[node]));
        assert_eq!(project.digests(), digests);
    }
}

/// Records are read from copies in one file. What has happened to the records since decides.
#[test]
fn a_record_that_is_gone_or_damaged_is_missed_where_there_is_a_copy_of_it() {
    let project = Project::after_a_run();
    let state: Value = serde_json::from_str(&project.read(".maple/state/tiny.json")).unwrap();
    let record = |node: &str| project.record_file(state[node].as_str().unwrap());
    let pack = project.file(".maple/packs/tiny");
    // What has just been written may change again unseen.
    std::thread::sleep(Duration::from_millis(2100));
    reruns_nothing(&project);
    let packed = fs::read_to_string(&pack).unwrap();
    let (gone, damaged) = ("eval/shapes/coop/seed2/base", "eval/shapes/maple/seed1/novel");
    for node in [gone, damaged] {
        assert!(packed.contains(&fs::read_to_string(record(node)).unwrap()));
    }
    reruns_nothing(&project);
    fs::remove_file(record(gone)).unwrap();
    damage(&record(damaged));
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[gone, damaged]));
    reruns_nothing(&project);
    // A pack that is damaged in any way is as good as none.
    for damaged in ["", "\n", "{\"key\":\"a\u{e9}", "{\"key\":\"\u{20ac}", &packed.replace('a', "\u{20ac}")] {
        fs::write(&pack, damaged).unwrap();
        reruns_nothing(&project);
    }
    // Copies of what is removed go, too.
    project.replace(PIPELINE, "seed = [1, 2]", "seed = [1]");
    assert_eq!(project.ran(&["run", PIPELINE]), names(&["table"]));
    assert_eq!(project.run(&["gc", "--keep-runs", "0"]).code, Some(0));
    assert!(!pack.exists());
    reruns_nothing(&project);
}
