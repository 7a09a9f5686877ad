//! What a browser makes of the report.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{PIPELINE, Project};

/// What Chromium is called.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The first Chromium that starts.
fn chromium() -> Option<&'static str> {
    let starts =
        |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    NAMES.iter().find(starts).copied()
}

pub fn is_there() -> bool {
    chromium().is_some()
}

/// What a browser finds in a page, and what its console says, after a script that is added to the page has run.
fn browse(project: &Project, page: &str, script: &str) -> (Value, Vec<String>) {
    let html = project.read(page);
    let found = "const found = document.createElement('pre'); found.id = 'found'; document.body.append(found);";
    let added =
        format!("<script>{found} found.textContent = JSON.stringify((() => {{ {script} }})());</script></body>");
    project.write("browsed.html", &html.replace("</body>", &added));
    let output = Command::new(chromium().expect("this needs Chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", project.file("browser").display()))
        .arg(format!("file://{}", project.file("browsed.html").display()))
        .env("HOME", project.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let text =
        dom.split_once("<pre id=\"found\">").unwrap_or_else(|| panic!("{dom}")).1.split_once("</pre>").unwrap().0;
    let console = String::from_utf8_lossy(&output.stderr);
    let console = console.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (serde_json::from_str(&htmlize::unescape(text)).unwrap(), console)
}

pub fn tables_sort_in_a_browser() {
    let project = Project::after_a_run();
    project.run(&["report", PIPELINE, "-o", "report.html"]);
    // The values of a column after each click on its heading.
    let script = r#"
        const table = document.querySelector("table.results");
        const values = (column) => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value ?? row.cells[column].textContent);
        const click = (column) => { table.tHead.rows[0].cells[column].querySelector("button").click(); return values(column); };
        const before = values(2);
        return { before, down: click(2), sorted: table.tHead.rows[0].cells[2].getAttribute("aria-sort"), up: click(2), again: click(2),
            methods: click(1), images: [...document.images].every((image) => image.complete && image.naturalWidth > 0),
            wide: document.documentElement.scrollWidth > document.documentElement.clientWidth };
    "#;
    let (found, console) = browse(&project, "report.html", script);
    assert!(console.is_empty(), "{console:?}");
    let numbers = |name: &str| -> Vec<f64> {
        let values = found[name].as_array().unwrap().iter();
        values.map(|value| value.as_str().unwrap().parse().unwrap()).collect()
    };
    let (before, down, up) = (numbers("before"), numbers("down"), numbers("up"));
    let mut sorted = before.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(up, sorted);
    sorted.reverse();
    assert_eq!((down, &found["sorted"]), (sorted, &json!("descending")));
    assert_eq!(numbers("again"), before);
    let methods: Vec<&str> = found["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(methods.is_sorted() && methods.len() == before.len(), "{methods:?}");
    assert_eq!((&found["images"], &found["wide"]), (&json!(true), &json!(false)));
    // Mistakes in a page would be seen.
    let (_, console) = browse(&project, "report.html", "console.error('wrong'); return 0;");
    assert_eq!(console.len(), 1, "{console:?}");
}
