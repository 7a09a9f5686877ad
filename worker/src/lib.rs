//! CLIP and its learners on libtorch, and the process that runs a node with them.
//!
//! The worker process: reads one task from standard input, computes with libtorch, tells its progress on standard
//! output. A line `stop` asks it to keep its state and end. It ends at once when its standard input does, so it never
//! outlives the run that started it.

pub mod clip;
mod control;
mod device;
pub mod method;
mod stage;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

pub use control::Control;
use maple_pipe::error::Error;
use maple_pipe::run::{Line, STOP};
use maple_pipe::stage::Task;

/// Set when the run asks to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Runs the task on standard input; the exit code is 0 where it was done. With `--count-cards` it only prints how many
/// graphics cards libtorch can use.
pub fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--count-cards") {
        println!("{}", device::count_cards());
        return ExitCode::SUCCESS;
    }
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
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if line == STOP {
                STOPPING.store(true, Ordering::Relaxed);
            }
        }
        // The end of this stream is the end of the run.
        std::process::exit(1);
    });
    let progress = |progress| say(&Line::Progress(progress));
    match stage::run(&task, Control::new(&progress, &|| STOPPING.load(Ordering::Relaxed))) {
        Ok(note) => {
            say(&Line::Done(note, device::memory_used(task.device)));
            ExitCode::SUCCESS
        }
        Err(Error::Interrupted) => {
            say(&Line::Stopped);
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
