//! `aff4acquire`: writes physical memory as an AFF4 volume (zip).
//!
//! A map over one stream of chunks, compressed on all cores, and what the image tells of page table root and kernel base.
//! Truth: pyaff4 reads the volumes.

use std::hash::{BuildHasher as _, RandomState};

use memory::write::{self, Compression};

use crate::copied::{self, Destination};
use crate::plugin::prelude::*;

/// The command.
pub struct Aff4acquire;

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    /// Fast
    Snappy,
    /// Smaller
    Zlib,
    /// Not at all
    Stored,
}

/// Where to, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    to: Destination,
    /// Compression of the chunks
    #[arg(long, value_enum, default_value = "snappy")]
    compression: Form,
}

impl Plugin for Aff4acquire {
    const NAME: &'static str = "aff4acquire";
    const SUMMARY: &'static str = "Copy physical memory into an AFF4 volume";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = copied::Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Self::Row>) -> Result<(), Error> {
        let image = session.image()?;
        let compression = match args.compression {
            Form::Snappy => Compression::Snappy,
            Form::Zlib => Compression::Zlib,
            Form::Stored => Compression::Stored,
        };
        copied::copy(session, &args.to, out, |file, progress| {
            write::aff4(&*image.space, &image.hints, compression, &uuid(), file, progress)
        })
    }
}

/// A random name in the form of a version 4 UUID; the keys of the standard library's hasher are random.
fn uuid() -> String {
    let random = || RandomState::new().hash_one(0);
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
