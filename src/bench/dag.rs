//! A DAG of trivial commands in the shape of a table of prompt learning: data sets, few-shot samples, trainings,
//! evaluations on two subsets of the classes, one table. Every node copies its inputs into its output.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::peers::Kind;
use crate::error::{Error, Result};

/// The pipeline's file in the folder.
pub(super) const PIPELINE: &str = "dag.toml";

const STORE: &str = ".maple";
const METRICS: &str = "metrics.list";
const DATASETS: usize = 11;
const METHODS: usize = 7;
const CLASSES: [&str; 2] = ["base", "novel"];

pub(super) struct Dag<'a> {
    folder: &'a Path,
    seeds: usize,
    files: usize,
}

impl<'a> Dag<'a> {
    /// In an empty folder, with about so many nodes: 738 of them have three seeds.
    pub fn new(folder: &'a Path, nodes: usize, files: usize) -> Dag<'a> {
        let mut dag = Dag { folder, seeds: 1, files };
        dag.seeds = nodes.saturating_sub(1 + DATASETS).div_ceil(dag.nodes_of_a_seed() - 1).max(1);
        dag
    }

    pub fn nodes(&self) -> usize {
        DATASETS + self.seeds * (self.nodes_of_a_seed() - 1) + 1
    }

    /// Samples, trainings, evaluations, and the table.
    pub fn nodes_of_a_seed(&self) -> usize {
        DATASETS * (1 + METHODS * (1 + CLASSES.len())) + 1
    }

    /// Writes inputs and descriptions of the DAG, for this program and for others.
    pub fn write(&self, peers: &[Kind]) -> Result<()> {
        for file in 0..self.files.max(DATASETS) {
            self.file(&format!("data/d{}/{}", file % DATASETS, file / DATASETS), &format!("{file}\n"))?;
        }
        for method in 0..METHODS {
            self.file(&format!("methods/m{method}.toml"), &format!("method = {method}\n"))?;
        }
        for seed in 0..self.seeds {
            self.write_seed(seed, 0)?;
        }
        for classes in CLASSES {
            self.file(&format!("classes/{classes}.toml"), &format!("classes = \"{classes}\"\n"))?;
        }
        let metrics = (0..self.seeds).flat_map(|seed| self.metrics(seed));
        self.file(METRICS, &metrics.map(|file| format!("out/{file}\n")).collect::<String>())?;
        self.file(PIPELINE, &self.pipeline())?;
        peers.iter().try_for_each(|kind| match kind {
            Kind::Ninja => self.file("build.ninja", &self.ninja()),
            Kind::Snakemake => self.file("Snakefile", &self.snakefile()),
            Kind::Dvc => self.file("dvc.yaml", &self.dvc()),
        })
    }

    /// Puts away what all programs have made, so that they start from nothing. Removing it would hold up what follows:
    /// ext4 looks at every inode that was freed within a minute before it takes a new one.
    pub fn forget(&self, time: usize) -> Result<()> {
        let away = self.folder.join(format!("before-{time}"));
        fs::create_dir(&away).map_err(Error::io("create", &away))?;
        let peers = Kind::ALL.into_iter().flat_map(|kind| kind.made().iter().copied().chain([kind.output()]));
        for made in peers.chain([STORE]) {
            let path = self.folder.join(made);
            if path.exists() {
                fs::rename(&path, away.join(made)).map_err(Error::io("move", &path))?;
            }
        }
        let store = self.folder.join(STORE);
        fs::create_dir(&store).map_err(Error::io("create", &store))
    }

    /// Another value of a parameter of the last seed's samples.
    pub fn change_a_seed(&self, value: usize) -> Result<()> {
        self.write_seed(self.seeds - 1, value)
    }

    fn write_seed(&self, seed: usize, value: usize) -> Result<()> {
        self.file(&format!("seeds/{seed}.toml"), &format!("seed = {seed}\nvalue = {value}\n"))
    }

    fn pipeline(&self) -> String {
        let list = |count: usize, name: &str| {
            (0..count).map(|number| format!("\"{name}{number}\"")).collect::<Vec<_>>().join(", ")
        };
        let seeds = (0..self.seeds).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ");
        format!(
            r#"[axes]
dataset = [{}]
method = [{}]
seed = [{seeds}]
classes = ["base", "novel"]

[stage.data]
kind = "command"
axes = ["dataset"]
run = "cp inputs/files/0 data"
inputs = {{ files = "data/{{dataset}}" }}
outputs = {{ data = "data" }}

[stage.shots]
kind = "command"
axes = ["dataset", "seed"]
run = "cat inputs/data parameters.json > shots"
inputs = {{ data = "@data.data" }}
outputs = {{ shots = "shots" }}
parameters = "seeds/{{seed}}.toml"

[stage.train]
kind = "command"
axes = ["dataset", "method", "seed"]
run = "cat inputs/shots parameters.json > model"
inputs = {{ shots = "@shots.shots" }}
outputs = {{ model = "model" }}
parameters = "methods/{{method}}.toml"

[stage.eval]
kind = "command"
axes = ["dataset", "method", "seed", "classes"]
run = "cat inputs/model parameters.json > metrics"
inputs = {{ model = "@train.model" }}
outputs = {{ metrics = "metrics" }}
parameters = "classes/{{classes}}.toml"

[stage.table]
kind = "command"
run = "find -L inputs -type f -exec cat {{}} + > table"
inputs = {{ evals = "@eval.metrics" }}
outputs = {{ table = "table" }}
"#,
            list(DATASETS, "d"),
            list(METHODS, "m")
        )
    }

    fn ninja(&self) -> String {
        let mut text = format!(
            "rule copy\n  command = cp $from $out\n\
             rule join\n  command = cat $in > $out\n\
             rule collect\n  command = xargs cat < {METRICS} > $out\n"
        );
        for dataset in 0..DATASETS {
            let files = (0..self.files.max(DATASETS)).filter(|file| file % DATASETS == dataset);
            let files: String = files.map(|file| format!(" data/d{dataset}/{}", file / DATASETS)).collect();
            let _ = writeln!(text, "build files-d{dataset}: phony{files}");
            let _ = writeln!(text, "build out/d{dataset}/data: copy | files-d{dataset}\n  from = data/d{dataset}/0");
        }
        let mut metrics = String::new();
        for seed in 0..self.seeds {
            for join in self.joins(seed, Kind::Ninja).iter().flatten() {
                let _ = writeln!(text, "build out/{}: join {}", join.output, join.inputs.join(" "));
            }
            metrics.extend(self.metrics(seed).map(|file| format!(" out/{file}")));
        }
        let _ = writeln!(text, "build out/table: collect |{metrics}");
        text
    }

    /// A rule per stage, as one would write it by hand.
    fn snakefile(&self) -> String {
        let out = Kind::Snakemake.output();
        format!(
            r#"FILES = [f"data/d{{file % {DATASETS}}}/{{file // {DATASETS}}}" for file in range({files})]
DATASETS = [f"d{{number}}" for number in range({DATASETS})]
METHODS = [f"m{{number}}" for number in range({METHODS})]
SEEDS = range({seeds})
CLASSES = ["base", "novel"]

rule table:
    input: expand("{out}/{{dataset}}/{{seed}}/{{method}}/{{classes}}", dataset=DATASETS, seed=SEEDS, method=METHODS, classes=CLASSES)
    output: "{out}/table"
    shell: "find {out} -mindepth 4 -name base -o -mindepth 4 -name novel | xargs cat > {{output}}"

rule data:
    input: lambda wildcards: [file for file in FILES if file.startswith(f"data/{{wildcards.dataset}}/")]
    output: "{out}/{{dataset}}/data"
    shell: "cp data/{{wildcards.dataset}}/0 {{output}}"

rule shots:
    input: "{out}/{{dataset}}/data", "seeds/{{seed}}.toml"
    output: "{out}/{{dataset}}/{{seed}}/shots"
    shell: "cat {{input}} > {{output}}"

rule train:
    input: "{out}/{{dataset}}/{{seed}}/shots", "methods/{{method}}.toml"
    output: "{out}/{{dataset}}/{{seed}}/{{method}}/model"
    shell: "cat {{input}} > {{output}}"

rule eval:
    input: "{out}/{{dataset}}/{{seed}}/{{method}}/model", "classes/{{classes}}.toml"
    output: "{out}/{{dataset}}/{{seed}}/{{method}}/{{classes,base|novel}}"
    shell: "cat {{input}} > {{output}}"
"#,
            files = self.files.max(DATASETS),
            seeds = self.seeds,
        )
    }

    fn dvc(&self) -> String {
        let out = Kind::Dvc.output();
        let mut text = "stages:\n".to_owned();
        let mut stage = |output: &str, command: &str, needed: &[String]| {
            let (name, folder) = (output.replace('/', "-"), Path::new(output).parent().unwrap_or(Path::new("")));
            let command = format!("mkdir -p {out}/{} && {command} > {out}/{output}", folder.display());
            let _ = write!(text, "  {name}:\n    cmd: '{command}'\n    deps:\n");
            needed.iter().for_each(|file| text += &format!("    - {file}\n"));
            let _ = write!(text, "    outs:\n    - {out}/{output}\n");
        };
        for dataset in 0..DATASETS {
            let folder = format!("data/d{dataset}");
            stage(&format!("d{dataset}/data"), &format!("cat {folder}/0"), &[folder]);
        }
        let mut metrics = Vec::new();
        for seed in 0..self.seeds {
            for join in self.joins(seed, Kind::Dvc).iter().flatten() {
                stage(&join.output, &format!("cat {}", join.inputs.join(" ")), &join.inputs);
            }
            metrics.extend(self.metrics(seed).map(|file| format!("{out}/{file}")));
        }
        stage("table", &format!("sed s:^:{out}/: {METRICS} | xargs cat"), &metrics);
        text
    }

    /// What the nodes of a seed do: samples, then trainings, then evaluations.
    fn joins(&self, seed: usize, kind: Kind) -> [Vec<Join>; 3] {
        let out = kind.output();
        let mut joins = [Vec::new(), Vec::new(), Vec::new()];
        for dataset in 0..DATASETS {
            let shots = format!("d{dataset}/{seed}/shots");
            joins[0].push(Join::new(&shots, [format!("{out}/d{dataset}/data"), format!("seeds/{seed}.toml")]));
            for method in 0..METHODS {
                let model = format!("d{dataset}/{seed}/m{method}/model");
                joins[1].push(Join::new(&model, [format!("{out}/{shots}"), format!("methods/m{method}.toml")]));
                for classes in CLASSES {
                    let metrics = format!("d{dataset}/{seed}/m{method}/{classes}");
                    joins[2].push(Join::new(&metrics, [format!("{out}/{model}"), format!("classes/{classes}.toml")]));
                }
            }
        }
        joins
    }

    fn metrics(&self, seed: usize) -> impl Iterator<Item = String> {
        let [_, _, evaluations] = self.joins(seed, Kind::Ninja);
        evaluations.into_iter().map(|join| join.output)
    }

    /// The shell commands of the last seed's nodes, as ninja runs them; each list needs the one before.
    pub fn commands_of_a_seed(&self) -> Vec<Vec<String>> {
        let command = |join: &Join| format!("cat {} > out/{}", join.inputs.join(" "), join.output);
        let joins = self.joins(self.seeds - 1, Kind::Ninja);
        let table = vec![format!("xargs cat < {METRICS} > out/table")];
        joins.iter().map(|list| list.iter().map(command).collect()).chain([table]).collect()
    }

    fn file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::write(&path, text).map_err(Error::io("write", &path))
    }
}

/// A node that joins files.
struct Join {
    /// Below the folder of outputs.
    output: String,
    inputs: [String; 2],
}

impl Join {
    fn new(output: &str, inputs: [String; 2]) -> Join {
        Join { output: output.to_owned(), inputs }
    }
}
