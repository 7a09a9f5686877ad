//! Keys follow meaning: the same said otherwise has the same key, any other value has another, and what runs is what a
//! naive model says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use maple_pipe::data::random;
use maple_pipe::device::Devices;
use maple_pipe::digest::Digest;
use maple_pipe::graph::{Content, Source, recipe};
use maple_pipe::run::{self, DeviceChoice, Event, Interrupts, Options, Outcome};
use maple_pipe::store::Store;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use toml::{Table, Value};

use crate::support::{PIPELINE, Project, graph, names};

/// What each node's key is the hash of, with the name of each input in place of its digest: so a value that changes
/// shows in the nodes that read it, and in no other.
fn manifests(project: &Project) -> BTreeMap<String, String> {
    let graph = graph(&project.file(PIPELINE));
    let name = |source: &Source| match source {
        Source::Output(node, output) => format!("{}:{output}", graph.node(*node).name),
        external => format!("{external:?}"),
    };
    let nodes = graph.order().iter().map(|&index| graph.node(index));
    nodes
        .map(|node| {
            let content = |source: &Source| Content { digest: Digest::of(name(source).as_bytes()), key: None };
            let recipe = recipe(node, &|input| Ok(content(&input.source))).unwrap();
            (node.name.clone(), recipe.to_string())
        })
        .collect()
}

/// Writes a table as a person might: keys in any order, headers or inline tables, comments, spaces, and numbers and
/// strings in any notation.
struct Writer {
    random: ChaCha8Rng,
}

impl Writer {
    fn one_in(&mut self, count: usize) -> bool {
        random::below(&mut self.random, count) == 0
    }

    fn shuffled<'t>(&mut self, table: &'t Table) -> Vec<(&'t String, &'t Value)> {
        let entries: Vec<_> = table.iter().collect();
        random::order(&mut self.random, entries.len()).into_iter().map(|place| entries[place]).collect()
    }

    fn file(&mut self, table: &Table) -> String {
        let mut text = String::new();
        self.table(table, "", &mut text);
        text
    }

    /// The entries of a table whose header is written; tables below it that are not written inline come last.
    fn table(&mut self, table: &Table, path: &str, text: &mut String) {
        let mut below = Vec::new();
        for (key, value) in self.shuffled(table) {
            match value {
                Value::Table(table) if path.is_empty() || self.one_in(2) => below.push((key, table)),
                value => {
                    let spaces = " ".repeat(random::below(&mut self.random, 3));
                    let value = self.value(value);
                    let comment = if self.one_in(4) { "  # as published" } else { "" };
                    let _ = writeln!(text, "{}{spaces}={spaces}{value}{comment}", self.key(key));
                }
            }
        }
        for (key, table) in below {
            let path = if path.is_empty() { self.key(key) } else { format!("{path}.{}", self.key(key)) };
            let _ = writeln!(text, "\n[{path}]");
            self.table(table, &path, text);
        }
    }

    fn key(&mut self, key: &str) -> String {
        if self.one_in(4) { format!("\"{key}\"") } else { key.to_owned() }
    }

    fn value(&mut self, value: &Value) -> String {
        match value {
            Value::String(text) if self.one_in(2) => format!("'{text}'"),
            Value::Integer(value) => match random::below(&mut self.random, 4) {
                0 => format!("+{value}"),
                1 => format!("0x{value:X}"),
                2 => format!("0b{value:b}"),
                _ => value.to_string(),
            },
            Value::Float(value) => match random::below(&mut self.random, 4) {
                0 => format!("{value:e}"),
                1 => format!("{value:E}"),
                2 if value.fract() == 0.0 => (*value as i64).to_string(),
                2 => format!("{value:?}000"),
                _ => format!("{value:?}"),
            },
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(|value| self.value(value)).collect();
                if self.one_in(2) {
                    format!("[ {}, ]", values.join(" ,\n    "))
                } else {
                    format!("[{}]", values.join(","))
                }
            }
            Value::Table(table) => {
                let entries: Vec<String> = self
                    .shuffled(table)
                    .into_iter()
                    .map(|(key, value)| format!("{} = {}", self.key(key), self.value(value)))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
            other => other.to_string(),
        }
    }
}

const METHODS: [&str; 3] = ["clip", "coop", "maple"];

fn method_file(method: &str) -> String {
    format!("pipelines/methods/{method}.toml")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_said_otherwise_has_the_same_keys(seed: u64) {
        let project = Project::new();
        let expected = manifests(&project);
        let mut writer = Writer { random: random::generator(seed, "writer", 0, 0) };
        let files = [PIPELINE.to_owned(), "manifests/shapes.toml".to_owned()];
        for file in files.into_iter().chain(METHODS.map(method_file)) {
            let table: Table = toml::from_str(&project.read(&file)).unwrap();
            let text = writer.file(&table);
            project.write(&file, &text);
        }
        prop_assert_eq!(manifests(&project), expected, "{}", project.read(PIPELINE));
    }
}

/// A value that differs; nothing for a text, whose meaning is not known here.
fn another(value: &Value) -> Option<Value> {
    match value {
        // Some sizes must be multiples of others.
        Value::Integer(value) => Some(Value::Integer(value + value.max(&1))),
        Value::Float(value) => Some(Value::Float(value * 0.9)),
        _ => None,
    }
}

/// Every way to change one number in a value, as the path of what changes and the changed whole.
fn changes(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Table(table) => table
            .iter()
            .flat_map(|(key, value)| {
                changes(value).into_iter().map(move |(path, changed)| {
                    let mut table = table.clone();
                    table.insert(key.clone(), changed);
                    (format!("{key}.{path}"), Value::Table(table))
                })
            })
            .collect(),
        Value::Array(values) => (0..values.len())
            .flat_map(|place| {
                changes(&values[place]).into_iter().map(move |(path, changed)| {
                    let mut values = values.clone();
                    values[place] = changed;
                    (format!("{place}.{path}"), Value::Array(values))
                })
            })
            .collect(),
        value => another(value).into_iter().map(|changed| (String::new(), changed)).collect(),
    }
}

/// The nodes whose keys differ, after a file's text has been replaced.
fn changed_by(project: &Project, file: &str, text: &str) -> BTreeSet<String> {
    let before = manifests(project);
    let original = project.read(file);
    project.write(file, text);
    let after = manifests(project);
    project.write(file, &original);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    after.into_iter().filter(|(node, manifest)| before[node] != *manifest).map(|(node, _)| node).collect()
}

#[test]
fn another_number_changes_the_keys_of_the_nodes_that_read_it() {
    let project = Project::new();
    let nodes = manifests(&project).into_keys().collect::<BTreeSet<String>>();
    let mut count = 0;
    let pipeline: Table = toml::from_str(&project.read(PIPELINE)).unwrap();
    for (stage, table) in pipeline["stage"].as_table().unwrap() {
        for (path, changed) in changes(table) {
            let mut pipeline = pipeline.clone();
            pipeline["stage"][stage.as_str()] = changed;
            let expected: BTreeSet<String> =
                nodes.iter().filter(|node| node.split('/').next() == Some(stage)).cloned().collect();
            let changed = changed_by(&project, PIPELINE, &toml::to_string(&pipeline).unwrap());
            assert_eq!(changed, expected, "stage.{stage}.{path}");
            count += 1;
        }
    }
    for method in METHODS {
        let table: Table = toml::from_str(&project.read(&method_file(method))).unwrap();
        for (path, changed) in changes(&Value::Table(table)) {
            let expected = [1, 2].map(|seed| format!("train/shapes/{method}/seed{seed}")).into();
            let changed = changed_by(&project, &method_file(method), &toml::to_string(&changed).unwrap());
            assert_eq!(changed, expected, "{method}: {path}");
            count += 1;
        }
    }
    // captioned 2, clip 9 + 8, shots 1, coop 5, maple 6
    assert_eq!(count, 31);
}

#[test]
fn another_word_changes_the_keys_of_the_nodes_that_read_it() {
    let project = Project::new();
    let training = ["train/shapes/coop/seed1", "train/shapes/coop/seed2"];
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        (PIPELINE, "dataset = \"captioned\"", "dataset = \"textures\"", &["captioned"]),
        (PIPELINE, "classes = \"base\"", "classes = \"all\"", &["shots/shapes/seed1", "shots/shapes/seed2"]),
        (PIPELINE, "Two methods", "Three methods", &["table"]),
        ("pipelines/methods/coop.toml", "learner", "context_initial_words = \"a photo\"\nlearner", &training),
        ("pipelines/methods/coop.toml", "learner", "class_token_position = \"front\"\nlearner", &training),
        ("pipelines/methods/coop.toml", "learning_rate", "optimizer = \"adamw\"\nlearning_rate", &training),
        ("manifests/shapes.toml", "a photo", "a drawing", &["data/shapes"]),
        ("manifests/shapes.toml", "Shapes", "Drawn shapes", &[]),
        ("manifests/shapes.toml", "folder = \"shapes\"", "folder = \"elsewhere\"", &[]),
    ];
    for (file, from, to, expected) in cases {
        let text = project.read(file);
        assert_eq!(text.matches(from).count(), 1, "{from}");
        assert_eq!(changed_by(&project, file, &text.replace(from, to)), names(expected), "{from} -> {to}");
    }
}

#[test]
fn what_a_default_says_may_be_said() {
    let project = Project::new();
    let text = project.read(&method_file("maple"));
    let said = text.replace(
        "[training]",
        "context_initial_words = \"\"\nprecision = \"fp32\"\n\n[training]\nmomentum = 0.9\n\
              optimizer = \"sgd\"\nbetas = [0.9, 0.999]\neps = 1e-8",
    );
    assert_eq!(changed_by(&project, &method_file("maple"), &said), BTreeSet::new());
}

#[test]
fn attributes_are_part_of_a_key_where_they_are_read() {
    let project = Project::new();
    let file = PIPELINE;
    let expected = manifests(&project);
    project.replace(file, "[\"shapes\"]", "[{ name = \"shapes\", file = \"../manifests/shapes.toml\", shots = 2 }]");
    assert_eq!(manifests(&project), expected);
    project.replace(file, "\"../manifests/{dataset}.toml\"", "\"{dataset.file}\"");
    project.replace(file, "shots = 2\nseed", "shots = \"{dataset.shots}\"\nseed");
    assert_eq!(manifests(&project), expected);
    let text = project.read(file);
    let changed = changed_by(&project, file, &text.replace("shots = 2", "shots = 1"));
    assert_eq!(changed, names(&["shots/shapes/seed1", "shots/shapes/seed2"]));
    let changed = changed_by(&project, file, &text.replace("name = \"shapes\"", "label = 1, name = \"shapes\""));
    assert_eq!(changed, BTreeSet::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn commands_have_equal_keys_where_they_say_the_same(one in command(), other in command(), seed: u64) {
        let project = Project::new();
        let mut writer = Writer { random: random::generator(seed, "writer", 0, 0) };
        let mut manifest = |command: &Table| {
            let stage = Table::from_iter([("x".to_owned(), Value::Table(command.clone()))]);
            project.write(PIPELINE, &writer.file(&Table::from_iter([("stage".to_owned(), Value::Table(stage))])));
            manifests(&project)
        };
        let (first, second) = (manifest(&one), manifest(&other));
        prop_assert_eq!(&manifest(&one), &first);
        prop_assert_eq!(first == second, one == other, "{:?}\n{:?}", one, other);
    }
}

/// A `command` stage, one of a few hundred.
fn command() -> impl Strategy<Value = Table> {
    let words = prop::collection::vec(prop::sample::select(vec!["a", "b", "a b"]), 1..3);
    let run = prop_oneof![
        words.prop_map(|words| Value::Array(words.into_iter().map(Value::from).collect())),
        prop::sample::select(vec!["a", "a b"]).prop_map(Value::from),
    ];
    let outputs = prop::sample::select(vec![("o", "x"), ("o", "x/"), ("p", "x")]);
    let parameters = prop::sample::select(vec![Value::from(1), Value::from(1.5), Value::from("1"), Value::from(true)]);
    let table = |(key, value): (&str, Value)| Value::Table(Table::from_iter([(key.to_owned(), value)]));
    let environment = prop::option::of(prop::sample::select(vec![("A", "1"), ("A", "2"), ("B", "1")]));
    let inputs = prop::option::of(prop::sample::select(vec![("i", "tiny.toml"), ("j", "tiny.toml"), ("i", "methods")]));
    (run, outputs, parameters, environment, inputs).prop_map(move |(run, outputs, parameter, environment, inputs)| {
        let pair = |(key, value): (&'static str, &str)| (key, Value::from(value));
        let mut command = Table::from_iter([
            ("kind".to_owned(), Value::from("command")),
            ("run".to_owned(), run),
            ("outputs".to_owned(), table(pair(outputs))),
            ("parameters".to_owned(), table(("p", parameter))),
        ]);
        for (key, value) in [("environment", environment), ("inputs", inputs)] {
            command.extend(value.map(|value| (key.to_owned(), table(pair(value)))));
        }
        command
    })
}

/// A small pipeline of nodes that run in this process; every field is a choice.
#[derive(Clone, Debug)]
struct Model {
    /// The seed of each drawn data set.
    worlds: [u64; 2],
    /// Which of those, and which template.
    datasets: [(usize, usize); 3],
    /// Which data set, how many shots, and which seed.
    samples: [(usize, usize, u64); 4],
}

/// What decides a node's result, by the model.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum ModelKey {
    World(u64),
    Dataset(u64, usize),
    /// The template is no part: a sample does not read it.
    Sample(u64, usize, u64),
}

impl Model {
    fn text(&self) -> String {
        let mut text = String::new();
        for (place, seed) in self.worlds.iter().enumerate() {
            let _ = writeln!(
                text,
                "[stage.w{place}]\nkind = \"world\"\ndataset = \"shapes\"\nseed = {seed}\nsize = 16\nclasses = 2\n\
                 train = 3\nval = 1\ntest = 1\n"
            );
        }
        for (place, (world, template)) in self.datasets.iter().enumerate() {
            let _ = writeln!(
                text,
                "[stage.d{place}]\nkind = \"dataset\"\nroot = \"@w{world}\"\nmanifest = {{ name = \"{place}\", \
                 folder = \"f\", images = \"images\", template = \"{template} {{}}\", \
                 reader = {{ kind = \"split-json\", file = \"split.json\" }} }}\n"
            );
        }
        for (place, (dataset, shots, seed)) in self.samples.iter().enumerate() {
            let _ = writeln!(
                text,
                "[stage.s{place}]\nkind = \"fewshot\"\ndataset = \"@d{dataset}\"\nshots = {shots}\nseed = {seed}\n"
            );
        }
        text
    }

    fn key(&self, node: &str) -> ModelKey {
        let place: usize = node[1..].parse().unwrap();
        let world = |dataset: usize| self.worlds[self.datasets[dataset].0];
        match &node[..1] {
            "w" => ModelKey::World(self.worlds[place]),
            "d" => ModelKey::Dataset(world(place), self.datasets[place].1),
            _ => {
                let (dataset, shots, seed) = self.samples[place];
                ModelKey::Sample(world(dataset), shots, seed)
            }
        }
    }

    /// Another choice for one of the fields.
    fn edit(&mut self, field: usize, choice: usize) {
        match field {
            0..2 => self.worlds[field] = choice as u64 % 2,
            2..5 => self.datasets[field - 2] = (choice % 2, choice / 2 % 2),
            _ => self.samples[field - 5] = (choice % 3, 1 + choice / 3 % 2, (choice / 6) as u64 % 2),
        }
    }
}

/// What one run did: the nodes that it executed in order, and every node's output digests.
fn execute(pipeline: &Path, store: &Store, jobs: usize) -> (Vec<String>, BTreeMap<String, Vec<Digest>>) {
    let graph = graph(pipeline);
    let devices = DeviceChoice::new(Some(Devices::parse("cpu", jobs).unwrap()), jobs);
    let options = Options { pixel_cache: false, ..Options::new(jobs, 1, devices) };
    let interrupts = Interrupts::default();
    let mut done = Vec::new();
    let mut report = |event: &Event<'_>| {
        if let Event::Settled { node, outcome: Outcome::Done { .. }, .. } = event {
            done.push((*node).to_owned());
        }
    };
    let wanted = run::Wanted { nodes: graph.order(), results: &[] };
    let (_, records) = run::run(&graph, wanted, store, "model", &options, &interrupts, &mut report);
    assert_eq!(records.len(), graph.order().len());
    let digests = records.into_iter().map(|(index, record)| {
        let digests = record.outputs.values().map(|artifact| artifact.digest).collect();
        (graph.node(index).name.clone(), digests)
    });
    (done, digests.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_a_naive_model_calls_stale_runs(
        edits in prop::collection::vec((0..9usize, 0..12usize, 1..4usize, prop::option::of(0..9usize)), 1..8)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("model.toml");
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut model = Model { worlds: [0, 1], datasets: [(0, 0), (1, 0), (0, 1)], samples: [(0, 1, 0), (1, 1, 0), (2, 2, 1), (2, 1, 1)] };
        let mut known: BTreeMap<ModelKey, Vec<Digest>> = BTreeMap::new();
        let mut fresh: BTreeSet<ModelKey> = BTreeSet::new();
        for (field, choice, jobs, forgotten) in edits {
            model.edit(field, choice);
            std::fs::write(&pipeline, model.text()).unwrap();
            let (done, digests) = execute(&pipeline, &store, jobs);
            let ran: Vec<ModelKey> = done.iter().map(|node| model.key(node)).collect();
            let stale: BTreeSet<ModelKey> = digests.keys().map(|node| model.key(node)).filter(|key| !fresh.contains(key)).collect();
            prop_assert_eq!(ran.len(), stale.len(), "a key ran twice: {:?}", done);
            prop_assert_eq!(&ran.into_iter().collect::<BTreeSet<_>>(), &stale);
            fresh.extend(stale);
            for (node, digests) in &digests {
                let known = known.entry(model.key(node)).or_insert_with(|| digests.clone());
                prop_assert_eq!(known, digests, "{}", node);
            }
            // Now and then a record is lost.
            if let Some(place) = forgotten {
                let node = digests.keys().nth(place).unwrap();
                let key = store.last_keys("model")[node].to_string();
                std::fs::remove_file(folder.path().join(format!("store/records/{}/{key}.json", &key[..2]))).unwrap();
                fresh.remove(&model.key(node));
            }
        }
    }
}
