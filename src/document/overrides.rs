//! `--set path=value`.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeValue;

use super::value::{Data, Entry, Table, Value, convert};
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// Reads `--set path=value`: the path's words with their places, and the value. A value that is no TOML but a bare word
/// is a string.
pub fn parse(argument: &str, folder: &Path) -> Result<(Vec<(String, Span)>, Value), Diagnostic> {
    let source = Arc::new(SourceText { name: "--set".into(), folder: folder.to_owned(), text: argument.into() });
    let span = |range| Span { source: source.clone(), range };
    let Some(equals) = argument.find('=') else {
        return Err(Diagnostic::at(&span(0..argument.len()), "an override has the form `path=value`")
            .hint("for example `--set stage.shots.shots=8`"));
    };
    let mut start = 0;
    let words = argument[..equals].split('.').map(|word| {
        let at = start + word.len() - word.trim_start().len();
        start += word.len() + 1;
        (word.trim().to_owned(), span(at..at + word.trim().len()))
    });
    let path: Vec<(String, Span)> = words.collect();
    if path.iter().any(|(word, _)| word.is_empty()) {
        return Err(Diagnostic::at(&span(0..equals), "a word of the path is empty")
            .hint("for example `--set stage.shots.shots=8`"));
    }
    let text = &argument[equals + 1..];
    let range = equals + 1..argument.len();
    let mut mistakes = Vec::new();
    let data = match DeValue::parse(text) {
        Ok(value) => convert(value.get_ref(), span(range.clone()), &source, equals + 1, &mut mistakes).data,
        Err(_) if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./@ ".contains(c)) => {
            Data::Text(text.to_owned())
        }
        Err(error) => {
            return Err(Diagnostic::at(&span(range), format!("invalid TOML value: {}", error.message()))
                .hint("lists look like `[1, 2]`, strings like `\"text\"`"));
        }
    };
    match mistakes.pop() {
        Some(mistake) => Err(mistake),
        None => Ok((path, Value { span: span(range), data })),
    }
}

/// Puts `value` at `path`. A string on the way stands for a file's content, so it becomes that file's `include`.
pub fn set(table: &mut Table, path: &[(String, Span)], value: Value) {
    let ((first, span), rest) = path.split_first().expect("a path has at least one word");
    let span = span.clone();
    if rest.is_empty() {
        return table.put(Entry { key: first.clone(), span, value });
    }
    if table.get(first).is_none() {
        let empty = Value { span: span.clone(), data: Data::Table(Table::default()) };
        table.put(Entry { key: first.clone(), span: span.clone(), value: empty });
    }
    let entry = table.0.iter_mut().find(|entry| entry.key == *first).expect("just put");
    if !matches!(entry.value.data, Data::Table(_)) {
        let mut below = Table::default();
        if matches!(entry.value.data, Data::Text(_)) {
            below.put(Entry { key: "include".into(), span: entry.span.clone(), value: entry.value.clone() });
        }
        entry.value = Value { span, data: Data::Table(below) };
    }
    if let Data::Table(below) = &mut entry.value.data {
        set(below, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::value::table;

    #[test]
    fn overrides_descend_into_files() {
        let Data::Table(mut table) = table("[stage.train]\nmethod = \"maple.toml\"").data else { panic!() };
        let (path, value) = parse("stage.train.method.learning_rate=0.1", Path::new("")).unwrap();
        set(&mut table, &path, value);
        let text = format!("{:?}", table.get("stage").unwrap().value.data);
        assert!(text.contains("\"include\"") && text.contains("Float(0.1)"), "{text}");
    }
}
