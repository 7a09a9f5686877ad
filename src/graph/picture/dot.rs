//! A picture as Graphviz text.

use std::fmt::Write;

use super::{By, Picture};
use crate::graph::Standing;

/// Graphviz text; nodes are grouped by stage.
pub fn dot(picture: &Picture<'_>) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\", shape=box, style=\"rounded,filled\", \
         fillcolor=white];\n  edge [color=\"#667788\"];\n",
        quote(picture.name)
    );
    for stage in picture.boxes.chunk_by(|one, other| one.stage == other.stage) {
        if picture.by == By::Node {
            let _ = writeln!(
                text,
                "  subgraph {} {{\n    label={};",
                quote(&format!("cluster_{}", stage[0].stage)),
                quote(stage[0].stage)
            );
        }
        for block in stage {
            let _ = match picture.by {
                By::Stage => writeln!(text, "  {} [label=<{}>];", quote(block.title), table(block)),
                By::Node => {
                    let cell = &block.rows[0].cells[0];
                    let label = format!("{}\n{}", block.title, cell.standing);
                    let color = color(cell.standing);
                    let (name, label, reason) = (quote(block.title), quote(&label), quote(&cell.reason));
                    writeln!(text, "    {name} [label={label}, fillcolor={color}, tooltip={reason}];")
                }
            };
        }
        if picture.by == By::Node {
            text += "  }\n";
        }
    }
    for &(from, to) in &picture.arrows {
        let _ = writeln!(text, "  {} -> {};", quote(picture.boxes[from].title), quote(picture.boxes[to].title));
    }
    text + "}\n"
}

/// The box of a stage: its words, and a cell a node.
fn table(block: &super::Block<'_>) -> String {
    let mut text = String::from("<table border=\"0\" cellborder=\"0\" cellspacing=\"2\" cellpadding=\"0\">");
    let width = block.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0) + 1;
    let line = |words: &str| format!("<tr><td colspan=\"{width}\" align=\"left\">{words}</td></tr>");
    text += &line(&format!("<b>{}</b>", escape(block.title)));
    block.lines.iter().for_each(|words| text += &line(&format!("<font point-size=\"11\">{}</font>", escape(words))));
    for row in &block.rows {
        let _ = write!(text, "<tr><td align=\"right\"><font point-size=\"9\">{} </font></td>", escape(&row.label));
        for cell in &row.cells {
            let name = escape(&format!("{}: {}", cell.name, cell.reason));
            let color = color(cell.standing);
            let _ = write!(
                text,
                "<td width=\"10\" height=\"10\" fixedsize=\"true\" border=\"1\" bgcolor={color} tooltip=\"{name}\" \
                 href=\"#\"></td>"
            );
        }
        text += "</tr>";
    }
    text + "</table>"
}

fn color(standing: Standing) -> &'static str {
    match standing {
        Standing::Fresh => "\"#8fd3b6\"",
        Standing::Stale => "\"#f0a030\"",
        Standing::Waiting => "\"#ffffff\"",
        Standing::Blocked => "\"#d0d0d0\"",
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
