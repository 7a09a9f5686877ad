//! Whatever is damaged, the next run ends with the same artifacts.

use std::collections::BTreeSet;
use std::fs;

use maple_pipe::data::random;

use crate::support::{PIPELINE, Project, names};

#[test]
fn a_damaged_record_reruns_its_node() {
    let project = Project::after_a_run();
    let expected = project.digests();
    let records = project.records();
    let node = "shots/shapes/seed1";
    let key = records[node]["key"].as_str().unwrap();
    let file = project.record_file(key);
    let whole = fs::read_to_string(&file).unwrap();
    let digest = &expected["shots/shapes/seed1:train"];
    let flipped = |text: &str| {
        let other = if text.ends_with('0') { '1' } else { '0' };
        whole.replace(text, &format!("{}{other}", &text[..text.len() - 1]))
    };
    let shots = whole.replace("\"shots\":2", "\"shots\":3");
    assert_ne!(shots, whole);
    for damaged in [String::new(), whole[..whole.len() / 2].to_owned(), flipped(digest), flipped(key), shots] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[node]));
        assert_eq!(project.digests(), expected);
        assert_eq!(project.ran(&["run", PIPELINE]), BTreeSet::new());
    }
}

#[test]
fn any_damage_to_a_record_is_survived() {
    let project = Project::after_a_run();
    let expected = project.digests();
    let key = project.records()["data/shapes"]["key"].as_str().unwrap().to_owned();
    let file = project.record_file(&key);
    let whole = fs::read(&file).unwrap();
    let mut random = random::generator(1, "damage", 0, 0);
    for _ in 0..50 {
        let mut damaged = whole.clone();
        damaged[random::below(&mut random, whole.len())] ^= 1 << random::below(&mut random, 8);
        fs::write(&file, &damaged).unwrap();
        let ran = project.ran(&["run", PIPELINE, "--only", "shots/*"]);
        assert_eq!(ran, names(&["data/shapes"]));
        assert_eq!(project.digests(), expected);
    }
}

#[test]
fn a_truncated_artifact_reruns_its_node() {
    let project = Project::after_a_run();
    let expected = project.digests();
    for (node, output) in [("data/shapes", "test-novel"), ("clip", "weights"), ("table", "csv")] {
        let file = project.artifact(node, output);
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[node]));
        assert_eq!(project.digests(), expected);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}
