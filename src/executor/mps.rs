//! NVIDIA's Multi-Process Service (MPS), which comes with the driver: kernels of several processes run on a card side by side,
//! where they take turns without it. A service that runs already is used; else one of our own is started, for the cards of this
//! process, which ends with it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::device::VISIBLE_CARDS;
use crate::shell::find_program;

/// The variable by which programs and the service know the folder of its socket. One that names a folder without a service has
/// kernels take turns.
pub const FOLDER: &str = "CUDA_MPS_PIPE_DIRECTORY";
/// The folder where nobody names one.
const USUAL: &str = "/tmp/nvidia-mps";
/// The socket, in that folder.
const SOCKET: &str = "control";
/// The variable by which the service knows where its logs go.
const LOGS: &str = "CUDA_MPS_LOG_DIRECTORY";
/// The program that starts and ends the service.
const CONTROL: &str = "nvidia-cuda-mps-control";
/// Where drivers have it in containers, beside `PATH`.
const PLACES: &str = "/usr/bin:/usr/local/nvidia/bin";
/// How long a service may take to start, and to end; a tenth of a second is usual.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keeps the service until standard input ends, whose other end is ours, however we end. `$1` is the program, `$2` the folder,
/// where the service has files of its own; `$3` are the seconds that it may take to end.
const KEEP: &str = r#"
"$1" -f >"$2/output" 2>&1 </dev/null &
service=$!
read -r line
echo quit | "$1" >>"$2/output" 2>&1 &
(sleep "$3"; kill -9 $service) &
late=$!
wait $service
kill $late
rm -r "$2""#;

/// Whether kernels of several processes may run side by side on this computer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mps {
    /// A service runs, with its socket in this folder.
    Runs(PathBuf),
    /// This program starts one.
    CanStart(PathBuf),
    /// There is none.
    Absent,
}

impl Mps {
    /// Looks for the service. Whether it works with a card, nobody knows before a process has asked the card.
    pub fn look() -> Mps {
        let path = env::var_os("PATH").unwrap_or_default();
        Mps::look_at(env::var_os(FOLDER), Path::new(USUAL), &path)
    }

    fn look_at(named: Option<OsString>, usual: &Path, path: &OsString) -> Mps {
        if let Some(folder) = named.map(PathBuf::from).filter(|folder| !folder.as_os_str().is_empty()) {
            return if folder.join(SOCKET).exists() { Mps::Runs(folder) } else { Mps::Absent };
        }
        if runs_in(usual) {
            return Mps::Runs(usual.to_owned());
        }
        let program = find_program(CONTROL, path).or_else(|| find_program(CONTROL, PLACES.as_ref()));
        program.map_or(Mps::Absent, Mps::CanStart)
    }
}

/// Whether the process lives that wrote its number into this folder; a socket stays where a service was killed.
fn runs_in(folder: &Path) -> bool {
    let number = fs::read_to_string(folder.join(format!("{CONTROL}.pid"))).unwrap_or_default();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    !digits.is_empty() && Path::new("/proc").join(digits).exists()
}

/// A service of our own.
#[derive(Debug)]
struct Service {
    keeper: Child,
    folder: PathBuf,
    /// The cards, as `CUDA_VISIBLE_DEVICES` names them: programs must name them alike.
    cards: String,
}

static SERVICE: Mutex<Option<Service>> = Mutex::new(None);

fn service() -> MutexGuard<'static, Option<Service>> {
    SERVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a service for the cards of these identifiers, all that this process may use in their order; workers that start later
/// use it. Does nothing where one of ours runs. Returns whether one does.
pub fn start(program: &Path, cards: &[String]) -> bool {
    let mut service = service();
    if service.is_none() {
        *service = Service::start(program, cards.join(","));
    }
    service.is_some()
}

/// Ends our service, if there is one; workers that start later do without.
pub fn stop() {
    let stopped = service().take();
    drop(stopped);
}

/// The process that keeps our service.
pub(super) fn keeper() -> Option<u32> {
    service().as_ref().map(|service| service.keeper.id())
}

/// What a process needs to know of our service.
pub(super) fn environment() -> Vec<(&'static str, OsString)> {
    service().as_ref().map_or(Vec::new(), |service| {
        vec![(FOLDER, service.folder.clone().into()), (VISIBLE_CARDS, service.cards.clone().into())]
    })
}

impl Service {
    fn start(program: &Path, cards: String) -> Option<Service> {
        let folder = tempfile::Builder::new().prefix("maple-pipe-mps-").tempdir().ok()?;
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).ok()?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(KEEP).arg("sh").arg(program).arg(folder.path()).arg(PATIENCE.as_secs().to_string());
        command.env(FOLDER, folder.path()).env(LOGS, &logs).env(VISIBLE_CARDS, &cards);
        // Ctrl-C is for the run, which ends its workers first.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let keeper = command.spawn().ok()?;
        // The keeper removes it.
        let folder = folder.keep();
        let service = Service { keeper, folder, cards };
        let started = Instant::now();
        while !service.folder.join(SOCKET).exists() {
            if started.elapsed() > PATIENCE {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Writes a program to a folder.
    fn program(folder: &Path, name: &str, text: &str) -> PathBuf {
        let file = folder.join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn a_service_is_looked_for_where_programs_would() {
        let folder = tempfile::tempdir().unwrap();
        let [named, usual, programs] = ["named", "usual", "programs"].map(|name| folder.path().join(name));
        [&named, &usual, &programs].iter().for_each(|one| fs::create_dir(one).unwrap());
        let look = |variable: Option<&Path>| {
            Mps::look_at(
                variable.map(|folder| folder.as_os_str().to_owned()),
                &usual,
                &programs.clone().into_os_string(),
            )
        };
        let control = program(&programs, CONTROL, "exit");
        assert_eq!(look(None), Mps::CanStart(control.clone()));
        assert_eq!(look(Some(Path::new(""))), Mps::CanStart(control));
        // A user who names a folder without a service wants none.
        assert_eq!(look(Some(&named)), Mps::Absent);
        fs::write(named.join(SOCKET), "").unwrap();
        assert_eq!(look(Some(&named)), Mps::Runs(named.clone()));
        let runs = |number: u32| {
            fs::write(usual.join(format!("{CONTROL}.pid")), format!("{number}\n")).unwrap();
            look(None) == Mps::Runs(usual.clone())
        };
        assert!(runs(std::process::id()));
        assert!(!runs(u32::MAX), "nobody has this number");
    }

    /// With a stand-in for NVIDIA's program, which does what that does with its folder, its standard input and its arguments.
    #[test]
    fn our_service_lasts_as_long_as_we_want_it() {
        let folder = tempfile::tempdir().unwrap();
        let stand_in = r#"
            cd "$CUDA_MPS_PIPE_DIRECTORY" || exit
            if [ "$1" = -f ]; then
                [ ! -e log ] && mkdir log || exit; mkfifo commands
                echo "$CUDA_VISIBLE_DEVICES" >new; mv new control; read -r command <commands
            else
                read -r command; echo "$command" >"$(dirname "$0")/said"; echo "$command" >commands
            fi"#;
        let control = program(folder.path(), CONTROL, stand_in);
        let service = Service::start(&control, "GPU-1,GPU-2".to_owned()).unwrap();
        let at = service.folder.clone();
        assert_eq!(fs::read_to_string(at.join(SOCKET)).unwrap(), "GPU-1,GPU-2\n");
        drop(service);
        assert_eq!(fs::read_to_string(folder.path().join("said")).unwrap(), "quit\n");
        assert!(!at.exists());
    }

    #[test]
    fn a_service_that_does_not_start_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let control = program(folder.path(), CONTROL, "echo no such card; exit 1");
        assert!(Service::start(&control, "GPU-1".to_owned()).is_none());
    }

    #[test]
    fn a_service_that_does_not_end_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let stand_in = r#"
            cd "$CUDA_MPS_PIPE_DIRECTORY" && [ "$1" = -f ] && echo $$ >new && mv new control && exec sleep 1000"#;
        let service = Service::start(&program(folder.path(), CONTROL, stand_in), "GPU-1".to_owned()).unwrap();
        let at = service.folder.clone();
        let number = fs::read_to_string(at.join(SOCKET)).unwrap();
        drop(service);
        assert!(!Path::new("/proc").join(number.trim()).exists());
        assert!(!at.exists());
    }
}
