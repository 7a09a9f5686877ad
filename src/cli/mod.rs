//! The command line: one file a subcommand; each parses its arguments, calls the library and prints. Data goes to
//! standard output, everything else to standard error.

mod bench;
mod compare;
mod completions;
mod computer;
mod data;
mod diff;
mod doctor;
mod dry_run;
mod examples;
mod explain;
mod features;
mod fewshot;
mod gc;
mod graph;
mod init;
mod logs;
mod man;
mod measured;
mod on_end;
mod pictures;
mod predict;
mod project;
mod prompts;
mod pull;
mod push;
mod quickstart;
mod remote;
mod report;
mod run;
mod runs;
mod schema;
mod standing_report;
mod status;
mod table;
mod terminal;
mod verify;
mod weights;
mod work;

use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Result;
use crate::identity;
use terminal::{complain, print, say};

/// Reproduces the published tables of CLIP prompt learning, and reruns only what changed.
#[derive(Debug, Parser)]
#[command(name = "maple-pipe", version = identity::VERSION, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::Quickstart),
    Init(init::Init),
    Run(run::Run),
    Status(status::Status),
    Explain(explain::Explain),
    Graph(graph::GraphCommand),
    #[command(subcommand)]
    Bench(bench::Bench),
    Schema(schema::SchemaCommand),
    Logs(logs::Logs),
    Runs(runs::Runs),
    Diff(diff::Diff),
    Table(table::TableCommand),
    Compare(compare::Compare),
    Report(report::ReportCommand),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Gc(gc::Gc),
    Pull(pull::Pull),
    Push(push::Push),
    /// Kills the programs of a run that died; `run` starts it
    #[command(hide = true)]
    Reap,
    #[command(hide = true)]
    Work(work::Work),
    Weights(weights::WeightsCommand),
    Data(data::DataCommand),
    Fewshot(fewshot::FewShotCommand),
    Prompts(prompts::PromptsCommand),
    Predict(predict::Predict),
    Features(features::FeaturesCommand),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The command line with the examples of every command.
fn command() -> clap::Command {
    examples::with_examples(Arguments::command())
}

/// Runs the command line; 0 done, 1 a node failed, 2 the input is wrong.
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let result = parsed.map_or_else(answer, execute);
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints what clap answers in place of a command: the help, the version, or what is wrong.
fn answer(answer: clap::Error) -> Result<ExitCode> {
    let text = answer.render().ansi().to_string();
    if answer.use_stderr() {
        say(text.trim_end());
    } else {
        print(&text)?;
    }
    Ok(ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(u8::MAX)))
}

fn execute(arguments: Arguments) -> Result<ExitCode> {
    let result = match arguments.command {
        Command::Quickstart(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Graph(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Logs(command) => command.run(),
        Command::Runs(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Table(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Pull(command) => command.run(),
        Command::Push(command) => command.run(),
        Command::Reap => {
            // Its run says by its standard input that it ends, and by its standard output what it leaves.
            let groups = std::io::stdout().as_fd().try_clone_to_owned();
            groups.map_err(crate::error::Error::io("read", "standard output")).map(|groups| {
                crate::executor::reap(std::io::stdin().lock(), &groups.into());
            })
        }
        Command::Work(command) => command.run(),
        Command::Weights(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Fewshot(command) => command.run(),
        Command::Prompts(command) => command.run(),
        Command::Predict(command) => command.run(),
        Command::Features(command) => command.run(),
        Command::Completions(arguments) => arguments.run(command()),
        Command::Man(arguments) => arguments.run(command()),
    };
    result.map(|()| ExitCode::SUCCESS)
}
