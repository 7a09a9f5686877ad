//! The examples at the end of every command's help and man page.

use clap::Command;

/// By command: a command line, and what it does.
const EXAMPLES: &[(&str, &[[&str; 2]])] = &[
    ("quickstart", &[["maple-pipe quickstart", "into maple-pipe-quickstart/"]]),
    ("init", &[["maple-pipe init papers", "a project that runs the papers' pipelines"]]),
    (
        "run",
        &[
            ["maple-pipe run pipelines/quickstart.toml", "execute what is stale, print the table"],
            ["maple-pipe run pipelines/quickstart.toml --dry-run", "say what would run, why, and how long it takes"],
            [
                "maple-pipe run pipelines/base2novel.toml --set 'axes.dataset=[\"eurosat\"]' --set 'axes.seed=[1]'",
                "narrow it",
            ],
            ["maple-pipe run pipelines/base2novel.toml --only 'train/eurosat/*'", "these nodes and what they need"],
            ["maple-pipe run pipelines/base2novel.toml --devices cuda:0,cuda:1", "one node on each card"],
        ],
    ),
    ("status", &[["maple-pipe status pipelines/quickstart.toml", "which nodes are stale, by reason"]]),
    (
        "explain",
        &[["maple-pipe explain pipelines/quickstart.toml train/shapes/maple/seed1", "what changed, value by value"]],
    ),
    (
        "graph",
        &[
            ["maple-pipe graph pipelines/quickstart.toml > graph.svg", "a picture for browsers"],
            ["maple-pipe graph pipelines/quickstart.toml --format mermaid", "for Markdown"],
        ],
    ),
    ("logs", &[["maple-pipe logs pipelines/quickstart.toml train/shapes/maple/seed1", "what the node wrote"]]),
    ("runs", &[["maple-pipe runs", "what was run, newest first"], ["maple-pipe runs last", "one run, node by node"]]),
    (
        "diff",
        &[
            ["maple-pipe diff last~1", "the last run beside the one before"],
            ["maple-pipe diff 20260101 last", "beside one by the start of its identifier"],
        ],
    ),
    (
        "table",
        &[
            ["maple-pipe table pipelines/base2novel.toml", "what is there so far"],
            ["maple-pipe table pipelines/base2novel.toml --format latex --layout wide -o table.tex", "for a paper"],
            ["maple-pipe table pipelines/base2novel.toml --trace maple eurosat novel", "where a number comes from"],
        ],
    ),
    ("compare", &[["maple-pipe compare pipelines/base2novel.toml maple coop", "is the difference more than chance?"]]),
    (
        "report",
        &[[
            "maple-pipe report pipelines/quickstart.toml -o report.html",
            "tables, curves, mistakes and origins in one file",
        ]],
    ),
    (
        "doctor",
        &[
            ["maple-pipe doctor", "libtorch, cards, data sets, store: what is there, what is not"],
            ["maple-pipe doctor pipelines/base2novel.toml --data-root /data", "what this pipeline still lacks"],
        ],
    ),
    (
        "verify",
        &[
            ["maple-pipe verify --remove", "read every artifact, remove what is damaged"],
            ["maple-pipe verify pipelines/quickstart.toml --rerun 'train/*/seed1'", "make nodes again and compare"],
        ],
    ),
    (
        "gc",
        &[
            ["maple-pipe gc --dry-run", "what nobody needs any more"],
            ["maple-pipe gc pipelines/base2novel.toml --keep-runs 0", "keep what this pipeline needs now"],
            ["maple-pipe gc --remote s3://team/maple --grace 90", "what nobody has used for 90 days of a shared store"],
        ],
    ),
    (
        "pull",
        &[["maple-pipe pull pipelines/base2novel.toml --remote s3://team/maple", "what others have computed already"]],
    ),
    (
        "push",
        &[["maple-pipe push pipelines/base2novel.toml --remote s3://team/maple", "what was computed without a remote"]],
    ),
    ("schema", &[["maple-pipe schema method > method.json", "for an editor"]]),
    (
        "completions",
        &[["maple-pipe completions bash > ~/.local/share/bash-completion/completions/maple-pipe", "for bash"]],
    ),
    ("man", &[["maple-pipe man ~/.local/share/man/man1", "then `man maple-pipe-run`"]]),
    ("weights list", &[["maple-pipe weights list --data-root DATA", "what has a name, and what is there"]]),
    ("weights fetch", &[["maple-pipe weights fetch openai/ViT-B-16 --data-root DATA", "what the papers use"]]),
    ("weights check", &[["maple-pipe weights check ViT-B-16.pt", "model, sizes, precision, digest"]]),
    (
        "weights convert",
        &[[
            "maple-pipe weights convert open_clip.bin clip.safetensors --precision fp16",
            "rounded as the published code does",
        ]],
    ),
    ("data list", &[["maple-pipe data list --data-root DATA", "complete, incomplete, or not there"]]),
    ("data fetch", &[["maple-pipe data fetch eurosat dtd --data-root DATA", "into the published layout"]]),
    (
        "data check",
        &[
            ["maple-pipe data check eurosat --data-root DATA --deep", "decode every image, too"],
            ["maple-pipe data check manifests/birds.toml --data-root DATA --per-class", "a data set of your own"],
        ],
    ),
    ("data import", &[["maple-pipe data import /old/eurosat --data-root DATA", "as a link"]]),
    (
        "fewshot",
        &[[
            "maple-pipe fewshot --split split_zhou_EuroSAT.json --shots 16 --seed 1 --classes base",
            "the published sample",
        ]],
    ),
    (
        "prompts import",
        &[["maple-pipe prompts import model.pth.tar-5 --method pipelines/methods/maple.toml", "of the published code"]],
    ),
    ("prompts export", &[["maple-pipe prompts export prompt.safetensors model.pth.tar-5", "for the published code"]]),
    ("prompts show", &[["maple-pipe prompts show prompt.safetensors", "learner, options, learned tensors"]]),
    (
        "prompts interpret",
        &[["maple-pipe prompts interpret prompt.safetensors --weights openai/ViT-B-16", "the nearest words, by depth"]],
    ),
    (
        "predict",
        &[
            ["maple-pipe predict prompt.safetensors holidays/ --classes animals.txt", "a folder of your own pictures"],
            [
                "maple-pipe predict prompt.safetensors a.jpg b.jpg --classes animals.txt --format csv",
                "for a spreadsheet",
            ],
            ["maple-pipe predict prompt.safetensors a.jpg --classes animals.txt --json | jq .images", "for a program"],
        ],
    ),
    (
        "features",
        &[
            ["maple-pipe features prompt.safetensors holidays/ -o features.safetensors", "with learned prompts"],
            ["maple-pipe features openai/ViT-B-16 holidays/ -o features.safetensors", "of plain CLIP"],
        ],
    ),
    (
        "bench step",
        &[
            [
                "maple-pipe bench step --method maple --classes 5,50,500 --precision fp32",
                "how a step grows with classes",
            ],
            ["maple-pipe bench step --method all --device cuda:0 --json", "every learner on a card, for a program"],
        ],
    ),
    (
        "bench eval",
        &[["maple-pipe bench eval --method maple,coop --classes 50,1000", "evaluation beside the bare image tower"]],
    ),
    (
        "bench table",
        &[
            [
                "maple-pipe bench table pipelines/base2novel.toml --device cuda:0",
                "how long the paper's table takes on a card",
            ],
            [
                "maple-pipe bench table pipelines/base2novel.toml --only 'train/*/maple/*' --runs 1",
                "one method's trainings",
            ],
        ],
    ),
    ("bench dag", &[["maple-pipe bench dag --nodes 738", "the engine beside ninja"]]),
    ("bench images", &[["maple-pipe bench images DATA/eurosat/2750 --threads 1,2", "decoding beside Pillow"]]),
];

/// Adds the examples to the commands' help.
pub(super) fn with_examples(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (name, examples)| match name.split_once(' ') {
        Some((group, name)) => {
            command.mut_subcommand(group, |group| group.mut_subcommand(name, |command| with(command, examples)))
        }
        None => command.mut_subcommand(name, |command| with(command, examples)),
    })
}

fn with(command: Command, examples: &[[&str; 2]]) -> Command {
    let example = |[line, what]: &[&str; 2]| format!("  # {what}\n  {line}");
    command.after_help(format!("Examples:\n{}", examples.iter().map(example).collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    /// The words of a line, up to where a shell would send its output elsewhere.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        words.into_iter().take_while(|word| ![">", "|", "#"].contains(&word.as_str())).collect()
    }

    #[test]
    fn examples_are_understood() {
        let own = EXAMPLES.iter().flat_map(|(_, examples)| *examples).map(|[line, _]| *line);
        let documents = [include_str!("../../README.md"), include_str!("../../docs/guide.md")];
        let lines = documents.into_iter().flat_map(str::lines).map(|line| line.trim_start().trim_start_matches("$ "));
        let shown: Vec<&str> = lines.filter(|line| line.starts_with("maple-pipe ")).collect();
        assert!(shown.len() > 40, "{shown:?}");
        for line in own.chain(shown) {
            if let Err(error) = command().try_get_matches_from(words(line)) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &Command, path: &str) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let path = format!("{path} {}", command.get_name());
                assert!(command.has_subcommands() || command.get_after_help().is_some(), "{path}");
                check(command, &path);
            }
        }
        check(&command(), "maple-pipe");
    }
}
