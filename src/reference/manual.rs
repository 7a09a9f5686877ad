//! What users may write, as Markdown, made from the types that read it: `docs/reference.md`.

use std::fmt::Write;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schema::generator;
use crate::data::Manifest;
use crate::method::Method;
use crate::stages::KINDS;

const HEAD: &str = r#"# Reference of the TOML files

Made from the code by `maple-pipe schema --markdown`. How the parts go together is shown in [the guide](guide.md).

Everywhere, `"{axis}"` stands for the value of an axis and `"{axis.attribute}"` for an attribute of it, `include = "file.toml"` lays a
table over that file's content, and paths start from the folder of the file that they stand in. In place of any value,
`{ per = "dataset", dtd = 25, otherwise = 50 }` has one for each value of an axis and one for all others.

## A pipeline

* `name` (text): What its results are called: `results/NAME/`. Without it, the file's name.
* `include` (text, or a list): A pipeline, or several, below this one: its own values win.
* `axes` (table): Lists of names or numbers that stages expand over. A value may be a table with a `name` and attributes.
* `defaults` (table by kind): What every stage of a kind has, unless it says otherwise: `[defaults.train]`.
* `results` (list): The stages (`"@table"`) or outputs (`"@eval.predictions"`) that are written to `results/`; without it, all tables.
* `stage` (table by name): The stages, see below.

## Every stage

* `kind` (text, required): What it does: one of the kinds below.
* `axes` (list): The axes that it expands over; one node for each combination of their values.
* `only`, `exclude` (table, or a list): Keep, or drop, the nodes with these values: `exclude = { method = "clip" }`.
* `extra` (table, or a list): Nodes beside the product of the axes, with a value for each of them.

An input is `"@stage"` (the node of that stage with the same values on the axes that both have), `"@stage.output"`, or a path.
"#;

/// The whole reference.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut generator = generator();
    for kind in KINDS {
        heading(&mut text, &format!("`{}`", kind.name), kind.about);
        for (name, about) in kind.inputs {
            item(&mut text, 0, &format!("`{name}` (input)"), about);
        }
        options(&mut text, 0, &(kind.schema)(&mut generator).to_value());
        let outputs: Vec<String> =
            kind.outputs.iter().map(|output| format!("`{}` (`{}`)", output.name, output.path)).collect();
        if !outputs.is_empty() {
            let _ = writeln!(text, "\nIt leaves {}.", outputs.join(", "));
        }
    }
    heading(&mut text, "A method", "A file of `pipelines/methods/`, or the table `method` of a stage.");
    options(&mut text, 0, &Method::json_schema(&mut generator).to_value());
    heading(
        &mut text,
        "A manifest",
        "A file of `data-manifests/`, or the table `manifest` of a stage: what a data set is.",
    );
    options(&mut text, 0, &Manifest::json_schema(&mut generator).to_value());
    text
}

fn heading(text: &mut String, title: &str, about: &str) {
    let _ = writeln!(text, "\n## {title}\n\n{about}\n");
}

fn item(text: &mut String, depth: usize, name: &str, about: &str) {
    let about = about.replace('\n', " ");
    let colon = if about.is_empty() { "" } else { ": " };
    let _ = writeln!(text, "{}* {name}{colon}{about}", "  ".repeat(depth));
}

/// The options of a table, each with those below it.
fn options(text: &mut String, depth: usize, table: &Value) {
    let empty = Map::new();
    let required: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = table["properties"].as_object().unwrap_or(&empty);
    for (name, schema) in properties.iter().filter(|(_, schema)| schema.get("const").is_none()) {
        let mut facts = vec![type_of(schema)];
        facts.extend(required.contains(&name.as_str()).then(|| "required".to_owned()));
        facts.extend(default(schema));
        let name_and_facts = format!("`{name}` ({})", facts.join(", "));
        match section(name) {
            Some(section) => item(text, depth, &name_and_facts, &format!("{} See {section}.", description(schema))),
            None => {
                item(text, depth, &name_and_facts, description(schema));
                below(text, depth + 1, schema);
            }
        }
    }
    variants(text, depth, table);
}

/// The section that describes a table which stands in several places.
fn section(name: &str) -> Option<&'static str> {
    match name {
        "method" => Some("[a method](#a-method)"),
        "manifest" => Some("[a manifest](#a-manifest)"),
        _ => None,
    }
}

/// What an option's value holds.
fn below(text: &mut String, depth: usize, schema: &Value) {
    let schema = without_null(schema);
    if schema.get("properties").is_some() {
        options(text, depth, schema);
    } else if schema.get("items").is_some() {
        below(text, depth, &schema["items"]);
    } else {
        variants(text, depth, schema);
    }
}

/// The choices, where there are several: words, or tables that a word tells apart.
fn variants(text: &mut String, depth: usize, schema: &Value) {
    for variant in choices(schema) {
        if let Some(word) = variant["const"].as_str() {
            item(text, depth, &format!("`\"{word}\"`"), description(variant));
        } else if let Some((key, word)) = tag(variant) {
            item(text, depth, &format!("with `{key} = \"{word}\"`"), description(variant));
            options(text, depth + 1, variant);
        } else if !description(variant).is_empty() {
            item(text, depth, &type_of(variant), description(variant));
            below(text, depth + 1, variant);
        }
    }
}

fn choices(schema: &Value) -> &[Value] {
    let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    choices.map_or(&[], Vec::as_slice)
}

/// The key whose fixed word tells a table from the others.
fn tag(schema: &Value) -> Option<(&str, &str)> {
    let properties = schema["properties"].as_object()?;
    properties.iter().find_map(|(key, value)| Some((key.as_str(), value["const"].as_str()?)))
}

/// TOML has no null: an option that may be absent is simply not required.
fn without_null(schema: &Value) -> &Value {
    match choices(schema) {
        [one, other] if other["type"] == "null" => one,
        _ => schema,
    }
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn default(schema: &Value) -> Option<String> {
    let value = schema.get("default").filter(|value| !value.is_object() && !value.is_null() && **value != json!(""))?;
    let is_single = |schema: &Value| schema["format"] == "float";
    let value = if is_single(schema) || is_single(&schema["items"]) { in_single(value) } else { value.to_string() };
    Some(format!("default `{value}`"))
}

/// Numbers of single precision in the digits that they were given.
fn in_single(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(in_single).collect::<Vec<_>>().join(", ")),
        number => format!("{:?}", number.as_f64().unwrap_or_default() as f32),
    }
}

/// The type in the words of TOML.
fn type_of(schema: &Value) -> String {
    let schema = without_null(schema);
    let word = |name: &str| match name {
        "string" => "text".to_owned(),
        "object" => "table".to_owned(),
        "array" if schema.get("items").is_some() => format!("list of {}", type_of(&schema["items"])),
        "array" => "list".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => word(name),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(word);
            names.collect::<Vec<_>>().join("/")
        }
        _ => {
            let mut words: Vec<String> = choices(schema).iter().map(type_of).collect();
            words.dedup();
            if words.is_empty() { "any value".to_owned() } else { words.join(" or ") }
        }
    }
}
