//! `manage_repo`: builds a whole repository of profiles from its sources.
//!
//! Reads `v1.0/config.yaml` as the original did (`crate::manage` says how): identities of PDBs, which are fetched from the
//! symbol stores, zips of Linux kernels and profiles written by hand. Conversions run in processes with limits, several at
//! once; a run that was stopped goes on where it was. Truth: the profiles are those of `parse_pdb` and `convert_profile`.

use std::path::PathBuf;
use std::time::Duration;

use profile_gen::worker::{Worker, WorkerLimits};

use crate::manage::{Manager, Request};
use crate::plugin::prelude::*;
use crate::profile_file::Report;

/// The command.
pub struct ManageRepo;

/// What to build.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Entry of config.yaml to build, such as nt/GUID; all by default
    build_target: Option<String>,
    /// For an entry of PDBs: build_all, build ID... or add_guid ID..., each ID a GUID with age or PDB/GUID with age
    builder_args: Vec<String>,
    /// Directory of the repository, which holds v1.0/config.yaml
    #[arg(long, value_name = "DIR", default_value = ".")]
    path_to_repository: PathBuf,
    /// Conversions at once; by default one per processor
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// Build indexes even where no profile is new
    #[arg(long)]
    force_build_index: bool,
    /// Program whose processes convert, instead of this one
    #[arg(long, value_name = "FILE")]
    executable: Option<PathBuf>,
    /// Memory that one conversion may use, in MB
    #[arg(long, value_name = "MB", default_value_t = 3072)]
    max_memory: u64,
    /// Seconds that one conversion may take
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    max_time: u64,
}

impl Plugin for ManageRepo {
    const NAME: &'static str = "manage_repo";
    const SUMMARY: &'static str = "Build a repository of profiles from its sources";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Report;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Report>) -> Result<(), Error> {
        let limits = WorkerLimits {
            memory: args.max_memory << 20,
            cpu_seconds: args.max_time,
            wall: Duration::from_secs(args.max_time),
            threads: 1,
            ..WorkerLimits::default()
        };
        let worker = match &args.executable {
            Some(program) => Worker::new(program.clone(), limits),
            None => Worker::this_program(limits).map_err(|error| Error::analysis(error.to_string()))?,
        };
        let processes = args
            .processes
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
        let request = Request {
            target: args.build_target.as_deref(),
            arguments: &args.builder_args,
            force_index: args.force_build_index,
            processes,
        };
        Manager::new(session, &args.path_to_repository, worker).run(&request, &mut |row| out.push(row))
    }
}
