//! `completions` and `man`: what shells and `man` read of the command line.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use snapbox::str;

use crate::support::Project;

/// The names of all commands but `help`, as the program lists them.
fn commands(project: &Project) -> Vec<String> {
    let help = project.run(&["--help"]).stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        listed.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn completions_know_every_command() {
    let project = Project::new();
    let commands = commands(&project);
    assert!(commands.len() > 15, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let printed = project.run(&["completions", shell]);
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
        for command in &commands {
            assert!(printed.stdout.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(!printed.stdout.contains("reap"), "{shell} offers what is hidden");
    }
    // What bash would offer behind `maple-pipe weights `.
    project.write("completions", &project.run(&["completions", "bash"]).stdout);
    let script = ". ./completions; COMP_WORDS=(maple-pipe weights ''); COMP_CWORD=2; \
                  function=$(complete -p maple-pipe | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
                  $function maple-pipe '' weights; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", script]).current_dir(project.path()).stdin(Stdio::null()).output();
    let offered = String::from_utf8(output.unwrap().stdout).unwrap();
    let offered: BTreeSet<&str> = offered.split_whitespace().collect();
    assert!(["list", "fetch", "check", "convert"].iter().all(|action| offered.contains(action)), "{offered:?}");
}

#[test]
fn every_command_has_a_man_page() {
    let project = Project::new();
    project.prints(
        &["man", "pages/man1"],
        str![[r#"
<stderr>
wrote man pages to pages/man1
<exit code 0>

"#]],
    );
    for command in commands(&project) {
        let page = project.read(&format!("pages/man1/maple-pipe-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    // A command below another has one, too, and it ends with examples.
    let page = fs::read_to_string(project.file("pages/man1/maple-pipe-weights-fetch.1")).unwrap();
    assert!(page.contains("maple\\-pipe weights fetch openai/ViT\\-B\\-16"), "{page}");
}
