//! Holds the modules of both packages to their layers: each imports only from modules that stand above it in `lib.rs`, and no
//! files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use regex::Regex;

/// A module by its path, `["data", "batch"]`; the root is empty.
type Module = Vec<String>;

/// What one file says of others.
#[derive(Default)]
struct File {
    /// The modules of a `lib.rs` or `mod.rs`, in order.
    modules: Vec<String>,
    /// Paths that it imports or names.
    paths: Vec<Vec<String>>,
    /// What it hands on with `pub use`, by the name that others use.
    hands_on: BTreeMap<String, Vec<String>>,
}

/// Every path of a `use`: `a::{b, c::d}` has two.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let prefix: Vec<String> =
        tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let inside = &tree[open + 1..tree.rfind('}').expect("a brace that opens also closes")];
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (place, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &inside[start..place];
                if !part.trim().is_empty() {
                    found.extend(paths(part).into_iter().map(|path| [prefix.clone(), path].concat()));
                }
                start = place + 1;
            }
            _ => {}
        }
    }
    found
}

/// Reads a file without its tests, comments and texts.
fn read(text: &str) -> File {
    let without = |text: &str, pattern: &str| Regex::new(pattern).unwrap().replace_all(text, " ").into_owned();
    let text = without(text, r"(?m)//.*$");
    let text = without(&text, r#""(?:[^"\\]|\\.)*""#);
    let text = without(&text, r"(?s)#\[cfg\(test\)\]\s*mod \w+ \{.*");
    let text = without(&text, r"#\[cfg\(test\)\]\s*(#\[[^\]]*\]\s*)*[^;{]*;");
    let modules = Regex::new(r"(?m)^\s*(?:pub(?:\(\w+\))? )?mod (\w+);").unwrap();
    let uses = Regex::new(r"(?m)^\s*(pub(?:\(\w+\))? )?use ([^;]+);").unwrap();
    let mut file =
        File { modules: modules.captures_iter(&text).map(|one| one[1].to_owned()).collect(), ..File::default() };
    let code = modules.replace_all(&text, " ").into_owned();
    let code = uses.replace_all(&code, " ").into_owned();
    for one in uses.captures_iter(&text) {
        for path in paths(&one[2]) {
            let name = path.last().expect("a path has a name").clone();
            match one.get(1) {
                None => file.paths.push(path),
                // What is handed on is imported where the file itself works with it.
                Some(_) => {
                    if Regex::new(&format!(r"\b{name}\b")).is_ok_and(|word| word.is_match(&code)) {
                        file.paths.push(path.clone());
                    }
                    drop(file.hands_on.insert(name, path));
                }
            }
        }
    }
    let named = Regex::new(r"\b[a-z_]\w*(?:::\w+)+").unwrap();
    file.paths.extend(named.find_iter(&code).map(|path| path.as_str().split("::").map(str::to_owned).collect()));
    file
}

/// All files below a `src`, by module.
fn files(source: &Path) -> BTreeMap<Module, File> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(source) {
        let entry = entry.expect("the sources can be read");
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("main.rs") {
            continue;
        }
        let below = path.strip_prefix(source).expect("it lies below").with_extension("");
        let parts = below.iter().map(|part| part.to_string_lossy().into_owned());
        let module: Module = parts.filter(|part| part != "mod" && part != "lib").collect();
        files.insert(module, read(&std::fs::read_to_string(path).expect("the sources can be read")));
    }
    files
}

/// The module that a path of `from` leads to, through whatever hands it on; none where it leads out of the package.
fn resolve(files: &BTreeMap<Module, File>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    assert!(depth < 20, "`{path:?}` is handed on in a circle");
    let below = |module: &Module, name: &String| [module.clone(), vec![name.clone()]].concat();
    let (mut module, mut rest) = match path[0].as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            (from[..from.len().saturating_sub(up)].to_vec(), &path[up..])
        }
        _ if files.contains_key(&below(from, &path[0])) => (from.clone(), path),
        _ => return None,
    };
    while let Some(name) = rest.first().filter(|name| files.contains_key(&below(&module, name))) {
        module = below(&module, name);
        rest = &rest[1..];
    }
    let handed = rest.first().and_then(|name| files[&module].hands_on.get(name));
    let further = handed.and_then(|path| resolve(files, &module, path, depth + 1));
    Some(further.unwrap_or(module))
}

/// What is wrong with the layers of the package whose `src` this is.
fn faults(source: &Path) -> Vec<String> {
    let files = files(source);
    let order = &files[&Module::new()].modules;
    let place =
        |module: &Module| order.iter().position(|name| *name == module[0]).expect("`lib.rs` names every module");
    let mut edges = BTreeSet::new();
    for (from, file) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let to = file.paths.iter().filter_map(|path| resolve(&files, from, path, 0));
        edges.extend(to.filter(|to| !to.is_empty() && to != from).map(|to| (from, to)));
    }
    let back = edges.iter().filter(|(from, to)| place(to) > place(from));
    let mut faults: Vec<String> = back
        .map(|(from, to)| {
            format!("`{}` imports `{}`, which stands below it in `lib.rs`", from.join("::"), to.join("::"))
        })
        .collect();
    let names: Vec<String> = files.keys().map(|module| module.join("::")).collect();
    let index = |module: &Module| files.keys().position(|one| one == module).expect("it is a file") as u32;
    let graph = DiGraph::<(), ()>::from_edges(edges.iter().map(|(from, to)| (index(from), index(to))));
    let circles = tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1);
    faults.extend(circles.map(|circle| {
        let mut circle: Vec<&str> = circle.into_iter().map(|node| names[node.index()].as_str()).collect();
        circle.sort_unstable();
        format!("`{}` import each other in a circle", circle.join("`, `"))
    }));
    faults
}

#[test]
fn each_module_imports_only_from_those_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for package in ["src", "worker/src"] {
        let faults = faults(&root.join(package));
        assert!(faults.is_empty(), "{package}:\n{}", faults.join("\n"));
    }
}

#[test]
fn an_edge_that_goes_back_is_found_however_it_is_written() {
    for (import, expected) in [
        ("use crate::upper::work;", "`lower` imports `upper`, which stands below it in `lib.rs`"),
        ("use crate::{other::x, upper::{self, work}};", "`lower` imports `upper`, which stands below it in `lib.rs`"),
        ("fn f() { crate::upper::work() }", "`lower` imports `upper`, which stands below it in `lib.rs`"),
        ("fn f() { super::upper::work() }", "`lower` imports `upper`, which stands below it in `lib.rs`"),
        ("use crate::room::deep;", ""),
        ("use crate::room::handed_on;", "`lower` imports `upper`, which stands below it in `lib.rs`"),
        ("// use crate::upper::work;\n#[cfg(test)]\nmod tests { use crate::upper::work; }", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("lib.rs", "pub mod other;\nmod room;\nmod lower;\npub mod upper;\n");
        write("other.rs", "pub fn x() {}\n");
        write("room/mod.rs", "mod one;\npub use one::deep;\npub use crate::upper::handed_on;\n");
        write("room/one.rs", "pub fn deep() {}\n");
        write("upper.rs", "use crate::lower::f;\npub fn work() {}\npub fn handed_on() {}\n");
        write("lower.rs", import);
        let found = faults(folder.path());
        assert_eq!(found.first().map_or("", String::as_str), expected, "{import}: {found:?}");
    }
}

#[test]
fn a_circle_within_a_room_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
    std::fs::create_dir(folder.path().join("room")).unwrap();
    write("lib.rs", "mod room;\n");
    write("room/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use two::Two;\n");
    write("room/one.rs", "use super::Two;\npub struct One(Two);\n");
    write("room/two.rs", "use super::one::One;\npub struct Two(Box<One>);\n");
    assert_eq!(faults(folder.path()), ["`room::one`, `room::two` import each other in a circle"]);
}
