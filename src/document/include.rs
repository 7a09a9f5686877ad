//! Resolves what stands in values: `{axis}`, `include`, and values that an axis chooses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::value::{Data, Entry, Table, Value, parse};
use crate::coordinates::AxisValue;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::text::{did_you_mean, similar_path};

/// What names in braces stand for, and which axes have been asked for.
#[derive(Debug, Default)]
pub struct Bindings<'a> {
    /// `{axis}` and `{axis.attribute}`, by the axis's name.
    axes: BTreeMap<&'a str, Binding<'a>>,
    /// `{stage.NAME.KEY}`: the tables of the stages.
    stages: BTreeMap<&'a str, &'a Value>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Bindings<'a> {
    /// Of these axes and the tables of these stages, by name.
    pub fn new(
        axes: impl IntoIterator<Item = (&'a str, Binding<'a>)>,
        stages: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Bindings<'a> {
        Bindings { axes: axes.into_iter().collect(), stages: stages.into_iter().collect(), asked: RefCell::default() }
    }

    /// The axes that values which were resolved with these bindings asked for, also those that are not there: where all
    /// of them have the same values, the same comes out.
    pub fn asked(self) -> BTreeSet<String> {
        self.asked.into_inner()
    }

    fn axis(&self, name: &str) -> Option<&Binding<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(name) {
            asked.insert(name.to_owned());
        }
        self.axes.get(name)
    }
}

/// The word that a name begins with which stands for a value of a stage.
pub const STAGE: &str = "stage";

/// One value of an axis.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The value.
    pub value: &'a AxisValue,
    /// Its attributes, if it has any.
    pub attributes: Option<&'a Table>,
}

/// Reads TOML files, each once.
#[derive(Debug, Default)]
pub struct Reader {
    files: Mutex<HashMap<PathBuf, Arc<TableFile>>>,
}

/// A file that was read.
#[derive(Debug)]
struct TableFile {
    table: Table,
    /// Its path as the file system sees it: `a.toml` and `../here/a.toml` may be one file.
    place: PathBuf,
}

impl Reader {
    /// The table of the TOML file at `path`; `from` is the place that names it.
    pub fn file(&self, path: &Path, from: Option<&Span>) -> Result<Table, Vec<Diagnostic>> {
        Ok(self.read(path, from)?.table.clone())
    }

    /// The table of a pipeline's file over the pipelines that it includes; nothing else in it is resolved.
    pub fn pipeline(&self, path: &Path) -> Result<Table, Vec<Diagnostic>> {
        self.over_includes(path, None, &[])
    }

    fn over_includes(&self, path: &Path, from: Option<&Span>, within: &[PathBuf]) -> Result<Table, Vec<Diagnostic>> {
        let file = self.read(path, from)?;
        if let Some(span) = from.filter(|_| within.contains(&file.place)) {
            return Err(vec![Diagnostic::at(span, format!("`{}` includes itself", path.display()))]);
        }
        let within: Vec<PathBuf> = within.iter().cloned().chain([file.place.clone()]).collect();
        let mut table = file.table.clone();
        let mut result = Table::default();
        for name in table.take("include").iter().flat_map(|include| include.value.elements()) {
            let Some(text) = name.text() else {
                let message = format!("`include` must name a TOML file, not {}", name.type_name());
                return Err(vec![Diagnostic::at(&name.span, message)]);
            };
            result.overlay(self.over_includes(&name.span.folder().join(text), Some(&name.span), &within)?);
        }
        result.overlay(table);
        Ok(result)
    }

    fn read(&self, path: &Path, from: Option<&Span>) -> Result<Arc<TableFile>, Vec<Diagnostic>> {
        if let Some(file) = self.files.lock().expect("no reader panics").get(path) {
            return Ok(file.clone());
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("could not read `{}`: {error}", path.display());
            vec![Diagnostic { span: from.cloned(), hint: similar_path(path), ..Diagnostic::new(message) }]
        })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let source = Arc::new(SourceText { name: path.display().to_string(), folder, text });
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = Arc::new(TableFile { table: parse(&source)?, place });
        self.files.lock().expect("no reader panics").insert(path.to_owned(), file.clone());
        Ok(file)
    }

    /// Replaces `{axis}` in every string by the axis's value, `{axis.attribute}` by that value's attribute, and every
    /// `include` by the files it names, which the table's own keys overlay. A string that is nothing else becomes the
    /// typed value. Last, every value that an axis chooses becomes the chosen one.
    pub fn resolve(&self, value: &Value, names: &Bindings<'_>) -> Result<Value, Vec<Diagnostic>> {
        Ok(chosen(self.resolve_in(value, names, &[])?, names))
    }

    /// The same for what nodes have in common: no name stands for anything yet, and nothing is chosen.
    pub fn resolve_shared(&self, value: &Value) -> Result<Value, Vec<Diagnostic>> {
        self.resolve_in(value, &Bindings::default(), &[])
    }

    /// `within`: the included files that the value stands in, outermost first.
    fn resolve_in(&self, value: &Value, names: &Bindings<'_>, within: &[PathBuf]) -> Result<Value, Vec<Diagnostic>> {
        let data = match &value.data {
            Data::Text(text) => return self.substitute(text, &value.span, names),
            Data::Array(values) => {
                Data::Array(gather(values.iter().map(|value| self.resolve_in(value, names, within)))?)
            }
            Data::Table(table) => {
                let table = self.include(table, names, within)?;
                return Ok(Value { span: place(value, &table), data: Data::Table(table) });
            }
            other => other.clone(),
        };
        Ok(Value { span: value.span.clone(), data })
    }

    /// The table with its includes below it and everything in it resolved.
    fn include(&self, table: &Table, names: &Bindings<'_>, within: &[PathBuf]) -> Result<Table, Vec<Diagnostic>> {
        let mut result = Table::default();
        if let Some(include) = table.get("include") {
            let include = self.resolve_in(&include.value, names, within)?;
            for name in include.elements() {
                let text = match &name.data {
                    Data::Text(text) => text,
                    // Resolved already: the attribute of an axis value, or what every stage of a kind has.
                    Data::Table(table) => {
                        result.overlay(table.clone());
                        continue;
                    }
                    _ => {
                        let message = format!("`include` must name a TOML file, not {}", name.type_name());
                        return Err(vec![Diagnostic::at(&name.span, message)]);
                    }
                };
                let path = name.span.folder().join(text);
                let below = self.read(&path, Some(&name.span))?;
                if within.contains(&below.place) {
                    return Err(vec![Diagnostic::at(&name.span, format!("`{text}` includes itself"))]);
                }
                let within: Vec<PathBuf> = within.iter().cloned().chain([below.place.clone()]).collect();
                result.overlay(self.include(&below.table, names, &within)?);
            }
        }
        let own = table.0.iter().filter(|entry| entry.key != "include");
        let entries = own.map(|entry| {
            let (key, span) = (entry.key.clone(), entry.span.clone());
            Ok(Entry { value: self.resolve_in(&entry.value, names, within)?, key, span })
        });
        result.overlay(Table(gather(entries)?));
        Ok(result)
    }
}

/// The value with every choice in it made. A choice is a table with the keys `per` and `otherwise`, such as
/// `{ per = "dataset", dtd = 1, otherwise = 2 }`: it stands for what it has under the node's value of that axis, and for
/// `otherwise` where it has nothing there, or the node has no such axis.
fn chosen(value: Value, names: &Bindings<'_>) -> Value {
    let Value { span, data } = value;
    let data = match data {
        Data::Array(values) => Data::Array(values.into_iter().map(|value| chosen(value, names)).collect()),
        Data::Table(mut table) => {
            let axis = table.get("per").and_then(|axis| axis.value.text()).map(str::to_owned);
            if let (Some(axis), true) = (axis, table.get("otherwise").is_some()) {
                let value = names.axis(&axis).map(|binding| binding.value.to_string());
                let taken = value.and_then(|value| table.take(&value)).or_else(|| table.take("otherwise"));
                return chosen(taken.expect("a choice has `otherwise`").value, names);
            }
            let entries = table.0.into_iter();
            Data::Table(Table(entries.map(|entry| Entry { value: chosen(entry.value, names), ..entry }).collect()))
        }
        other => other,
    };
    Value { span, data }
}

/// Where a resolved table stands: where it was written, or, if all of it stands in another file, at that file's first
/// key.
fn place(written: &Value, resolved: &Table) -> Span {
    let elsewhere = resolved.0.first().filter(|first| {
        let name = &first.span.source.name;
        *name != written.span.source.name && resolved.0.iter().all(|entry| entry.span.source.name == *name)
    });
    elsewhere.map_or(&written.span, |first| &first.span).clone()
}

/// The table of a TOML file with what it includes, for a command that is given a part of a pipeline alone.
///
/// # Errors
/// When the file cannot be read, is no TOML, or includes what is not there.
pub fn read_table(path: &Path) -> Result<Value, Vec<Diagnostic>> {
    let reader = Reader::default();
    alone(&reader, reader.file(path, None)?, path)
}

/// The table of a TOML text, which a file of this name holds.
///
/// # Errors
/// When it is no TOML, or includes what is not there.
pub fn read_text(text: &str, name: &Path) -> Result<Value, Vec<Diagnostic>> {
    let folder = name.parent().unwrap_or(Path::new("")).to_owned();
    let source = SourceText { name: name.display().to_string(), folder, text: text.to_owned() };
    alone(&Reader::default(), parse(&Arc::new(source))?, name)
}

/// A table that is part of no pipeline, resolved.
fn alone(reader: &Reader, table: Table, name: &Path) -> Result<Value, Vec<Diagnostic>> {
    let source = SourceText { name: name.display().to_string(), folder: PathBuf::new(), text: String::new() };
    let span = table.entries().first().map(|first| first.span.clone());
    let span = span.unwrap_or_else(|| Span { source: Arc::new(source), range: 0..0 });
    reader.resolve(&Value { span, data: Data::Table(table) }, &Bindings::default())
}

/// All values, or all the mistakes; a failure may come without a mistake where it only follows from another.
pub fn gather<T>(results: impl IntoIterator<Item = Result<T, Vec<Diagnostic>>>) -> Result<Vec<T>, Vec<Diagnostic>> {
    let (mut values, mut failure) = (Vec::new(), None);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(mistakes) => failure.get_or_insert_with(Vec::new).extend(mistakes),
        }
    }
    failure.map_or(Ok(values), Err)
}

impl Reader {
    /// `{axis}` becomes the axis's value, `{axis.attribute}` that value's attribute, `{stage.NAME.KEY}` the value in that
    /// stage's table; `{{` and `}}` are plain braces, and so are those of a shell's `${name}`, and of what no axis could be
    /// called, such as the `{}` of a prompt template.
    fn substitute(&self, text: &str, span: &Span, names: &Bindings<'_>) -> Result<Value, Vec<Diagnostic>> {
        let is_word =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let is_name = |name: &str| {
            let of_a_stage = name.split_once('.').is_some_and(|(first, _)| first == STAGE);
            name.splitn(if of_a_stage { usize::MAX } else { 2 }, '.').all(is_word)
        };
        let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = whole.filter(|name| is_name(name)) {
            return self.lookup(name, span, names);
        }
        let mut result = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            result.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let name = rest[1..].split('}').next().filter(|name| rest.starts_with('{') && rest.len() > name.len() + 1);
            if rest.starts_with("{{") || rest.starts_with("}}") {
                result.push_str(&rest[..1]);
                rest = &rest[2..];
            } else if let Some(name) = name.filter(|name| is_name(name) && !result.ends_with('$')) {
                let value = self.lookup(name, span, names)?;
                match &value.data {
                    Data::Integer(value) => result.push_str(&value.to_string()),
                    Data::Float(value) => result.push_str(&value.to_string()),
                    Data::Boolean(value) => result.push_str(&value.to_string()),
                    Data::Text(value) => result.push_str(value),
                    Data::Array(_) | Data::Table(_) => {
                        let message = format!("`{{{name}}}` is {}, which no text can hold", value.type_name());
                        return Err(vec![Diagnostic::at(span, message).hint(format!("write `\"{{{name}}}\"` alone"))]);
                    }
                }
                rest = &rest[name.len() + 2..];
            } else {
                result.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        result.push_str(rest);
        Ok(Value { span: span.clone(), data: Data::Text(result) })
    }

    /// What a name in braces stands for. A value from elsewhere stands where it was written, so that a path in it starts
    /// there.
    fn lookup(&self, name: &str, span: &Span, names: &Bindings<'_>) -> Result<Value, Vec<Diagnostic>> {
        let (axis, attribute) = name.split_once('.').map_or((name, None), |(axis, name)| (axis, Some(name)));
        match (names.axis(axis), attribute) {
            (Some(Binding { value, .. }), None) => Ok(Value { span: span.clone(), data: (*value).into() }),
            (Some(Binding { value, attributes }), Some(attribute)) => {
                let entries = attributes.map_or(&[][..], |attributes| attributes.entries());
                let entry = entries.iter().find(|entry| entry.key == attribute);
                entry.map(|entry| entry.value.clone()).ok_or_else(|| {
                    let message = format!("`{value}` of axis `{axis}` has no attribute `{attribute}`");
                    let known: Vec<&str> =
                        entries.iter().map(|entry| entry.key.as_str()).filter(|key| *key != "name").collect();
                    let add = || format!("in `axes`: `{{ name = \"{value}\", {attribute} = ... }}`");
                    let hint = did_you_mean(attribute, &known).unwrap_or_else(add);
                    vec![Diagnostic::at(span, message).hint(hint)]
                })
            }
            (None, Some(path)) if axis == STAGE => self.of_stage(path, span, names),
            (None, _) => {
                let message = format!("`{{{axis}}}` is not an axis of this stage");
                let known: Vec<&str> = names.axes.keys().copied().collect();
                let plain = || format!("add `{axis}` to its `axes`, or write `{{{{{name}}}}}` for the plain text");
                let hint = did_you_mean(axis, &known).unwrap_or_else(plain);
                Err(vec![Diagnostic::at(span, message).hint(hint)])
            }
        }
    }

    /// The value at `NAME.KEY` among the stages. It is resolved with the same axes, and names no further stage.
    fn of_stage(&self, path: &str, span: &Span, names: &Bindings<'_>) -> Result<Value, Vec<Diagnostic>> {
        let (stage, keys) = path.split_once('.').unwrap_or((path, ""));
        let unknown =
            |message: String, word: &str, known: &[&str]| vec![Diagnostic::at(span, message).suggest(word, known)];
        let Some(table) = names.stages.get(stage) else {
            let known: Vec<&str> = names.stages.keys().copied().collect();
            return Err(unknown(format!("`{{{STAGE}.{path}}}`: there is no stage `{stage}`"), stage, &known));
        };
        let axes_alone = Bindings { axes: names.axes.clone(), ..Bindings::default() };
        let mut found = (*table).clone();
        for (place, key) in keys.split('.').enumerate() {
            let entry = |value: &Value| match &value.data {
                Data::Table(table) => table.get(key).map(|entry| entry.value.clone()),
                _ => None,
            };
            let direct = entry(&found);
            // What is not in the table itself may be in a file that it includes.
            let resolved = if direct.is_none() { self.resolve(&found, &axes_alone)? } else { found.clone() };
            found = direct.or_else(|| entry(&resolved)).ok_or_else(|| {
                let known = match &resolved.data {
                    Data::Table(table) => table.entries().iter().map(|entry| entry.key.as_str()).collect(),
                    _ => Vec::new(),
                };
                let above = keys.split('.').take(place).fold(format!("{STAGE}.{stage}"), |path, key| path + "." + key);
                unknown(format!("`{{{STAGE}.{path}}}`: `{above}` has no `{key}`"), key, &known)
            })?;
        }
        let resolved = self.resolve(&found, &axes_alone);
        names.asked.borrow_mut().extend(axes_alone.asked());
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::value::table;

    #[test]
    fn axis_names_are_substituted() {
        let value = table("a = \"{seed}\"\nb = \"x/{seed}/{}\"\nc = \"{seed.rate}\"");
        let (seed, attributes) = (AxisValue::Integer(3), table("rate = 0.5\nlist = [1]"));
        let Data::Table(attributes) = &attributes.data else { panic!() };
        let axes = Bindings::new([("seed", Binding { value: &seed, attributes: Some(attributes) })], []);
        let Data::Table(table) = Reader::default().resolve(&value, &axes).unwrap().data else { panic!() };
        assert!(matches!(table.get("a").unwrap().value.data, Data::Integer(3)));
        assert!(matches!(table.get("c").unwrap().value.data, Data::Float(0.5)));
        assert_eq!(table.get("b").unwrap().value.text(), Some("x/3/{}"));
        let plain = |text: &str| match Reader::default().substitute(text, &value.span, &axes).unwrap().data {
            Data::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(plain("\\textbf{{x}} {a b} {seed}}}"), "\\textbf{x} {a b} 3}");
        assert_eq!(plain("${HOME} {seed.rate}"), "${HOME} 0.5");
        for wrong in ["{sead}", "x {sead}", "{seed.rat}", "{seed.list} x"] {
            assert!(Reader::default().substitute(wrong, &value.span, &axes).is_err(), "{wrong}");
        }
    }
}
