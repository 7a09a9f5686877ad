//! What LaTeX makes of a table.

use std::fs;
use std::process::{Command, Stdio};

use crate::numbers::{PIPELINE, partial};

fn pdflatex() -> Command {
    Command::new("pdflatex")
}

pub fn is_there() -> bool {
    pdflatex().arg("--version").output().is_ok()
}

pub fn latex_compiles() {
    let project = partial();
    project.replace(PIPELINE, "maple = \"MaPLe\"", "maple = 'M\\a_P%L&e #1 {{x}} ~^$'");
    let mut document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n".to_owned();
    for layout in ["bands", "wide"] {
        let printed = project.run(&["table", PIPELINE, "--format", "latex", "--layout", layout]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        document += &format!("\\noindent {}\n\n", printed.stdout);
    }
    project.write("paper.tex", &(document + "\\end{document}\n"));
    let arguments = ["-interaction=nonstopmode", "-halt-on-error", "paper.tex"];
    let output = pdflatex().args(arguments).current_dir(project.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(fs::read(project.file("paper.pdf")).unwrap().starts_with(b"%PDF"));
}
