//! JSON Schemas of what users write, made from the types that read it. They say what may stand where, not what must:
//! whatever a table lacks may come from what it includes or from `[defaults]`.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::data::Manifest;
use crate::kind::Kind;
use crate::method::Method;
use crate::stages::KINDS;

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
/// Schemas that stand in many places, by name.
const CHOICE: &str = "choice";
const INCLUDE: &str = "include";
const PATH: &str = "path";
const PLACEHOLDER: &str = "placeholder";
const STAGE: &str = "stage";

/// Of a pipeline.
pub fn pipeline() -> Value {
    let mut generator = generator();
    let value = json!({ "type": ["string", "number"] });
    let with_attributes = json!({
        "description": "A value with attributes, for `{axis.attribute}`.",
        "type": "object",
        "properties": { "name": value },
        "required": ["name"],
    });
    let axis = json!({ "type": "array", "minItems": 1, "items": { "anyOf": [value, with_attributes] } });
    let mut definitions = definitions();
    let tables = KINDS.map(|kind| (kind, table(kind, &mut generator, &mut definitions)));
    let stages: Vec<Value> = tables.iter().map(|(kind, properties)| stage(kind, properties.keys())).collect();
    // What is laid over a stage of an included pipeline need not say its kind again.
    let without_kind = json!({ "type": "object", "not": { "required": ["kind"] } });
    let over_included = json!({ "anyOf": [definition(STAGE), without_kind] });
    definitions[STAGE] = json!({ "anyOf": stages });
    let defaults: Map<String, Value> = tables
        .into_iter()
        .map(|(kind, properties)| {
            let table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
            (kind.name.to_owned(), table)
        })
        .collect();
    json!({
        "$schema": DRAFT,
        "definitions": definitions,
        "title": "A pipeline of maple-pipe",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "include": definition(INCLUDE),
            "name": described("What its results are called: `results/NAME/`.", json!({ "type": "string" })),
            "axes": described("Named lists that stages expand over.", json!({
                "type": "object",
                "properties": { "include": definition(INCLUDE) },
                "additionalProperties": axis,
            })),
            "defaults": described("What every stage of a kind has, unless it says otherwise.", json!({
                "type": "object",
                "properties": defaults,
                "additionalProperties": false,
            })),
            "stage": described("The stages by name.", json!({ "type": "object" })),
            "results": described("The stages, or single outputs, that are written to `results/`.", json!({
                "type": "array",
                "items": { "type": "string", "pattern": "^@" },
            })),
        },
        "if": { "required": ["include"] },
        "then": { "properties": { "stage": { "additionalProperties": over_included } } },
        "else": { "properties": { "stage": { "additionalProperties": definition(STAGE) } } },
    })
}

/// Of a method's file.
pub fn method() -> Value {
    file::<Method>("A method of prompt learning")
}

/// Of a data set's file.
pub fn manifest() -> Value {
    file::<Manifest>("A data set")
}

fn file<T: JsonSchema>(title: &str) -> Value {
    let mut schema = T::json_schema(&mut generator());
    loosen(&mut schema);
    schema.insert("$schema".to_owned(), DRAFT.into());
    schema.insert("definitions".to_owned(), definitions());
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

/// Editors read draft 7 best; without references, every schema can be changed where it stands.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// The keys of a stage's table that its kind decides: inputs and parameters.
fn table(kind: &Kind, generator: &mut SchemaGenerator, definitions: &mut Value) -> Map<String, Value> {
    let mut schema = (kind.schema)(generator);
    loosen(&mut schema);
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take);
    // A kind without parameters has none.
    let mut properties = properties.unwrap_or_default();
    for name in kind.table_parameters {
        let table = properties.remove(*name).expect("a parameter of this kind");
        let table = shared(or(PATH, table), &format!("{}.{name}", kind.name), definitions);
        properties.insert((*name).to_owned(), table);
    }
    let one = json!({ "type": "string" });
    let input = json!({ "anyOf": [one, { "type": "array", "items": one }] });
    for (name, about) in kind.inputs {
        let inputs = json!({ "type": "object", "additionalProperties": input });
        let schema = if kind.is_open { inputs } else { input.clone() };
        properties.insert((*name).to_owned(), described(about, schema));
    }
    properties
}

/// A stage of a kind, with the keys that `defaults` describes.
fn stage<'a>(kind: &Kind, keys: impl Iterator<Item = &'a String>) -> Value {
    let defaults = format!("#/properties/defaults/properties/{}/properties", kind.name);
    let values = json!({ "type": ["string", "number", "array"] });
    let combination = json!({ "type": "object", "additionalProperties": values });
    let combinations =
        |text| described(text, json!({ "anyOf": [combination, { "type": "array", "items": combination }] }));
    let mut properties: Map<String, Value> =
        keys.map(|key| (key.clone(), json!({ "$ref": format!("{defaults}/{key}") }))).collect();
    properties.extend([
        ("kind".to_owned(), described(kind.about, json!({ "const": kind.name }))),
        (
            "axes".to_owned(),
            described("The axes that it expands over.", json!({ "type": "array", "items": { "type": "string" } })),
        ),
        ("only".to_owned(), combinations("Keep only the nodes of these combinations.")),
        ("exclude".to_owned(), combinations("Drop the nodes of these combinations.")),
        ("extra".to_owned(), combinations("Nodes beside those of the product of the axes.")),
    ]);
    json!({ "type": "object", "properties": properties, "required": ["kind"], "additionalProperties": false })
}

/// Makes room for what stands in pipelines: `include` in every table, and `"{axis}"` or a choice for every value. What types demand
/// or choose between is not checked here but where it is read.
fn loosen(schema: &mut Schema) {
    transform_subschemas(&mut loosen, schema);
    let Some(object) = schema.as_object_mut() else { return };
    for name in ["required", "title", "unevaluatedProperties"] {
        object.remove(name);
    }
    let is_single = object.remove("format") == Some("float".into());
    if is_single || object.get("default").is_some_and(|default| default.is_array() || default.is_object()) {
        object.remove("default");
    }
    // TOML has no null.
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
    }
    if let Some(Value::Array(mut variants)) = object.remove("oneOf").or_else(|| object.remove("anyOf")) {
        variants.retain(|variant| variant.get("type") != Some(&"null".into()));
        share_properties(object, &mut variants);
        object.insert("anyOf".to_owned(), variants.into());
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for property in properties.values_mut() {
            *property = or_placeholder(std::mem::take(property));
        }
        properties.insert("include".to_owned(), definition(INCLUDE));
    }
    if let Some(items) = object.get_mut("items") {
        *items = or_placeholder(std::mem::take(items));
    }
}

/// A table that is one of several has the keys of all of them and its own.
fn share_properties(object: &mut Map<String, Value>, variants: &mut [Value]) {
    let Some(Value::Object(shared)) = object.get("properties").cloned() else { return };
    for variant in variants.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(properties)) = variant.get_mut("properties") {
            properties.extend(shared.iter().map(|(key, value)| (key.clone(), or_placeholder(value.clone()))));
        }
        variant.insert("additionalProperties".to_owned(), false.into());
    }
    object.remove("properties");
    object.remove("additionalProperties");
}

fn or_placeholder(schema: Value) -> Value {
    let is_text = schema.get("type") == Some(&"string".into()) && schema.get("enum").or(schema.get("const")).is_none();
    let takes_text = schema["type"].as_array().is_some_and(|types| types.contains(&"string".into()));
    let has = |name: &str| schema["anyOf"].as_array().is_some_and(|either| either.contains(&definition(name)));
    if has(PLACEHOLDER) || has(CHOICE) || schema == definition(INCLUDE) {
        return schema;
    }
    or(if is_text || takes_text { CHOICE } else { PLACEHOLDER }, schema)
}

/// The schema, or the one of this name; its description stays in front.
fn or(name: &str, mut schema: Value) -> Value {
    let mut either = Map::new();
    for name in ["description", "default"] {
        either.extend(schema.as_object_mut().and_then(|schema| schema.remove_entry(name)));
    }
    // A schema that chooses already gets one choice more.
    match schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        Some(choices) => {
            choices.push(definition(name));
            either.insert("anyOf".to_owned(), choices.clone().into());
        }
        None => drop(either.insert("anyOf".to_owned(), json!([schema, definition(name)]))),
    }
    either.into()
}

/// A choice, which stands among the definitions once, whoever has it: under this name, if it is not there yet. Its description
/// stays in front.
fn shared(mut schema: Value, name: &str, definitions: &mut Value) -> Value {
    let choice = json!({ "anyOf": schema["anyOf"].take() });
    let known = definitions.as_object().into_iter().flatten().find(|(_, known)| **known == choice);
    let name = known.map_or_else(|| name.to_owned(), |(name, _)| name.clone());
    schema["allOf"] = json!([definition(&name)]);
    schema.as_object_mut().and_then(|schema| schema.remove("anyOf"));
    definitions[name] = choice;
    schema
}

fn definition(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

fn definitions() -> Value {
    let path = json!({ "description": "The path of a TOML file with the table.", "type": "string" });
    let files = json!({
        "description": "The path of a TOML file, or several, below this table: its own keys win.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    let placeholder =
        json!({ "description": "The value of an axis, or its attribute.", "type": "string", "pattern": r"\{.+\}" });
    let choice = json!({
        "description": "A value for each value of an axis, and one for all others.",
        "type": "object",
        "properties": { "per": { "type": "string" } },
        "required": ["per", "otherwise"],
    });
    let placeholder = json!({ "anyOf": [placeholder, definition(CHOICE)] });
    Value::from_iter([(PATH, path), (INCLUDE, files), (CHOICE, choice), (PLACEHOLDER, placeholder)])
}

fn described(text: &str, mut schema: Value) -> Value {
    schema["description"] = text.into();
    schema
}
