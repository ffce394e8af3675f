//! Network endpoints: what `tcpip.sys` keeps of connections and sockets.
//!
//! ```text
//! shape      where what stands in its structs, build by build (from Vista on)
//! endpoint   one connection or socket
//! scan       endpoints by their pool tags in physical memory
//! tables     endpoints by the driver's own tables
//! classic    the same of Windows XP and 2003
//! ```

pub mod classic;
pub mod endpoint;
pub mod scan;
mod shape;
pub mod tables;

pub use endpoint::{Endpoint, Seen};
pub use shape::Shapes;

use std::sync::Arc;

use object::{Absent, Read};
use profile::Profile;
use profile::names::PdbId;

use super::Kernel;
use super::resolver::ResolverFact;
use crate::error::Error;
use crate::session::Session;

/// Options of commands that read the network driver's own tables.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DriverArgs {
    /// GUID and age of the debug file of tcpip.sys, where its headers in memory do not tell
    #[arg(long, value_name = "GUIDAGE", value_parser = crate::parse::pdb_id)]
    pub tcpip_guid: Option<PdbId>,
}

/// Where the network driver is and what its symbols are.
pub struct Driver {
    pub(super) base: u64,
    pub(super) profile: Arc<Profile>,
}

impl Driver {
    /// The loaded `tcpip.sys`, described by the profile of the debug file that it names, or of one with another GUID and age.
    pub fn find(session: &Session, args: &DriverArgs) -> Result<Self, Error> {
        let resolver = session.fact::<ResolverFact>()?;
        let (base, profile) = resolver.profile_of(session, "tcpip", args.tcpip_guid)?;
        Ok(Self { base, profile })
    }

    /// Address of one of its variables.
    fn symbol(&self, name: &str) -> Read<u64> {
        let missing = || Absent::NoProfile(object::Missing::Symbol(format!("tcpip!{name}").into()));
        self.profile.symbol(name).map(|rva| self.base.wrapping_add(rva)).ok_or_else(missing)
    }
}

/// The kernel's endpoints are kept as from Vista on; the error says which commands are for older ones.
pub fn require_modern(kernel: &Kernel) -> Result<(), Error> {
    if is_classic(kernel) {
        return Err(Error::usage("not for Windows before Vista")
            .with_hint("use connections and sockets, or connscan and sockscan"));
    }
    Ok(())
}

/// The kernel's endpoints are kept as in Windows XP and 2003; the error says which commands are for newer ones.
pub fn require_classic(kernel: &Kernel) -> Result<(), Error> {
    if is_classic(kernel) {
        return Ok(());
    }
    Err(Error::usage("only for Windows XP and 2003").with_hint("use netstat or netscan"))
}

/// No symbol tells how `tcpip.sys` keeps its endpoints, so the version must.
fn is_classic(kernel: &Kernel) -> bool {
    match kernel.version() {
        Some(version) => version.major < 6,
        None => kernel.build().is_some_and(|build| build < 6000),
    }
}
