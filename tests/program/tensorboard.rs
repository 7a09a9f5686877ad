//! Event files for TensorBoard, as TensorBoard would read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use crate::running::{Running, eventually};
use crate::support::{PIPELINE, Project};

/// What is read of TensorFlow's `event.proto` and `summary.proto`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, tag = "3")]
    file_version: String,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

fn checksum(data: &[u8]) -> u32 {
    let sum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(data);
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The events of a file whose checksums all hold.
fn events(bytes: &[u8]) -> Vec<Event> {
    let word = |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
    let (mut place, mut events) = (0, Vec::new());
    while place < bytes.len() {
        let length = u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap()) as usize;
        assert_eq!(word(place + 8), checksum(&bytes[place..place + 8]));
        let data = &bytes[place + 12..place + 12 + length];
        assert_eq!(word(place + 12 + length), checksum(data));
        events.push(Event::decode(data).unwrap());
        place += 16 + length;
    }
    events
}

impl Project {
    /// The folders of a node of the tiny pipeline: one for each of its keys.
    fn curves(&self, node: &str) -> Vec<PathBuf> {
        let folder = self.file(&format!(".maple/tensorboard/tiny/{node}"));
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    }

    /// The event files of a node in the folders whose name holds a text, by name.
    fn event_files(&self, node: &str, text: &str) -> Vec<PathBuf> {
        let folders = self.curves(node).into_iter();
        let folders = folders.filter(|folder| folder.file_name().unwrap().to_str().unwrap().contains(text));
        let mut files: Vec<PathBuf> =
            folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect();
        files.sort();
        files
    }

    /// A node's scalars by tag, as (step, value), after the restarts that the files announce.
    fn scalars(&self, node: &str, text: &str) -> BTreeMap<String, Vec<(i64, f32)>> {
        let mut scalars: BTreeMap<String, Vec<(i64, f32)>> = BTreeMap::new();
        for file in self.event_files(node, text) {
            let events = events(&fs::read(file).unwrap());
            assert_eq!(events[0].file_version, "brain.Event:2");
            assert_eq!(events[1].session_log.as_ref().map(|log| log.status), Some(1));
            let settings = &events[2].summary.as_ref().unwrap().value[0];
            assert_eq!(settings.tag, "_hparams_/session_start_info");
            for event in events {
                assert!(event.wall_time > 1.7e9, "{event:?}");
                if event.session_log.is_some() {
                    scalars.values_mut().for_each(|values| values.retain(|(step, _)| *step < event.step));
                }
                let values = event.summary.unwrap_or_default().value.into_iter();
                for value in values.filter(|value| !value.tag.starts_with("_hparams_")) {
                    scalars.entry(value.tag).or_default().push((event.step, value.simple_value));
                }
            }
        }
        scalars
    }
}

fn steps(values: &[(i64, f32)]) -> Vec<i64> {
    values.iter().map(|(step, _)| *step).collect()
}

#[test]
fn training_and_evaluation_tell_their_scalars() {
    let project = Project::after_a_run();
    let training = project.scalars("train/shapes/maple/seed1", "");
    let tags = ["epoch_loss", "images_per_second", "learning_rate", "loading_wait", "loss"];
    assert_eq!(training.keys().collect::<Vec<_>>(), tags);
    // Four images in batches of two.
    assert_eq!(steps(&training["loss"]), [1, 2]);
    assert_eq!(training["learning_rate"], [(1, 0.01), (2, 0.01)]);
    let [(2, mean)] = training["epoch_loss"][..] else { panic!("{training:?}") };
    let sum: f32 = training["loss"].iter().map(|(_, loss)| loss).sum();
    assert!((mean - sum / 2.0).abs() < 1e-6, "{training:?}");
    let log = fs::read_to_string(project.artifact("train/shapes/maple/seed1", "log")).unwrap();
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["loss"].as_f64().unwrap() as f32, mean);
    assert!(training["images_per_second"][0].1 > 0.0);
    let share = |values: &[(i64, f32)]| values.iter().all(|(_, share)| (0.0..=1.0).contains(share));
    assert!(share(&training["loading_wait"]), "{training:?}");
    assert_eq!(steps(&project.scalars("clip", "")["loss"]), [1]);

    let node = "eval/shapes/coop/seed1/base";
    let metrics = fs::read_to_string(project.artifact(node, "metrics")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let scalars = project.scalars(node, "");
    assert_eq!(scalars.keys().collect::<Vec<_>>(), ["accuracy", "loading_wait", "macro_f1"]);
    assert!(share(&scalars["loading_wait"]), "{scalars:?}");
    for tag in ["accuracy", "macro_f1"] {
        assert_eq!(scalars[tag], [(0, metrics[tag].as_f64().unwrap() as f32)]);
    }
    // Nodes that compute nothing have none.
    assert!(project.curves("data/shapes").is_empty());
}

/// Another value makes another curve, and going back shows the old one: both stay for comparison.
#[test]
fn every_key_has_a_curve_of_its_own() {
    const NODE: &str = "train/shapes/coop/seed1";
    let project = Project::after_a_run();
    let before = (project.curves(NODE), project.scalars(NODE, ""));
    let shots = "stage.shots.shots=1";
    project.ran(&["run", PIPELINE, "--only", NODE, "--set", shots]);
    let curves = project.curves(NODE);
    assert_eq!((before.0.len(), curves.len()), (1, 2), "{curves:?}");
    let key = project.records()[NODE]["key"].as_str().unwrap()[..12].to_owned();
    assert!(curves[1].ends_with(format!("{shots}-{key}")), "{curves:?}");
    project.ran(&["run", PIPELINE]);
    assert_eq!(project.curves(NODE), curves);
    let short = before.0[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(project.scalars(NODE, short), before.1);
    // What it was made with, for the table of TensorBoard's hparams plugin.
    let bytes = fs::read(&project.event_files(NODE, shots)[0]).unwrap();
    for text in ["hparams", "method.training.learning_rate", "dataset", "shapes", "seed"] {
        assert!(bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }
    // `gc` keeps the curves of the results that it keeps.
    project.run(&["gc", PIPELINE, "--keep-runs", "0", "--keep-days", "0"]);
    assert_eq!(project.curves(NODE), before.0);
}

#[test]
fn a_resumed_training_goes_on_in_its_folder() {
    const NODE: &str = "train/shapes/coop/seed1";
    const EPOCHS: &str = "epochs=200";
    let long = ["run", PIPELINE, "--only", NODE, "--set", "stage.train.method.training.epochs=200", "--json"];
    let whole = Project::after_a_run();
    whole.run(&long);
    let files = whole.event_files(NODE, EPOCHS);
    assert_eq!(files.len(), 1, "{files:?}");
    let expected = whole.scalars(NODE, EPOCHS);
    assert_eq!(steps(&expected["loss"]), (1..=400).collect::<Vec<_>>());

    for signal in ["INT", "KILL"] {
        let project = Project::after_a_run();
        let run = Running::start(&project, "run", &long);
        let events = project.file("run.out");
        eventually("an epoch is done", || fs::read_to_string(&events).unwrap().contains("\"progress\""));
        run.signal(signal);
        run.end();
        let part = project.scalars(NODE, EPOCHS)["loss"].len();
        assert!((2..400).contains(&part), "{signal} after {part} steps");
        assert_eq!(project.run(&long).code, Some(0));
        let files = project.event_files(NODE, EPOCHS);
        assert_eq!(files.len(), 2, "{files:?}");
        let resumed = project.scalars(NODE, EPOCHS);
        assert_eq!((&resumed["loss"], &resumed["epoch_loss"]), (&expected["loss"], &expected["epoch_loss"]));
    }
}

/// Three steps where an epoch has two: the second epoch ends with the training.
#[test]
fn a_training_of_so_many_steps_has_a_rate_for_each() {
    const NODE: &str = "train/shapes/coop/seed1";
    let project = Project::after_a_run();
    let options = [
        "epochs=0",
        "iterations=3",
        "annealing=step",
        "learning_rate=0.01",
        "final_learning_rate=0.001",
        "warmup_epochs=0",
    ];
    let set = options.iter().flat_map(|option| ["--set".to_owned(), format!("stage.train.method.training.{option}")]);
    let set: Vec<String> = set.collect();
    let arguments = ["run", PIPELINE, "--only", NODE].into_iter().chain(set.iter().map(String::as_str));
    let before = project.curves(NODE);
    project.ran(&arguments.collect::<Vec<_>>());
    let folder = project.curves(NODE).into_iter().find(|folder| !before.contains(folder)).unwrap();
    let scalars = project.scalars(NODE, folder.file_name().unwrap().to_str().unwrap());
    assert_eq!(steps(&scalars["loss"]), [1, 2, 3]);
    assert_eq!(steps(&scalars["epoch_loss"]), [2, 3]);
    let rates: Vec<f32> = scalars["learning_rate"].iter().map(|(_, rate)| *rate).collect();
    for (found, expected) in rates.iter().zip([0.01, 0.00775, 0.00325]) {
        assert!((found - expected).abs() < 1e-8, "{rates:?}");
    }
}

#[test]
fn a_node_that_cannot_write_events_runs_without_them() {
    let project = Project::after_a_run();
    fs::remove_dir_all(project.file(".maple/tensorboard")).unwrap();
    project.write(".maple/tensorboard", "in the way");
    let node = "train/shapes/coop/seed1";
    let set = "stage.train.method.training.learning_rate=0.02";
    assert_eq!(project.ran(&["run", PIPELINE, "--only", node, "--set", set]).len(), 1);
    let log = project.read(&format!(".maple/logs/tiny/{node}.log"));
    assert!(log.contains("warning: TensorBoard will not show this node: could not create"), "{log}");
}
