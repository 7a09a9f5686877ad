//! The `maple-pipe-worker` program: runs one node that needs libtorch. `maple-pipe` starts it; people need not.

use std::process::ExitCode;

fn main() -> ExitCode {
    maple_pipe_worker::main()
}
