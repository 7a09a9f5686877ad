//! Expands a pipeline's stages over their axes and connects the nodes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::{Absence, Graph, Input, Node, Source};
use crate::backbone::BackboneOptions;
use crate::coordinates::{AxisValue, Coordinates};
use crate::diagnostic::{Diagnostic, Span};
use crate::document::{Binding, Bindings, Data, Entry, Value, gather};
use crate::error::Error;
use crate::files::bad_part_of_path;
use crate::kind::{Given, Kind, PathPort, Port, Takes, Work};
use crate::pipeline::{MANY_NODES, Pipeline, Reference, StageSpecification, product};
use crate::stages::pretrain::check_weights;
use crate::store::{ArtifactKind, CanonicalJson, Output};
use crate::text::did_you_mean;
use crate::text::similar_path;

impl Graph {
    /// The nodes of a pipeline. Data sets that name no folder are looked for under `data_root`.
    ///
    /// # Errors
    /// Every mistake found: unknown parameters, references to nothing or to too much, circles, missing files.
    pub fn build(pipeline: &Pipeline, data_root: Option<&Path>) -> Result<Graph, Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let stages = stage_order(pipeline, &mut mistakes);
        let mut builder = Builder {
            pipeline,
            data_root,
            dag: DiGraph::new(),
            nodes: HashMap::new(),
            broken: HashSet::new(),
            locations: HashMap::new(),
            matches: FxHashMap::default(),
            unread: HashSet::new(),
            weights: Vec::new(),
            absences: Vec::new(),
        };
        mistakes.extend(stages.into_iter().flat_map(|stage| builder.expand(stage)));
        mistakes.extend(builder.results());
        if !mistakes.is_empty() {
            return Err(few_at_each_place(mistakes));
        }
        let absences = std::mem::take(&mut builder.absences);
        let dag = builder.without_unread();
        let mut names = FxHashSet::with_capacity_and_hasher(dag.node_count(), FxBuildHasher);
        for index in dag.node_indices() {
            if !names.insert(&dag[index].name) {
                let message = format!("two nodes are called `{}`", dag[index].name);
                let hint = "an integer 1 of axis `seed` is called `seed1`: rename the other value".to_owned();
                return Err(vec![Diagnostic::new(message).hint(hint)]);
            }
        }
        // Nodes were added stage by stage, each after what it refers to.
        let order = dag.node_indices().collect();
        Ok(Graph { dag, order, absences })
    }
}

/// The nodes of a stage mostly stumble over the same thing: the same message once, and so many at one place that all data sets
/// of the papers can be among them.
fn few_at_each_place(mut mistakes: Vec<Diagnostic>) -> Vec<Diagnostic> {
    const FEW: usize = 20;
    let mut seen: HashMap<_, HashSet<String>> = HashMap::new();
    mistakes.retain(|one| {
        let place = one.span.as_ref().map(|span| (span.source.name.clone(), span.range.clone()));
        let messages = seen.entry(place).or_default();
        messages.len() < FEW && messages.insert(one.message.clone())
    });
    mistakes
}

/// The stages, each after those it refers to; none where they need each other in a circle.
fn stage_order<'a>(pipeline: &'a Pipeline, mistakes: &mut Vec<Diagnostic>) -> Vec<&'a StageSpecification> {
    let mut stages: DiGraph<&StageSpecification, ()> = DiGraph::new();
    let indices: Vec<NodeIndex> = pipeline.stages.iter().map(|stage| stages.add_node(stage)).collect();
    for (stage, &index) in pipeline.stages.iter().zip(&indices) {
        for reference in references(pipeline, stage) {
            match pipeline.stages.iter().position(|other| other.name == reference.stage) {
                Some(other) => drop(stages.update_edge(indices[other], index, ())),
                None => mistakes.push(unknown_stage(pipeline, &reference)),
            }
        }
    }
    for circle in tarjan_scc(&stages) {
        let first = circle[0];
        if circle.len() > 1 || stages.contains_edge(first, first) {
            let mut names: Vec<&str> = circle.iter().rev().map(|&index| stages[index].name.as_str()).collect();
            names.push(names[0]);
            let message = format!("stages need each other in a circle: `{}`", names.join("` -> `"));
            mistakes.push(Diagnostic::at(&stages[*circle.last().unwrap_or(&first)].span, message));
        }
    }
    let order = toposort(&stages, None).unwrap_or_default();
    order.into_iter().map(|index| stages[index]).collect()
}

fn unknown_stage(pipeline: &Pipeline, reference: &Reference) -> Diagnostic {
    let known: Vec<String> = pipeline.stages.iter().map(|stage| format!("@{}", stage.name)).collect();
    let name = format!("@{}", reference.stage);
    let message = format!("`{name}` refers to no stage of this pipeline");
    Diagnostic::at(&reference.span, message).suggest(&name, &known)
}

/// The stages that a stage's inputs refer to, also from files it includes; as its first node has them.
fn references(pipeline: &Pipeline, stage: &StageSpecification) -> Vec<Reference> {
    let first = |name: &String| Some((name.clone(), pipeline.axis(name)?.values.first()?.clone()));
    let coordinates = stage.axes.iter().filter_map(first).collect();
    // What cannot be resolved is complained about when the node is made.
    let resolved = pipeline.reader.resolve(&stage.table, &bindings(pipeline, &coordinates));
    let Data::Table(mut table) = resolved.map_or_else(|_| stage.table.data.clone(), |value| value.data) else {
        return Vec::new();
    };
    let inputs = stage.kind.take_inputs(&mut table).unwrap_or_default();
    inputs.iter().flat_map(|entry| entry.value.elements()).filter_map(Reference::read).collect()
}

/// What names in braces stand for in a node.
fn bindings<'a>(pipeline: &'a Pipeline, coordinates: &'a Coordinates) -> Bindings<'a> {
    let attributes = |axis: &str, value| pipeline.axis(axis).and_then(|axis| axis.attributes(value));
    let binding = |axis, value| Binding { value, attributes: attributes(axis, value) };
    let axes = coordinates.iter().map(|(axis, value)| (axis.as_str(), binding(axis, value)));
    Bindings::new(axes, pipeline.stages.iter().map(|stage| (stage.name.as_str(), &stage.table)))
}

/// Nodes by their values on some axes.
type Matches = FxHashMap<Vec<AxisValue>, Rc<[NodeIndex]>>;

/// What a stage's table says of those of its nodes that have the same values on the axes which the table asks for.
struct Resolved {
    /// What it says of the inputs.
    inputs: Vec<Entry>,
    /// The rest.
    table: Value,
    /// What the rest means.
    work: Arc<dyn Work>,
    /// The same, as keys have it.
    parameters: Arc<CanonicalJson>,
}

/// The tables that a stage's table has been resolved to: by axes that it asked for, and the values on these.
type Tables = BTreeMap<BTreeSet<String>, FxHashMap<Vec<Option<AxisValue>>, Rc<Resolved>>>;

struct Builder<'a> {
    pipeline: &'a Pipeline,
    data_root: Option<&'a Path>,
    dag: DiGraph<Node, ()>,
    /// By stage name.
    nodes: HashMap<&'a str, Vec<NodeIndex>>,
    /// Stages with a mistake; what refers to them is not complained about.
    broken: HashSet<&'a str>,
    /// Where a node's images lie.
    locations: HashMap<NodeIndex, Source>,
    /// By stage: the nodes with given values on the axes that are shared.
    matches: FxHashMap<&'a str, Vec<(Vec<&'a str>, Matches)>>,
    /// Nodes that another names, but does not read with its parameters.
    unread: HashSet<NodeIndex>,
    /// The files of weights that were looked at, with what was said of them, and what is wrong with them.
    weights: Vec<(PathBuf, BackboneOptions, Result<(), Arc<Error>>)>,
    /// What is not there.
    absences: Vec<Absence>,
}

impl<'a> Builder<'a> {
    /// Adds the nodes of a stage; returns the mistakes.
    fn expand(&mut self, stage: &'a StageSpecification) -> Vec<Diagnostic> {
        let axes = stage.axes.iter().filter_map(|name| self.pipeline.axis(name));
        let product = axes.map(|axis| axis.values.len() as f64).product::<f64>();
        if product + self.dag.node_count() as f64 > MANY_NODES as f64 {
            self.broken.insert(&stage.name);
            let message = format!("with stage `{}` the pipeline has more than {MANY_NODES} nodes", stage.name);
            let hint = "its axes have too many combinations: shorten them, or split the pipeline";
            return vec![Diagnostic::at(&stage.span, message).hint(hint)];
        }
        let mut mistakes = Vec::new();
        let mut nodes = Vec::new();
        let mut tables = Tables::new();
        for coordinates in self.coordinates(stage) {
            let resolved = self.resolve(stage, &coordinates, &mut tables);
            match resolved.and_then(|resolved| self.node(stage, coordinates, &resolved)) {
                Ok(index) => nodes.push(index),
                Err(more) => {
                    self.broken.insert(&stage.name);
                    mistakes.extend(more);
                }
            }
        }
        self.nodes.insert(&stage.name, nodes);
        mistakes
    }

    /// The DAG without the nodes that are named, but read by no node and no result: they would be made for nothing.
    fn without_unread(self) -> DiGraph<Node, ()> {
        let is_result = |node: &Node| self.pipeline.results.iter().any(|result| result.stage == node.stage_name);
        let is_dropped = |index: &NodeIndex| {
            self.dag.neighbors_directed(*index, Direction::Outgoing).next().is_none() && !is_result(&self.dag[*index])
        };
        let dropped: HashSet<NodeIndex> = self.unread.iter().copied().filter(is_dropped).collect();
        if dropped.is_empty() {
            return self.dag;
        }
        let kept = self.dag.node_indices().filter(|index| !dropped.contains(index));
        let places: HashMap<NodeIndex, NodeIndex> = kept.zip((0..).map(NodeIndex::new)).collect();
        let mut dag = DiGraph::new();
        let (nodes, _) = self.dag.into_nodes_edges();
        let nodes = nodes.into_iter().enumerate().filter(|(index, _)| !dropped.contains(&NodeIndex::new(*index)));
        for mut node in nodes.map(|(_, node)| node.weight) {
            let mut needed = Vec::new();
            for input in &mut node.inputs {
                if let Source::Output(source, _) = &mut input.source {
                    *source = places[source];
                    needed.push(*source);
                }
            }
            let index = dag.add_node(node);
            for source in needed {
                dag.update_edge(source, index, ());
            }
        }
        dag
    }

    /// The product of the stage's axes, filtered, and what the stage adds; the first axis varies slowest.
    fn coordinates(&self, stage: &StageSpecification) -> Vec<Coordinates> {
        let mut nodes = vec![Coordinates::new()];
        for axis in stage.axes.iter().filter_map(|name| self.pipeline.axis(name)) {
            nodes = product(&nodes, &axis.name, &axis.values.iter().collect::<Vec<_>>());
        }
        nodes.retain(|node| {
            let kept = stage.only.is_empty() || stage.only.iter().any(|one| one.holds(node));
            kept && !stage.exclude.iter().any(|one| one.holds(node))
        });
        for extra in &stage.extra {
            if !nodes.contains(extra) {
                nodes.push(extra.clone());
            }
        }
        nodes
    }

    /// The mistakes in what `results` names: its stages are there, but not every output need be.
    fn results(&self) -> Vec<Diagnostic> {
        let results = self.pipeline.results.iter().filter(|result| result.output.is_some());
        let nodes = results.flat_map(|result| {
            self.nodes.get(result.stage.as_str()).into_iter().flatten().map(move |&node| (result, node))
        });
        nodes
            .filter_map(|(result, node)| chosen_output(&self.dag[node], result).err())
            .chain(self.long_results())
            .collect()
    }

    /// Results whose files would have names that no file can have.
    fn long_results(&self) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        for result in &self.pipeline.results {
            for &index in self.nodes.get(result.stage.as_str()).into_iter().flatten() {
                let node = &self.dag[index];
                let outputs = node.work.outputs().iter();
                for output in outputs.filter(|output| result.means(&node.stage_name, &output.name)) {
                    let file = node.file_name(output);
                    let name = file.rsplit('/').next().unwrap_or(&file);
                    mistakes.extend(bad_part_of_path(name, "").map(|why| {
                        Diagnostic::at(&result.span, format!("the result `{file}` cannot be a file: {why}"))
                    }));
                }
            }
        }
        mistakes
    }

    /// What a stage's table says of the node at these coordinates; `tables` is what it was resolved to before.
    fn resolve(
        &self,
        stage: &StageSpecification,
        coordinates: &Coordinates,
        tables: &mut Tables,
    ) -> Result<Rc<Resolved>, Vec<Diagnostic>> {
        let values =
            |axes: &BTreeSet<String>| axes.iter().map(|axis| coordinates.get(axis).cloned()).collect::<Vec<_>>();
        if let Some(known) = tables.iter().find_map(|(axes, known)| known.get(&values(axes))) {
            return Ok(known.clone());
        }
        let bindings = bindings(self.pipeline, coordinates);
        let resolved = self.pipeline.reader.resolve(&stage.table, &bindings)?;
        let Data::Table(mut table) = resolved.data else { unreachable!("a table resolves to a table") };
        let inputs = stage.kind.take_inputs(&mut table).map_err(|mistake| vec![mistake])?;
        let mut table = Value { span: stage.span.clone(), data: Data::Table(table) };
        let work = read_parameters(stage.kind, &mut table)?;
        let parameters = Arc::new(CanonicalJson::from(&work.parameters()));
        let resolved = Rc::new(Resolved { inputs, table, work, parameters });
        let asked = bindings.asked();
        let values = values(&asked);
        tables.entry(asked).or_default().insert(values, resolved.clone());
        Ok(resolved)
    }

    fn node(
        &mut self,
        stage: &StageSpecification,
        coordinates: Coordinates,
        resolved: &Resolved,
    ) -> Result<NodeIndex, Vec<Diagnostic>> {
        let Resolved { inputs: named, table, work, parameters } = resolved;
        let mut referred =
            |entry: &Entry| self.referred(&coordinates, Reference::read(entry.value.elements().first()?)?);
        let given = named.iter().map(|entry| (entry.key.as_str(), referred(entry)));
        let given = Given(given.collect());
        let ports = work.ports(&given).map_err(|error| {
            let hint = error.hint().map(Into::into);
            let message = error.to_string();
            let span = table.place_of(error.key()).unwrap_or(&stage.span).clone();
            vec![Diagnostic { hint, ..Diagnostic::at(&span, message) }]
        })?;
        for entry in named {
            if !ports.iter().any(|port| port.name == entry.key) {
                let message = format!("stage `{}` does not read `{}` with these parameters", stage.name, entry.key);
                return Err(vec![Diagnostic::at(&entry.span, message)]);
            }
        }
        let context = Context { stage, coordinates: &coordinates };
        let entry = |port: &Port| named.iter().find(|entry| entry.key == port.name);
        let connected = gather(ports.iter().map(|port| self.connect(&context, port, entry(port))))?;
        let weights = named.iter().find(|entry| entry.key == "weights").map(|entry| &entry.value.span);
        let inputs: Vec<Input> = connected.into_iter().flatten().collect();
        for port in ports.iter().filter(|port| !port.common.is_empty()) {
            self.check_common(stage, port, entry(port), &inputs).map_err(|mistake| vec![mistake])?;
        }
        if let Some(given) = work.backbone() {
            self.check_weights(&inputs, given).map_err(|error| {
                let (message, hint) = (error.to_string(), error.hint().map(Into::into));
                let span = table.place_of(error.key()).or(weights).cloned();
                vec![Diagnostic { span, hint, ..Diagnostic::new(message) }]
            })?;
        }
        self.check_locations(stage, &inputs).map_err(|mistake| vec![mistake])?;
        let location = stage.kind.location.and_then(|port| {
            let of_port = || inputs.iter().filter(|input| input.is_of(port));
            let location = of_port().find(|input| !input.keyed).or_else(|| of_port().next())?;
            Some(location.source.clone())
        });
        let sources: Vec<NodeIndex> = inputs
            .iter()
            .filter_map(|input| if let Source::Output(source, _) = input.source { Some(source) } else { None })
            .collect();
        let node = Node {
            name: node_name(stage, &coordinates),
            stage_name: stage.name.clone(),
            coordinates: Arc::new(coordinates),
            work: work.clone(),
            parameters: parameters.clone(),
            inputs,
        };
        let index = self.dag.add_node(node);
        for source in sources {
            self.dag.update_edge(source, index, ());
        }
        if let Some(location) = location {
            self.locations.insert(index, location);
        }
        Ok(index)
    }

    /// The nodes that a port refers to have the inputs in common that they must have.
    fn check_common(
        &self,
        stage: &StageSpecification,
        port: &Port,
        entry: Option<&Entry>,
        inputs: &[Input],
    ) -> Result<(), Diagnostic> {
        let find = |inputs: &[Input], name: &str| {
            inputs.iter().find(|input| input.is_of(name)).map(|input| input.source.clone())
        };
        // Of a node it is enough that it is the same; which of its outputs are read may differ.
        let same = |one: Source, other: Source| match (&one, &other) {
            (Source::Output(one, _), Source::Output(other, _)) => one == other,
            _ => one == other,
        };
        for input in inputs.iter().filter(|input| input.is_of(&port.name)) {
            let Source::Output(node, _) = &input.source else { continue };
            for name in port.common {
                let (Some(own), Some(other)) = (find(inputs, name), find(&self.dag[*node].inputs, name)) else {
                    continue;
                };
                if !same(own, other) {
                    let message =
                        format!("`{}` of stage `{}` is made with other `{name}` than its own", port.name, stage.name);
                    let span = entry.map_or(&stage.span, |entry| &entry.value.span);
                    let hint = format!("give both stages the same `{name}`");
                    return Err(Diagnostic::at(span, message).hint(hint));
                }
            }
        }
        Ok(())
    }

    /// Asks now for what nobody tells of the model in a file of weights, not when a node has been waited for. What
    /// other nodes make is looked at when it is there.
    fn check_weights(&mut self, inputs: &[Input], given: &BackboneOptions) -> Result<(), Arc<Error>> {
        let files = inputs.iter().filter(|input| input.name == "weights.weights");
        for path in files.filter_map(|input| if let Source::File(path) = &input.source { Some(path) } else { None }) {
            let before = self.weights.iter().find(|(known, said, _)| known == path && said == given);
            if let Some((.., checked)) = before {
                checked.clone()?;
                continue;
            }
            let checked = check_weights(path, given, self.data_root).map_err(Arc::new);
            self.weights.push((path.clone(), *given, checked.clone()));
            checked?;
        }
        Ok(())
    }

    /// The inputs that one port stands for.
    fn connect(
        &mut self,
        context: &Context<'_>,
        port: &Port,
        entry: Option<&Entry>,
    ) -> Result<Vec<Input>, Vec<Diagnostic>> {
        let one = |mistake: Diagnostic| vec![mistake];
        let Some(entry) = entry else {
            let found = default_path(self.data_root, context, port).map_err(one)?;
            return Ok(vec![self.there_or_absent(port, None, found)]);
        };
        if let Takes::Nothing = port.from {
            for reference in entry.value.elements().iter().filter_map(Reference::read) {
                if let Some(target) = self.pipeline.stage(&reference.stage) {
                    let named = self.matching(target, context.coordinates);
                    self.unread.extend(named.iter());
                }
            }
            return Ok(Vec::new());
        }
        let listed = matches!(entry.value.data, Data::Array(_));
        if listed && !port.many && matches!(port.from, Takes::Outputs(..) | Takes::File) {
            let message = format!("`{}` takes one reference, not a list", port.name);
            return Err(one(Diagnostic::at(&entry.value.span, message)));
        }
        let inputs = gather(entry.value.elements().iter().map(|value| match (value.text(), Reference::read(value)) {
            (_, Some(reference)) => self.follow(context, port, listed, &reference),
            (Some(path), None) => self.path_input(port, listed, path, &value.span).map_err(one),
            (None, None) => {
                let message = format!("`{}` must be a string, not {}", port.name, value.type_name());
                let hint = match &port.from {
                    Takes::Outputs(kind, _) => format!("`\"@{}\"` names a stage", kind.name),
                    Takes::File | Takes::Anything | Takes::Nothing => {
                        "`\"@stage.output\"` names an output, anything else is a path".to_owned()
                    }
                };
                Err(one(Diagnostic::at(&value.span, message).hint(hint)))
            }
        }))?;
        let inputs: Vec<Input> = inputs.into_iter().flatten().collect();
        if inputs.is_empty() {
            let message = format!("`{}` of stage `{}` matches no node", port.name, context.stage.name);
            return Err(one(Diagnostic::at(&entry.value.span, message)));
        }
        if let (Takes::Anything, Some(place)) = (&port.from, shared_place(&inputs)) {
            let message = format!("`{}` would have two inputs at `inputs/{place}`", port.name);
            return Err(one(Diagnostic::at(&entry.value.span, message).hint("give one of them a name of its own")));
        }
        Ok(inputs)
    }

    /// The input behind a path, or behind a name for which the port knows a file.
    fn path_input(&mut self, port: &Port, listed: bool, path: &str, span: &Span) -> Result<Vec<Input>, Diagnostic> {
        let named = if let PathPort::Named(find) = &port.path { find(path, self.data_root) } else { None };
        let found = match named {
            Some(file) => file.map(|file| external(port, Source::File(file))).map_err(|error| {
                let hint = error.hint().map(Into::into);
                Diagnostic { hint, ..Diagnostic::at(span, error.to_string()) }
            }),
            None => path_input(port, listed, path, span)?,
        };
        Ok(vec![self.there_or_absent(port, Some(path), found)])
    }

    /// The input, or one that stands for what is not there, which a stage called by this name or path.
    fn there_or_absent(&mut self, port: &Port, called: Option<&str>, found: Found) -> Input {
        found.unwrap_or_else(|why| {
            let known = self.absences.iter().position(|known| known.why.message == why.message);
            let place = known.unwrap_or_else(|| {
                self.absences.push(Absence { called: called.map(str::to_owned), why });
                self.absences.len() - 1
            });
            external(port, Source::Absent(place))
        })
    }

    /// The inputs behind `"@stage"` or `"@stage.output"`.
    fn follow(
        &mut self,
        context: &Context<'_>,
        port: &Port,
        listed: bool,
        reference: &Reference,
    ) -> Result<Vec<Input>, Vec<Diagnostic>> {
        let (name, span) = (reference.stage.as_str(), &reference.span);
        let Some(target) = self.pipeline.stage(name) else {
            return Err(vec![unknown_stage(self.pipeline, reference)]);
        };
        if !self.nodes.contains_key(name) {
            let message =
                format!("`@{name}` refers to no stage that could be expanded before `{}`", context.stage.name);
            return Err(vec![
                Diagnostic::at(span, message).hint("every node of a stage must refer to the same stages"),
            ]);
        }
        if let Takes::Outputs(kind, outputs) = &port.from
            && target.kind != *kind
            && !(outputs.len() == 1 && target.kind.may_leave(outputs[0]))
        {
            let message =
                format!("`{}` takes a `{}` stage, but `{name}` is a `{}`", port.name, kind.name, target.kind.name);
            return Err(vec![Diagnostic::at(span, message)]);
        }
        if self.broken.contains(name) {
            return Err(Vec::new());
        }
        if let Some((needed, allowed)) = port.axes {
            let missing = needed.iter().find(|axis| !target.axes.iter().any(|one| one == *axis));
            let surplus = target.axes.iter().find(|axis| !allowed.contains(&axis.as_str()));
            if let Some(axis) = missing {
                let message = format!("stage `{name}` has no axis `{axis}`, by which `{}` is arranged", port.name);
                let hint = format!("give it an axis `{axis}`, if only with one value");
                return Err(vec![Diagnostic::at(span, message).hint(hint)]);
            }
            if let Some(axis) = surplus {
                let message =
                    format!("stage `{name}` has an axis `{axis}`, by which `{}` cannot be arranged", port.name);
                return Err(vec![
                    Diagnostic::at(span, message).hint(format!("its axes may be {}", allowed.join(", "))),
                ]);
            }
        }
        if let Some(axis) = &port.over {
            let has = |stage: &StageSpecification| stage.axes.contains(axis);
            let message = match (has(target), has(context.stage)) {
                (false, _) => format!("stage `{name}` has no axis `{axis}`, of which `{}` takes all values", port.name),
                (true, true) => {
                    format!(
                        "`{}` takes all values of axis `{axis}`, which `{}` has, too",
                        port.name, context.stage.name
                    )
                }
                (true, false) => String::new(),
            };
            if !message.is_empty() {
                let hint =
                    format!("`{axis}` is an axis of the stages that are compared, and not of the one that chooses");
                return Err(vec![Diagnostic::at(span, message).hint(hint)]);
            }
        }
        let found = self.matching(target, context.coordinates);
        let surplus = target.axes.iter().any(|axis| !context.coordinates.contains_key(axis));
        let collects = port.many || matches!(port.from, Takes::Anything) && (listed || surplus);
        if !collects && found.len() > 1 {
            let free: Vec<String> = target
                .axes
                .iter()
                .filter(|axis| !context.coordinates.contains_key(*axis))
                .map(|axis| format!("`{axis}`"))
                .collect();
            let message = format!(
                "`@{name}` is {} nodes here, because stage `{}` has no axis {}",
                found.len(),
                context.stage.name,
                free.join(", ")
            );
            return Err(vec![Diagnostic::at(span, message).hint(format!("add {} to its `axes`", free.join(", ")))]);
        }
        if !collects && found.is_empty() {
            let shared = target.axes.iter().filter_map(|axis| Some((axis, context.coordinates.get(axis)?)));
            let here: Vec<String> = shared.map(|(axis, value)| format!("{axis}={value}")).collect();
            let here = if here.is_empty() { String::new() } else { format!(" for {}", here.join(", ")) };
            let message = format!("`@{name}` has no node{here}");
            return Err(vec![
                Diagnostic::at(span, message).hint(format!("see `only`, `exclude` and `extra` of stage `{name}`")),
            ]);
        }
        let mut inputs = Vec::new();
        for &node in found.iter() {
            let input = |name: String, source: Source, keyed: bool| Input {
                name,
                source,
                keyed,
                many: port.many,
                coordinates: self.dag[node].coordinates.clone(),
            };
            if let Some(location) = self.location_asked_for(port, node, reference) {
                inputs.push(input(port.name.to_string(), location.clone(), false));
                continue;
            }
            let outputs = read_outputs(port, collects, &self.dag[node], reference).map_err(|mistake| vec![mistake])?;
            for (name, output) in outputs {
                inputs.push(input(name, Source::Output(node, output), true));
            }
            if port.location {
                let location = self.locations.get(&node).expect("this kind of node has a location").clone();
                inputs.push(input(format!("{}.location", port.name), location, false));
            }
        }
        Ok(inputs)
    }

    /// Where a node's images lie, if `"@stage.location"` asks for that.
    fn location_asked_for(&self, port: &Port, node: NodeIndex, reference: &Reference) -> Option<&Source> {
        let is_asked = matches!(port.from, Takes::Anything) && reference.output.as_deref() == Some(LOCATION);
        self.locations.get(&node).filter(|_| is_asked)
    }

    /// Images enter a key by their digests, so whoever gets their folder also reads a list of them.
    fn check_locations(&self, stage: &StageSpecification, inputs: &[Input]) -> Result<(), Diagnostic> {
        let is_listed = |location: &Source| {
            let nodes = inputs.iter().filter_map(|input| match input.source {
                Source::Output(node, _) if input.keyed => Some(node),
                _ => None,
            });
            nodes.filter_map(|node| self.locations.get(&node)).any(|known| known == location)
        };
        let Some(input) = inputs.iter().find(|input| !input.keyed && !is_listed(&input.source)) else { return Ok(()) };
        let message = format!("stage `{}` gets the folder of images `{}` and no list of them", stage.name, input.name);
        let hint = "the list says which images a result depends on: name it, too, e.g. `images = \"@data.test-all\"`";
        Err(Diagnostic::at(&stage.span, message).hint(hint))
    }

    /// What the first node does that a reference leads to, as far as there is one.
    fn referred(&mut self, coordinates: &Coordinates, reference: Reference) -> Option<Arc<dyn Work>> {
        let target = self.pipeline.stage(&reference.stage)?;
        let node = *self.matching(target, coordinates).first()?;
        Some(self.dag[node].work.clone())
    }

    /// The nodes of `target` with the same values on the axes that it shares with a node of these coordinates.
    fn matching(&mut self, target: &'a StageSpecification, coordinates: &Coordinates) -> Rc<[NodeIndex]> {
        let of_target = self.matches.entry(&target.name).or_default();
        let shared = || target.axes.iter().map(String::as_str).filter(|axis| coordinates.contains_key(*axis));
        let place = of_target.iter().position(|(axes, _)| axes.iter().copied().eq(shared())).unwrap_or_else(|| {
            let mut matches: FxHashMap<Vec<AxisValue>, Vec<NodeIndex>> = FxHashMap::default();
            for &node in self.nodes.get(target.name.as_str()).into_iter().flatten() {
                let values = shared().map(|axis| self.dag[node].coordinates[axis].clone()).collect();
                matches.entry(values).or_default().push(node);
            }
            let matches = matches.into_iter().map(|(values, nodes)| (values, nodes.into()));
            of_target.push((shared().collect(), matches.collect()));
            of_target.len() - 1
        });
        let wanted: Vec<AxisValue> = shared().map(|axis| coordinates[axis].clone()).collect();
        of_target[place].1.get(&wanted).cloned().unwrap_or_default()
    }
}

/// What a command names behind `@stage.` to get the folder of that stage's images.
const LOCATION: &str = "location";

/// An input, or that it is not there.
type Found = Result<Input, Diagnostic>;

/// What a port stands for when the stage table does not mention it.
fn default_path(data_root: Option<&Path>, context: &Context<'_>, port: &Port) -> Result<Found, Diagnostic> {
    if let PathPort::Program(path) = &port.path {
        return Ok(Ok(external(port, Source::File(path.clone()))));
    }
    let PathPort::Folder { default, .. } = &port.path else {
        let message = format!("stage `{}` has no `{}`", context.stage.name, port.name);
        let mistake = Diagnostic::at(&context.stage.span, message);
        let Takes::Outputs(kind, _) = &port.from else { return Err(mistake) };
        return Err(mistake.hint(format!("name a `{}` stage: `{} = \"@...\"`", kind.name, port.name)));
    };
    Ok(match data_root {
        Some(data_root) => folder_input(port, &data_root.join(default), &context.stage.span),
        None => {
            let message = format!("stage `{}` needs the folder of your data sets", context.stage.name);
            let hint = format!("give `--data-root FOLDER` or set MAPLE_DATA; it should hold `{default}`");
            Err(Diagnostic::at(&context.stage.span, message).hint(hint))
        }
    })
}

/// Reads a node's parameters. What is wrong is taken out and the rest is read again, for all the mistakes at once.
fn read_parameters(kind: &Kind, parameters: &mut Value) -> Result<Arc<dyn Work>, Vec<Diagnostic>> {
    let mut mistakes: Vec<Diagnostic> = Vec::new();
    loop {
        let mut mistake = match (kind.read)(parameters) {
            Ok(stage) if mistakes.is_empty() => return Ok(stage),
            Ok(_) => return Err(mistakes),
            Err(mistake) => mistake,
        };
        // What is missing may be what was meant.
        if !mistakes.is_empty() && mistake.is_missing_key {
            return Err(mistakes);
        }
        let Data::Table(table) = &mut parameters.data else { unreachable!("parameters are a table") };
        let holds = |entry: &&Entry, span: &Span| {
            span.is(&entry.span) || entry.value.find(&|value| value.span.is(span)).is_some()
        };
        let key = table.entries().iter().find(|entry| mistake.span.as_ref().is_some_and(|span| holds(entry, span)));
        let Some(entry) = key.map(|entry| entry.key.clone()).and_then(|key| table.take(&key)) else {
            mistakes.push(mistake);
            return Err(mistakes);
        };
        // An input's name is as good a guess for an unknown key as a parameter's.
        if mistake.span.as_ref().is_some_and(|span| span.is(&entry.span))
            && let Some(hint) = did_you_mean(&entry.key, &kind.inputs.iter().map(|(name, _)| name).collect::<Vec<_>>())
        {
            mistake.hint = Some(hint);
        }
        mistakes.push(mistake);
    }
}

/// The node that inputs are being found for.
struct Context<'a> {
    stage: &'a StageSpecification,
    coordinates: &'a Coordinates,
}

/// The outputs of a node that a port reads, each with the name it has as an input.
fn read_outputs(
    port: &Port,
    collects: bool,
    node: &Node,
    reference: &Reference,
) -> Result<Vec<(String, Cow<'static, str>)>, Diagnostic> {
    match &port.from {
        Takes::Outputs(kind, outputs) if node.work.kind() == *kind => {
            if let Some(output) = reference.output.as_deref().filter(|output| outputs != &[*output]) {
                let message = format!("`{}` does not read `{output}` alone of stage `{}`", port.name, reference.stage);
                let hint = format!("name the stage: `\"@{}\"`", reference.stage);
                return Err(Diagnostic::at(&reference.span, message).hint(hint));
            }
            Ok(outputs.iter().map(|output| (format!("{}.{output}", port.name), Cow::Borrowed(*output))).collect())
        }
        Takes::Outputs(kind, outputs) => {
            let output = chosen_output(node, reference)?;
            let wanted = kind.outputs.iter().find(|wanted| wanted.name == outputs[0]).expect("a port reads outputs");
            check_form(port, output, wanted.kind, reference)?;
            Ok(vec![(format!("{}.{}", port.name, outputs[0]), output.name.clone())])
        }
        Takes::File => {
            let output = chosen_output(node, reference)?;
            check_form(port, output, ArtifactKind::File, reference)?;
            Ok(vec![(port.name.to_string(), output.name.clone())])
        }
        Takes::Anything | Takes::Nothing => {
            let output = chosen_output(node, reference)?;
            let name =
                if collects { format!("{}/{}", port.name, node.file_name(output)) } else { port.name.to_string() };
            Ok(vec![(name, output.name.clone())])
        }
    }
}

/// An output is a file, or a folder, as the port takes it.
fn check_form(port: &Port, output: &Output, wanted: ArtifactKind, reference: &Reference) -> Result<(), Diagnostic> {
    let word = |kind| if kind == ArtifactKind::File { "a file" } else { "a folder" };
    if output.kind == wanted {
        return Ok(());
    }
    let message = format!("`{}` takes {}, but `{}` is {}", port.name, word(wanted), output.name, word(output.kind));
    Err(Diagnostic::at(&reference.span, message))
}

/// The output of a node that `"@stage.output"`, or `"@stage"` where there is but one, names.
fn chosen_output<'n>(node: &'n Node, reference: &Reference) -> Result<&'n Output, Diagnostic> {
    let (outputs, stage) = (node.work.outputs(), &reference.stage);
    let written = || outputs.iter().map(|output| format!("@{stage}.{}", output.name)).collect::<Vec<_>>();
    match (&reference.output, outputs) {
        (Some(name), _) => outputs.iter().find(|output| output.name == *name).ok_or_else(|| {
            let message = format!("stage `{stage}` has no output `{name}`");
            Diagnostic::at(&reference.span, message).suggest(&format!("@{stage}.{name}"), &written())
        }),
        (None, [output]) => Ok(output),
        (None, []) => Err(Diagnostic::at(&reference.span, format!("stage `{stage}` has no outputs"))),
        (None, _) => {
            let message = format!("stage `{stage}` has several outputs");
            Err(Diagnostic::at(&reference.span, message).hint(format!("name one: `{}`", written().join("`, `"))))
        }
    }
}

/// A place that two inputs of a command would have, or that one would have inside the other.
fn shared_place(inputs: &[Input]) -> Option<String> {
    // With another separator, which no name holds, what is inside a place comes right behind it.
    const SEPARATOR: char = '\0';
    let mut places: Vec<String> = inputs.iter().map(|input| input.name.replace('/', "\0")).collect();
    places.sort_unstable();
    let is_inside = |place: &str, other: &str| {
        place.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
    };
    places.windows(2).find(|pair| is_inside(&pair[1], &pair[0])).map(|pair| pair[1].replace(SEPARATOR, "/"))
}

fn path_input(port: &Port, listed: bool, path: &str, span: &Span) -> Result<Found, Diagnostic> {
    let full = span.folder().join(path);
    match &port.path {
        PathPort::Refused | PathPort::Program(_) => {
            let message = format!("`{}` must name a stage", port.name);
            Err(Diagnostic::at(span, message).hint(format!("stages are named with `@`: `\"@{path}\"`")))
        }
        PathPort::File | PathPort::Named(_) if full.is_dir() => {
            let message = format!("`{}` is a folder, but `{}` takes a file", full.display(), port.name);
            Err(Diagnostic::at(span, message).hint("give a file in it"))
        }
        PathPort::File | PathPort::Named(_) if !full.is_file() => {
            let message = format!("there is no file `{}`", full.display());
            let absence = Diagnostic::at(span, message).hint(where_it_may_be(&full));
            if matches!(port.path, PathPort::Named(_)) { Ok(Err(absence)) } else { Err(absence) }
        }
        PathPort::File | PathPort::Named(_) => Ok(Ok(external(port, Source::File(full)))),
        PathPort::Folder { .. } => Ok(folder_input(port, &full, span)),
        PathPort::Any => {
            let name = match full.file_name().filter(|_| listed) {
                Some(file) => format!("{}/{}", port.name, file.to_string_lossy()),
                None => port.name.to_string(),
            };
            let source = match std::fs::metadata(&full) {
                Ok(metadata) if metadata.is_dir() => Source::Folder(full, vec![String::new()]),
                Ok(metadata) if metadata.is_file() => Source::File(full),
                // A pipe has no content that could be read twice, and a device no end.
                Ok(_) => {
                    let message = format!("`{}` is neither a file nor a folder", full.display());
                    return Err(Diagnostic::at(span, message).hint("write what comes out of it to a file first"));
                }
                Err(_) => {
                    let message = format!("there is no file or folder `{}`", full.display());
                    return Err(Diagnostic::at(span, message).hint(where_it_may_be(&full)));
                }
            };
            Ok(Ok(Input { name, ..external(port, source) }))
        }
    }
}

/// What to do about a path that leads to nothing.
fn where_it_may_be(path: &Path) -> String {
    similar_path(path).unwrap_or_else(|| "paths start from the folder of the file they stand in".to_owned())
}

fn folder_input(port: &Port, folder: &Path, span: &Span) -> Found {
    let PathPort::Folder { within, sources, known_as, .. } = &port.path else {
        unreachable!("the port takes a folder")
    };
    // A pipe or a device is no part of a data set: reading it might never end.
    let is_there = |part: &String| {
        std::fs::metadata(folder.join(part)).is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
    };
    let lacking = || within.iter().filter(|part| !is_there(part));
    let missing: Vec<String> = lacking().map(|part| format!("`{part}`")).collect();
    if !folder.is_dir() || !missing.is_empty() {
        let contents = within.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(" and ");
        let message = if folder.is_dir() {
            format!("`{}` lacks {}", folder.display(), missing.join(" and "))
        } else {
            format!("there is no folder `{}`", folder.display())
        };
        let addresses = lacking().filter_map(|part| Some(format!("; `{part}` comes from {}", sources.get(part)?)));
        let addresses: String = addresses.collect();
        let command = known_as.map(|name| format!("`maple-pipe data fetch {name}` gets it, or "));
        let (command, folder) = (command.unwrap_or_default(), folder.display());
        let hint = format!("{command}put the data set there, so that `{folder}` holds {contents}{addresses}");
        return Err(Diagnostic::at(span, message).hint(hint));
    }
    Ok(external(port, Source::Folder(folder.to_owned(), within.clone())))
}

/// A path stands for the first output that the port would read of a stage.
fn external(port: &Port, source: Source) -> Input {
    let name = match &port.from {
        Takes::Outputs(_, outputs) => format!("{}.{}", port.name, outputs[0]),
        Takes::File | Takes::Anything | Takes::Nothing => port.name.to_string(),
    };
    Input { name, source, keyed: true, many: false, coordinates: Arc::default() }
}

/// `stage/value/value`; a number carries its axis's name, e.g. `seed1`.
fn node_name(stage: &StageSpecification, coordinates: &Coordinates) -> String {
    let mut name = stage.name.clone();
    for axis in &stage.axes {
        match &coordinates[axis] {
            value @ (AxisValue::Integer(_) | AxisValue::Float(_)) => name += &format!("/{axis}{value}"),
            AxisValue::Text(value) => name += &format!("/{value}"),
        }
    }
    name
}
