//! A picture as Mermaid text, which GitHub and GitLab draw in Markdown.

use std::fmt::Write;

use super::{By, Picture};

/// Mermaid text; nodes are grouped by stage.
pub fn mermaid(picture: &Picture<'_>) -> String {
    let mut text = String::from("flowchart LR\n");
    let places: Vec<usize> = (0..picture.boxes.len()).collect();
    for (group, stage) in
        places.chunk_by(|&one, &other| picture.boxes[one].stage == picture.boxes[other].stage).enumerate()
    {
        if picture.by == By::Node {
            let _ = writeln!(text, "  subgraph stage{group} [\"{}\"]", escape(picture.boxes[stage[0]].stage));
        }
        for &place in stage {
            let block = &picture.boxes[place];
            let lines = block.lines.iter().map(|line| format!("<br/>{}", escape(line))).collect::<String>();
            let title = escape(block.title);
            let _ = writeln!(text, "  box{place}[\"<b>{title}</b>{lines}\"]:::{}", block.counts.worst().name());
        }
        if picture.by == By::Node {
            text += "  end\n";
        }
    }
    for (from, to) in &picture.arrows {
        let _ = writeln!(text, "  box{from} --> box{to}");
    }
    text + "  classDef fresh fill:#d8f0e5,stroke:#2e8b67,color:#1b2733\n\
            \x20 classDef stale fill:#fbe0b5,stroke:#b36b00,color:#1b2733\n\
            \x20 classDef waiting fill:#ffffff,stroke:#8895a3,color:#1b2733\n\
            \x20 classDef blocked fill:#d0d0d0,stroke:#8895a3,color:#1b2733\n"
}

/// Mermaid's entities are HTML's with `#` for `&`.
fn escape(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}
