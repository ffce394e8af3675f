//! `rekal`: analyzes memory images. Everything is in the library; see `cli::main`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = profile_gen::worker::serve_if_asked() {
        return code;
    }
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(analyzer::cli::main(&arguments))
}
