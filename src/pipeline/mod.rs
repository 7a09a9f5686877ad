//! TOML text to a typed, validated pipeline: axes, stages, overrides, and complaints that show the line.

pub mod diagnostic;
pub mod include;
mod overrides;
mod read;
mod reference;
pub mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use diagnostic::{Diagnostic, Source, Span};
pub use include::{Reader, gather};
pub use reference::Reference;
pub use value::{Data, Entry, Table, Value};

use crate::stage::Kind;

/// One pipeline file, typed; its stages are expanded to nodes by `graph`.
#[derive(Debug)]
pub struct Pipeline {
    /// `name`: where results go, `results/<name>/`.
    pub name: String,
    /// The axes in the order they were written.
    pub axes: Vec<Axis>,
    /// The stages in the order they were written.
    pub stages: Vec<StageSpecification>,
    /// The stages, or their outputs, that are written to `results/<name>/`.
    pub results: Vec<Reference>,
    /// Reads the files that the pipeline names.
    pub reader: Reader,
}

/// A named list that stages expand over.
#[derive(Clone, Debug)]
pub struct Axis {
    /// E.g. `dataset`.
    pub name: String,
    /// Its values, without repetition.
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum AxisValue {
    /// E.g. a seed.
    Integer(i64),
    /// E.g. a data set's name.
    Text(String),
}

impl From<&AxisValue> for Data {
    fn from(value: &AxisValue) -> Data {
        match value {
            AxisValue::Integer(value) => Data::Integer(*value),
            AxisValue::Text(value) => Data::Text(value.clone()),
        }
    }
}

impl fmt::Display for AxisValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AxisValue::Integer(value) => write!(formatter, "{value}"),
            AxisValue::Text(value) => formatter.write_str(value),
        }
    }
}

/// The axis values of one node, by axis name.
pub type Coordinates = BTreeMap<String, AxisValue>;

/// One `[stage.NAME]` table.
#[derive(Debug)]
pub struct StageSpecification {
    /// NAME.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// What it does.
    pub kind: Kind,
    /// The axes it expands over, in the order that node names show.
    pub axes: Vec<String>,
    /// Keep only nodes whose value of each named axis is in the list.
    pub only: Filter,
    /// Drop nodes whose value of every named axis is in the list.
    pub exclude: Filter,
    /// What is left: parameters and inputs.
    pub table: Value,
}

/// Axis values by axis name; empty where nothing is filtered.
pub type Filter = BTreeMap<String, BTreeSet<AxisValue>>;

impl Pipeline {
    /// Reads the file at `path` with `--set` overrides laid over it.
    ///
    /// # Errors
    /// Every mistake found in the file and the overrides.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Pipeline, Vec<Diagnostic>> {
        let reader = Reader::default();
        let mut table = reader.file(path, None).map_err(|mut mistakes| {
            if let [Diagnostic { span: None, hint, .. }] = mistakes.as_mut_slice() {
                *hint = Some("the argument is the path of a pipeline, e.g. `pipelines/quickstart.toml`".into());
            }
            mistakes
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let written = written_axes(&table);
        let overrides = gather(overrides.iter().map(|text| overrides::parse(text, folder).map_err(|one| vec![one])))?;
        for (path, value) in overrides {
            known_path(&table, &path).map_err(|mistake| vec![mistake])?;
            overrides::set(&mut table, &path, value);
        }
        Builder { mistakes: Vec::new(), written }.pipeline(path, table, reader)
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&StageSpecification> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The axis of this name.
    pub fn axis(&self, name: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.name == name)
    }
}

/// Types the tables of a pipeline, gathering mistakes instead of stopping at the first.
struct Builder {
    mistakes: Vec<Diagnostic>,
    /// The axes of the file, before overrides.
    written: BTreeMap<String, Vec<AxisValue>>,
}

impl Builder {
    fn pipeline(mut self, path: &Path, mut table: Table, reader: Reader) -> Result<Pipeline, Vec<Diagnostic>> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let known = ["name", "axes", "stage", "results"];
        let unknown = table.entries().iter().filter(|entry| !known.contains(&entry.key.as_str()));
        self.mistakes.extend(unknown.map(|entry| {
            Diagnostic::at(&entry.span, format!("unknown key `{}`", entry.key)).suggest(&entry.key, &known)
        }));
        if !self.mistakes.is_empty() {
            // Without what was meant, the rest would seem full of mistakes.
            return Err(self.mistakes);
        }
        let name = match table.take("name").map(|entry| (entry.value.read::<String>(), entry.value.span)) {
            Some((Ok(name), span)) => {
                self.mistakes.extend(bad_name("pipeline", &name, &span));
                name
            }
            Some((Err(mistake), _)) => {
                self.mistakes.push(mistake);
                stem
            }
            None => stem,
        };
        let axes = match table.take("axes") {
            Some(entry) => self.axes(entry.value),
            None => Vec::new(),
        };
        let results = table.take("results");
        let mut stages = Vec::new();
        match table.take("stage") {
            Some(Entry { value: Value { data: Data::Table(tables), .. }, .. }) => {
                for entry in tables.entries() {
                    stages.extend(self.stage(entry, &axes));
                }
            }
            Some(entry) => self
                .mistakes
                .push(Diagnostic::at(&entry.span, "`stage` must be a table of stages").hint("[stage.data]")),
            None if self.mistakes.is_empty() => self.mistakes.push(Diagnostic {
                message: format!("`{}` has no stages", path.display()),
                span: None,
                hint: Some("a stage is a table like `[stage.data]` with a `kind`".into()),
            }),
            None => {}
        }
        let results = match results {
            Some(entry) => self.results(&entry.value, &stages),
            None => {
                let tables = stages.iter().filter(|stage| stage.kind == Kind::Table);
                let reference = |stage: &StageSpecification| Reference {
                    stage: stage.name.clone(),
                    output: None,
                    span: stage.span.clone(),
                };
                tables.map(reference).collect()
            }
        };
        if self.mistakes.is_empty() { Ok(Pipeline { name, axes, stages, results, reader }) } else { Err(self.mistakes) }
    }

    fn axes(&mut self, value: Value) -> Vec<Axis> {
        let Data::Table(table) = &value.data else {
            let message = format!("`axes` must be a table of lists, not {}", value.type_name());
            self.mistakes.push(Diagnostic::at(&value.span, message).hint("for example `seed = [1, 2, 3]`"));
            return Vec::new();
        };
        for entry in table.entries() {
            self.mistakes.extend(bad_name("axis", &entry.key, &entry.span));
        }
        table.entries().iter().map(|entry| self.axis(&entry.key, &entry.value)).collect()
    }

    fn axis(&mut self, name: &str, value: &Value) -> Axis {
        let mut values = Vec::new();
        if let Data::Array(elements) = &value.data {
            if elements.is_empty() {
                self.mistakes.push(Diagnostic::at(&value.span, format!("axis `{name}` has no values")));
            }
            for element in elements {
                match axis_value(element) {
                    Ok(value) if values.contains(&value) => self
                        .mistakes
                        .push(Diagnostic::at(&element.span, format!("axis `{name}` has the value `{value}` twice"))),
                    Ok(value) => values.push(value),
                    Err(mistake) => self.mistakes.push(mistake),
                }
            }
        } else {
            let message = format!("axis `{name}` must be a list, not {}", value.type_name());
            self.mistakes.push(Diagnostic::at(&value.span, message).hint("for example `seed = [1, 2, 3]`"));
        }
        Axis { name: name.to_owned(), values }
    }

    fn stage(&mut self, entry: &Entry, axes: &[Axis]) -> Option<StageSpecification> {
        let Data::Table(table) = &entry.value.data else {
            let message = format!("stage `{}` must be a table, not {}", entry.key, entry.value.type_name());
            self.mistakes.push(Diagnostic::at(&entry.value.span, message));
            return None;
        };
        self.mistakes.extend(bad_name("stage", &entry.key, &entry.span));
        let mut table = table.clone();
        let known: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
        let mut stage_axes = Vec::new();
        if let Some(list) = table.take("axes") {
            for (name, Value { span, .. }) in self.names(&list.value) {
                if !known.contains(&name.as_str()) {
                    let message = format!("`{name}` is not an axis of this pipeline");
                    self.mistakes.push(Diagnostic::at(span, message).suggest(&name, &known));
                }
                if stage_axes.contains(&name) {
                    self.mistakes.push(Diagnostic::at(span, format!("axis `{name}` is named twice")));
                } else {
                    stage_axes.push(name);
                }
            }
        }
        let only = self.filter(table.take("only"), &stage_axes);
        let exclude = self.filter(table.take("exclude"), &stage_axes);
        let Some(kind) = table.take("kind") else {
            let message = format!("stage `{}` has no `kind`", entry.key);
            self.mistakes
                .push(Diagnostic::at(&entry.span, message).hint(format!("known: {}", Kind::names().join(", "))));
            return None;
        };
        let Some(name) = kind.value.text() else {
            let message = format!("`kind` must be a string, not {}", kind.value.type_name());
            self.mistakes.push(Diagnostic::at(&kind.value.span, message).suggest("", &Kind::names()));
            return None;
        };
        let Some(kind) = Kind::named(name) else {
            let message = format!("unknown kind of stage `{name}`");
            self.mistakes.push(Diagnostic::at(&kind.value.span, message).suggest(name, &Kind::names()));
            return None;
        };
        let table = Value { span: entry.value.span.clone(), data: Data::Table(table) };
        Some(StageSpecification {
            name: entry.key.clone(),
            span: entry.span.clone(),
            kind,
            axes: stage_axes,
            only,
            exclude,
            table,
        })
    }

    fn filter(&mut self, entry: Option<Entry>, stage_axes: &[String]) -> Filter {
        let mut filter = Filter::new();
        let Some(entry) = entry else { return filter };
        let Data::Table(table) = &entry.value.data else {
            let message = format!("`{}` must be a table of axis values, not {}", entry.key, entry.value.type_name());
            self.mistakes.push(Diagnostic::at(&entry.value.span, message).hint("for example `{ method = \"clip\" }`"));
            return filter;
        };
        for axis in table.entries() {
            if !stage_axes.contains(&axis.key) {
                let message = format!("`{}` is not an axis of this stage", axis.key);
                self.mistakes.push(Diagnostic::at(&axis.span, message).suggest(&axis.key, stage_axes));
                continue;
            }
            let one = std::slice::from_ref(&axis.value);
            let elements = if let Data::Array(elements) = &axis.value.data { elements } else { one };
            let values = filter.entry(axis.key.clone()).or_default();
            // Values as written: that an override has narrowed them away is no mistake.
            let written: Vec<String> = self.written(&axis.key).iter().map(ToString::to_string).collect();
            for element in elements {
                match axis_value(element) {
                    Ok(value) if !self.written(&axis.key).contains(&value) => {
                        let message = format!("axis `{}` has no value `{value}`", axis.key);
                        let mistake = Diagnostic::at(&element.span, message).suggest(&value.to_string(), &written);
                        self.mistakes.push(mistake);
                    }
                    Ok(value) => drop(values.insert(value)),
                    Err(mistake) => self.mistakes.push(mistake),
                }
            }
        }
        filter
    }

    fn written(&self, axis: &str) -> &[AxisValue] {
        self.written.get(axis).map_or(&[], Vec::as_slice)
    }

    fn names<'v>(&mut self, value: &'v Value) -> Vec<(String, &'v Value)> {
        let Data::Array(elements) = &value.data else {
            let message = format!("expected a list of names, not {}", value.type_name());
            self.mistakes.push(Diagnostic::at(&value.span, message));
            return Vec::new();
        };
        let mut names = Vec::new();
        for element in elements {
            match element.text() {
                Some(name) => names.push((name.to_owned(), element)),
                None => {
                    let message = format!("expected a name, not {}", element.type_name());
                    self.mistakes.push(Diagnostic::at(&element.span, message));
                }
            }
        }
        names
    }

    /// Whether their outputs are there is known when `graph` has made their nodes.
    fn results(&mut self, value: &Value, stages: &[StageSpecification]) -> Vec<Reference> {
        let known: Vec<String> = stages.iter().map(|stage| format!("@{}", stage.name)).collect();
        let mut results = Vec::new();
        for (name, value) in self.names(value) {
            let reference = Reference::read(value);
            match reference.filter(|reference| stages.iter().any(|stage| stage.name == reference.stage)) {
                Some(reference) => results.push(reference),
                None => {
                    let message = format!("`{name}` is not a stage of this pipeline");
                    self.mistakes.push(Diagnostic::at(&value.span, message).suggest(&name, &known));
                }
            }
        }
        results
    }
}

/// The values of the axes as the file has them; what is no value is complained about elsewhere.
fn written_axes(table: &Table) -> BTreeMap<String, Vec<AxisValue>> {
    let Some(Entry { value: Value { data: Data::Table(axes), .. }, .. }) = table.get("axes") else {
        return BTreeMap::new();
    };
    let values = |entry: &Entry| match &entry.value.data {
        Data::Array(elements) => elements.iter().filter_map(|element| axis_value(element).ok()).collect(),
        _ => Vec::new(),
    };
    axes.entries().iter().map(|entry| (entry.key.clone(), values(entry))).collect()
}

/// Names become folders, files and parts of node names.
fn bad_name(what: &str, name: &str, span: &Span) -> Option<Diagnostic> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let good = !name.is_empty() && name.chars().all(is_plain);
    let mistake = || Diagnostic::at(span, format!("`{name}` cannot be the name of a {what}"));
    (!good).then(|| mistake().hint("use letters, digits, `_` and `-`"))
}

/// An override may add a parameter, but neither an axis nor a stage: such a name is a slip.
fn known_path(table: &Table, path: &[(String, Span)]) -> Result<(), Diagnostic> {
    let [(first, _), (second, span), ..] = path else { return Ok(()) };
    let Some(Entry { value: Value { data: Data::Table(below), .. }, .. }) = table.get(first) else {
        return Ok(());
    };
    if !["axes", "stage"].contains(&first.as_str()) || below.get(second).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = below.entries().iter().map(|entry| entry.key.as_str()).collect();
    Err(Diagnostic::at(span, format!("the pipeline has no `{first}.{second}`")).suggest(second, &known))
}

fn axis_value(value: &Value) -> Result<AxisValue, Diagnostic> {
    match &value.data {
        Data::Integer(integer) => Ok(AxisValue::Integer(*integer)),
        Data::Text(text)
            if text.is_empty()
                || text.starts_with('.')
                || text.contains(['/', '\\'])
                || text.chars().any(char::is_control) =>
        {
            let message = "an axis value is part of node names: it cannot be empty, start with `.` or hold `/`";
            Err(Diagnostic::at(&value.span, message))
        }
        Data::Text(text) => Ok(AxisValue::Text(text.clone())),
        _ => {
            let message = format!("an axis value is a string or an integer, not {}", value.type_name());
            Err(Diagnostic::at(&value.span, message))
        }
    }
}
