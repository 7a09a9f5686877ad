//! The user's command that hears how a run ended: `on_end` of the settings.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::terminal::warn;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the command, gives it what is said of the run on its standard input, and waits for its end. What it prints goes to
/// standard error. A command that cannot be started, fails or takes too long is a warning: the run is over whatever it does.
pub(super) fn tell(command: &[String], said: &Value) {
    if let Err(message) = try_to_tell(command, said, PATIENCE) {
        warn(&format!("`on_end`: {message}"));
    }
}

fn try_to_tell(command: &[String], said: &Value, patience: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Ok(()) };
    let not_started = |error: std::io::Error| format!("could not start `{program}`: {error}");
    // Standard output is for the data of the run.
    let output = std::io::stderr().as_fd().try_clone_to_owned().map_err(not_started)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(output).process_group(0);
    let mut child = command.spawn().map_err(not_started)?;
    let group = Pid::from_child(&child);
    let (sender, end) = mpsc::channel();
    let line = format!("{said}\n");
    std::thread::spawn(move || {
        if let Some(mut input) = child.stdin.take() {
            // It need not read it.
            let _ = input.write_all(line.as_bytes());
        }
        let _ = sender.send(child.wait());
    });
    match end.recv_timeout(patience) {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` ended with {status}")),
        Ok(Err(error)) => Err(format!("could not wait for `{program}`: {error}")),
        Err(_) => {
            let _ = kill_process_group(group, Signal::KILL);
            Err(format!("`{program}` took longer than {} s and was killed", patience.as_secs_f64()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    /// One that never ends by itself is killed, with what it has started.
    #[test]
    fn a_command_that_goes_on_is_killed() {
        // More than a pipe takes at once.
        let said = Value::from("x".repeat(1 << 20));
        let message = try_to_tell(&shell("sleep 1000 | sleep 1000"), &said, Duration::from_millis(50)).unwrap_err();
        assert_eq!(message, "`sh` took longer than 0.05 s and was killed");
    }

    #[test]
    fn what_is_wrong_with_a_command_is_said() {
        let tell = |command: &[String]| try_to_tell(command, &Value::Null, PATIENCE);
        assert_eq!(tell(&[]), Ok(()));
        assert_eq!(tell(&shell("exit 3")).unwrap_err(), "`sh` ended with exit status: 3");
        assert_eq!(tell(&shell("exec <&-")), Ok(()));
        let message = tell(&["no such program".to_owned()]).unwrap_err();
        assert!(message.starts_with("could not start `no such program`: "), "{message}");
    }
}
