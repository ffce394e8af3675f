//! `rekal`: analyzes memory images. Everything is in the library; see `cli::main`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(analyzer::cli::main(&arguments))
}
