//! The DAG of nodes that a pipeline expands to, their keys, and the plan: which nodes are stale and why.

mod build;
mod change;
mod explain;
mod group;
mod key;
mod load;
mod origin;
pub mod picture;
mod plan;
mod standing;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

pub use change::{Change, changes};
pub use explain::{Explainer, Explanation, FEW};
pub use group::{Group, group};
pub use key::{Content, recipe};
pub use load::Load;
pub use origin::{kinds, mixed};
pub use plan::{Elsewhere, Inspector, Plan, Records, State, Wait};
pub use standing::{Counts, Standing};

use crate::coordinates::Coordinates;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::kind::Work;
use crate::store::{ArtifactKind, CanonicalJson, Output};
use crate::text::did_you_mean;

/// The nodes of a pipeline; edges lead from what is needed to what needs it.
#[derive(Debug)]
pub struct Graph {
    dag: DiGraph<Node, ()>,
    /// Every node after all it needs.
    order: Vec<NodeIndex>,
    /// What nodes need from outside and is not there, each once.
    absences: Vec<Absence>,
}

/// One unit of work.
#[derive(Debug)]
pub struct Node {
    /// `stage/value/value`, e.g. `train/eurosat/maple/seed1`.
    pub name: String,
    /// The stage in the pipeline file.
    pub stage_name: String,
    /// The axis values.
    pub coordinates: Arc<Coordinates>,
    /// What it does.
    pub work: Arc<dyn Work>,
    /// The parameters of its work, as its key has them.
    pub parameters: Arc<CanonicalJson>,
    /// What it reads.
    pub inputs: Vec<Input>,
}

impl Node {
    /// The node from which the input of a port comes; the first one of several.
    pub fn source(&self, port: &str) -> Option<NodeIndex> {
        let inputs = self.inputs.iter().filter(|input| input.is_of(port));
        inputs.filter_map(|input| if let Source::Output(index, _) = input.source { Some(index) } else { None }).next()
    }

    /// Something that it needs from outside is not there.
    pub fn lacks_something(&self) -> bool {
        self.inputs.iter().any(Input::is_absent)
    }

    /// What an output is called among those of other nodes, in `results/` and where many are collected: the node's name
    /// with the output's extension, e.g. `table/eurosat.csv`; also with its name, where the extension does not tell.
    pub fn file_name(&self, output: &Output) -> String {
        let extension = |output: &Output| match (output.kind, Path::new(&*output.path).extension()) {
            (ArtifactKind::File, Some(extension)) => format!(".{}", extension.to_string_lossy()),
            _ => String::new(),
        };
        let own = extension(output);
        let alike = self.work.outputs().iter().filter(|other| extension(other) == own).count();
        let name = if alike > 1 { format!(".{}", output.name) } else { String::new() };
        format!("{}{name}{own}", self.name)
    }
}

/// One thing that a node reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// `port.output`, e.g. `shots.train`.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Part of the key. A location is not: the images in it enter by their digests in an index.
    pub keyed: bool,
    /// One of several of this name.
    pub many: bool,
    /// The axis values of the node it comes from.
    pub coordinates: Arc<Coordinates>,
}

/// Where an input comes from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// Another node.
    Output(NodeIndex, Cow<'static, str>),
    /// A file of the user's.
    File(PathBuf),
    /// Files and folders in a folder of the user's.
    Folder(PathBuf, Vec<String>),
    /// A data set or weights that are not there: the place among [`Graph::absent`]'s.
    Absent(usize),
}

/// What is not there.
#[derive(Debug)]
struct Absence {
    /// The name or path by which a stage calls it.
    called: Option<String>,
    why: Diagnostic,
}

impl Input {
    /// Stands for this port of its stage, alone or with others.
    pub fn is_of(&self, port: &str) -> bool {
        self.name.split('.').next() == Some(port)
    }

    /// Enters the key from outside the graph.
    fn is_external(&self) -> bool {
        self.keyed && matches!(self.source, Source::File(_) | Source::Folder(..))
    }

    /// Is not there.
    fn is_absent(&self) -> bool {
        matches!(self.source, Source::Absent(_))
    }
}

impl Graph {
    /// The node at an index.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.dag[index]
    }

    /// What these nodes need from outside and is not there, each thing once.
    pub fn absent(&self, nodes: &[NodeIndex]) -> Vec<&Diagnostic> {
        let inputs = nodes.iter().flat_map(|&index| &self.dag[index].inputs);
        let absent =
            inputs.filter_map(|input| if let Source::Absent(place) = input.source { Some(place) } else { None });
        absent.collect::<BTreeSet<usize>>().into_iter().map(|place| &self.absences[place].why).collect()
    }

    /// The name or path by which the pipeline calls what an input lacks; nothing where it is there, or is not called by any.
    pub fn absent_name(&self, input: &Input) -> Option<&str> {
        if let Source::Absent(place) = input.source { self.absences[place].called.as_deref() } else { None }
    }

    /// Every node after all it needs.
    pub fn order(&self) -> &[NodeIndex] {
        &self.order
    }

    /// Nodes that are in order, stage by stage: those of one stage do not need each other.
    pub fn stages<'s>(&'s self, nodes: &'s [NodeIndex]) -> impl Iterator<Item = &'s [NodeIndex]> {
        nodes.chunk_by(|&one, &other| self.dag[one].stage_name == self.dag[other].stage_name)
    }

    /// What a node needs directly.
    pub fn needs(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.dag.neighbors_directed(index, Direction::Incoming)
    }

    /// What needs a node directly.
    pub fn needed_by(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.dag.neighbors_directed(index, Direction::Outgoing)
    }

    /// The node of this name.
    ///
    /// # Errors
    /// There is none; the nearest name is the hint.
    pub fn find(&self, name: &str) -> Result<NodeIndex> {
        self.dag.node_indices().find(|&index| self.dag[index].name == name).ok_or_else(|| {
            let names: Vec<&String> = self.dag.node_weights().map(|node| &node.name).collect();
            let hint = did_you_mean(name, &names);
            Error::Invalid {
                message: format!("the pipeline has no node `{name}`"),
                key: None,
                hint: hint.or_else(|| Some("`maple-pipe status --all` lists the nodes".into())),
            }
        })
    }

    /// The nodes whose name matches a glob, and all that they need, in order; without a glob, all nodes.
    ///
    /// # Errors
    /// The glob is malformed or matches nothing.
    pub fn select(&self, only: Option<&str>) -> Result<Vec<NodeIndex>> {
        let Some(pattern) = only else { return Ok(self.order.clone()) };
        let wanted = self.matching("--only", pattern)?;
        Ok(self.with_needs(|index| wanted.contains(&index)))
    }

    /// The nodes whose name matches the glob that was given with `option`, in no order.
    ///
    /// # Errors
    /// The glob is malformed or matches nothing.
    pub fn matching(&self, option: &str, pattern: &str) -> Result<HashSet<NodeIndex>> {
        let glob = globset::Glob::new(pattern)
            .map_err(|error| Error::invalid(format!("`{option} {pattern}` is not a glob: {}", error.kind())))?
            .compile_matcher();
        let matching: HashSet<NodeIndex> =
            self.order.iter().copied().filter(|&index| glob.is_match(&self.dag[index].name)).collect();
        if matching.is_empty() {
            return Err(Error::hinted(
                format!("`{option} {pattern}` matches no node"),
                format!(
                    "`maple-pipe status --all` lists the nodes; `*` matches any text, e.g. `{option} 'train/*/seed1'`"
                ),
            ));
        }
        Ok(matching)
    }

    /// A node and all that it needs, in order.
    pub fn up_to(&self, index: NodeIndex) -> Vec<NodeIndex> {
        self.with_needs(|other| other == index)
    }

    /// The wanted nodes and all that they need, in order.
    pub fn with_needs(&self, is_wanted: impl Fn(NodeIndex) -> bool) -> Vec<NodeIndex> {
        let mut wanted = vec![false; self.dag.node_count()];
        for &index in self.order.iter().rev() {
            let needed = self.needed_by(index).any(|child| wanted[child.index()]);
            wanted[index.index()] = needed || is_wanted(index);
        }
        self.order.iter().copied().filter(|index| wanted[index.index()]).collect()
    }
}
