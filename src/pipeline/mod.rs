//! A TOML document to a typed, validated pipeline: axes and stages.

mod axis;
mod combination;
mod reference;

use std::path::Path;

pub use axis::Axis;
pub use combination::{Combination, MANY_NODES, product};
pub use reference::Reference;

use crate::coordinates::Coordinates;
use crate::diagnostic::{Diagnostic, Span};
use crate::document::{self, Data, Entry, Reader, Table, Value, gather, parse_override};
use crate::files::bad_part_of_path;
use crate::kind::Kind;
use crate::stages;
use crate::store::STATE;

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

/// One `[stage.NAME]` table.
#[derive(Debug)]
pub struct StageSpecification {
    /// NAME.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// What it does.
    pub kind: &'static Kind,
    /// The axes it expands over, in the order that node names show.
    pub axes: Vec<String>,
    /// Where there are any, keep only the nodes of these combinations.
    pub only: Vec<Combination>,
    /// Drop the nodes of these combinations.
    pub exclude: Vec<Combination>,
    /// Nodes beside those of the product of the axes.
    pub extra: Vec<Coordinates>,
    /// What is left: parameters and inputs, over those of every stage of its kind.
    pub table: Value,
}

impl Pipeline {
    /// Reads the file at `path` with `--set` overrides laid over it.
    ///
    /// # Errors
    /// Every mistake found in the file and the overrides.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Pipeline, Vec<Diagnostic>> {
        let reader = Reader::default();
        let mut table = reader.pipeline(path).map_err(|mut mistakes| {
            if let [Diagnostic { span: None, hint, .. }] = mistakes.as_mut_slice() {
                *hint = Some("the argument is the path of a pipeline, e.g. `pipelines/quickstart.toml`".into());
            }
            mistakes
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        // Overrides reach into what the axes include.
        if let Some(mut axes) = table.take("axes") {
            axes.value = reader.resolve_shared(&axes.value)?;
            table.put(axes);
        }
        // Its mistakes are told when the axes are read again with the overrides.
        let written = table.get("axes").map_or_else(Vec::new, |axes| Builder::default().axes(&axes.value, &[]));
        let overrides = gather(overrides.iter().map(|text| parse_override(text, folder).map_err(|one| vec![one])))?;
        for (path, value) in overrides {
            known_path(&table, &path).map_err(|mistake| vec![mistake])?;
            document::set(&mut table, &path, value);
        }
        Builder::default().pipeline(path, table, reader, &written)
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
#[derive(Default)]
struct Builder {
    mistakes: Vec<Diagnostic>,
}

impl Builder {
    /// `written`: the axes before overrides.
    fn pipeline(
        mut self,
        path: &Path,
        mut table: Table,
        reader: Reader,
        written: &[Axis],
    ) -> Result<Pipeline, Vec<Diagnostic>> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let known = ["name", "axes", "defaults", "stage", "results"];
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
            None => {
                self.mistakes.extend(bad_stem(&stem));
                stem
            }
        };
        let axes = match table.take("axes") {
            Some(entry) => self.axes(&entry.value, written),
            None => Vec::new(),
        };
        let defaults = match table.take("defaults") {
            Some(entry) => self.defaults(&entry.value),
            None => Vec::new(),
        };
        let results = table.take("results");
        let mut stages = Vec::new();
        match table.take("stage") {
            Some(Entry { value: Value { data: Data::Table(tables), .. }, .. }) => {
                for entry in tables.entries() {
                    stages.extend(self.stage(entry, &axes, &defaults));
                }
            }
            Some(entry) => self
                .mistakes
                .push(Diagnostic::at(&entry.span, "`stage` must be a table of stages").hint("[stage.data]")),
            None if self.mistakes.is_empty() => self.mistakes.push(
                Diagnostic::new(format!("`{}` has no stages", path.display()))
                    .hint("a stage is a table like `[stage.data]` with a `kind`"),
            ),
            None => {}
        }
        let results = match results {
            Some(entry) => self.results(&entry.value, &stages),
            None => {
                let tables = stages.iter().filter(|stage| stage.kind.is_result);
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

    fn axes(&mut self, value: &Value, before: &[Axis]) -> Vec<Axis> {
        let Data::Table(table) = &value.data else {
            let message = format!("`axes` must be a table of lists, not {}", value.type_name());
            self.mistakes.push(Diagnostic::at(&value.span, message).hint("for example `seed = [1, 2, 3]`"));
            return Vec::new();
        };
        for entry in table.entries() {
            self.mistakes.extend(bad_name("axis", &entry.key, &entry.span));
        }
        let before = |name: &str| before.iter().find(|axis| axis.name == name);
        table.entries().iter().map(|entry| Axis::read(entry, before(&entry.key), &mut self.mistakes)).collect()
    }

    /// What every stage of a kind has, by kind.
    fn defaults(&mut self, value: &Value) -> Vec<(&'static Kind, Value)> {
        let Data::Table(table) = &value.data else {
            let message = format!("`defaults` must be a table of tables, not {}", value.type_name());
            self.mistakes.push(Diagnostic::at(&value.span, message).hint("[defaults.train]"));
            return Vec::new();
        };
        let mut defaults = Vec::new();
        for Entry { key, span, value } in table.entries() {
            match (stages::named(key), &value.data) {
                (Some(kind), Data::Table(table)) => {
                    let data = Data::Table(with_files_as_tables(kind, table.clone()));
                    defaults.push((kind, Value { span: value.span.clone(), data }));
                }
                (Some(_), _) => {
                    let message = format!("`defaults.{key}` must be a table, not {}", value.type_name());
                    self.mistakes.push(Diagnostic::at(&value.span, message));
                }
                (None, _) => {
                    let message = format!("unknown kind of stage `{key}`");
                    self.mistakes.push(Diagnostic::at(span, message).suggest(key, &stages::names()));
                }
            }
        }
        defaults
    }

    fn stage(
        &mut self,
        entry: &Entry,
        axes: &[Axis],
        defaults: &[(&'static Kind, Value)],
    ) -> Option<StageSpecification> {
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
        let own: Vec<&Axis> =
            stage_axes.iter().filter_map(|name| axes.iter().find(|axis| axis.name == *name)).collect();
        let mut combinations = |name| {
            let entry = table.take(name);
            entry.map_or_else(Vec::new, |entry| Combination::read(&entry, &own, &mut self.mistakes))
        };
        let (only, exclude, extra) = (combinations("only"), combinations("exclude"), combinations("extra"));
        let extra = extra.iter().flat_map(|combination| combination.expand(&own, &mut self.mistakes)).collect();
        let Some(kind) = table.take("kind") else {
            let message = format!("stage `{}` has no `kind`", entry.key);
            self.mistakes
                .push(Diagnostic::at(&entry.span, message).hint(format!("known: {}", stages::names().join(", "))));
            return None;
        };
        let Some(name) = kind.value.text() else {
            let message = format!("`kind` must be a string, not {}", kind.value.type_name());
            self.mistakes.push(Diagnostic::at(&kind.value.span, message).suggest("", &stages::names()));
            return None;
        };
        let Some(kind) = stages::named(name) else {
            let message = format!("unknown kind of stage `{name}`");
            self.mistakes.push(Diagnostic::at(&kind.value.span, message).suggest(name, &stages::names()));
            return None;
        };
        let mut table = with_files_as_tables(kind, table);
        if let Some((_, defaults)) = defaults.iter().find(|(of, _)| *of == kind) {
            table = over_defaults(defaults, table);
        }
        let table = Value { span: entry.value.span.clone(), data: Data::Table(table) };
        Some(StageSpecification {
            name: entry.key.clone(),
            span: entry.span.clone(),
            kind,
            axes: stage_axes,
            only,
            exclude,
            extra,
            table,
        })
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

/// A parameter that holds a table may be given as the path of a TOML file: that is a table that includes it.
fn with_files_as_tables(kind: &Kind, mut table: Table) -> Table {
    for name in kind.table_parameters {
        if let Some(entry) = table.get(name).cloned()
            && entry.value.text().is_some()
        {
            let span = entry.value.span.clone();
            let mut file = Table::default();
            file.put(Entry { key: "include".into(), span: entry.span.clone(), value: entry.value });
            let value = Value { span, data: Data::Table(file) };
            table.put(Entry { key: entry.key, span: entry.span, value });
        }
    }
    table
}

/// The table laid over what every stage of its kind has.
fn over_defaults(defaults: &Value, mut table: Table) -> Table {
    let mut includes = vec![defaults.clone()];
    if let Some(entry) = table.take("include") {
        match entry.value.data {
            Data::Array(values) => includes.extend(values),
            _ => includes.push(entry.value),
        }
    }
    let span = defaults.span.clone();
    let value = Value { span: span.clone(), data: Data::Array(includes) };
    table.put(Entry { key: "include".into(), span, value });
    table
}

/// Names become folders, files and parts of node names.
fn bad_name(what: &str, name: &str, span: &Span) -> Option<Diagnostic> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_plain) {
        let message = format!("`{name}` cannot be the name of a {what}");
        return Some(Diagnostic::at(span, message).hint("use letters, digits, `_` and `-`"));
    }
    let why = bad_part_of_path(name, STATE)?;
    Some(Diagnostic::at(span, format!("the name of a {what} is part of names of files: {why}")))
}

/// A pipeline that has no name of its own is called as its file is; what it leaves lies in folders of this name.
fn bad_stem(stem: &str) -> Option<Diagnostic> {
    let message = format!("`{stem}`, as the file is called, cannot be the name of a pipeline");
    let hint = "rename the file, or give the pipeline a `name`";
    [".", ".."].contains(&stem).then(|| Diagnostic::new(message).hint(hint))
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
