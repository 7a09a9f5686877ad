//! The `maple-pipe` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    maple_pipe::cli::main()
}
