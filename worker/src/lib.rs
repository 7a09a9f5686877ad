//! CLIP and its learners on libtorch, and the process that runs a node with them.
//!
//! The worker process: reads one task from standard input, computes with libtorch, tells its progress on standard
//! output. It ends when its standard input does, so it never outlives the run that started it.

pub mod clip;
pub mod method;
mod stage;

use std::io::{Read, Write};
use std::process::ExitCode;

use maple_pipe::run::Line;
use maple_pipe::stage::Task;

/// Runs the task on standard input; the exit code is 0 where it was done.
pub fn main() -> ExitCode {
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_line(&mut text) {
        eprintln!("error: could not read the task: {error}");
        return ExitCode::FAILURE;
    }
    let task: Task = match serde_json::from_str(&text) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("error: this program is started by `maple-pipe run`, which gives it a task: {error}");
            return ExitCode::from(2);
        }
    };
    std::thread::spawn(|| {
        // Nothing more is ever written: the end of this stream is the end of the run.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    match stage::run(&task, &|progress| say(&Line::Progress(progress))) {
        Ok(note) => {
            say(&Line::Done(note));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&Line::Failed(error.to_string(), error.hint().map(str::to_owned)));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for the run; if the run is gone there is nobody to tell.
fn say(line: &Line) {
    let text = serde_json::to_string(line).expect("a line is plain data");
    let _ = writeln!(std::io::stdout(), "{text}");
}
