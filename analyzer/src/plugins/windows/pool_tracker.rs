//! `pool_tracker`: how much pool memory is allocated with each tag.
//!
//! The kernel counts it, so tags of drivers that hide are there too. Truth: the description of the machine that the maker of test
//! images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::pool_tracker::usage;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct PoolTracker;

row! {
    pub struct Row {
        /// Who allocated it: four characters.
        tag: String,
        /// Allocations of memory that stays resident.
        nonpaged: u64,
        /// Their bytes.
        nonpaged_bytes: ByteSize,
        /// Allocations of memory that may be paged out.
        paged: u64,
        /// Their bytes.
        paged_bytes: ByteSize,
    }
}

impl Plugin for PoolTracker {
    const NAME: &'static str = "pool_tracker";
    const SUMMARY: &'static str = "Show how much pool memory is allocated with each tag";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (tag, usage) in usage(&session.notes, kernel.target())? {
            out.push(Row {
                tag: text_of(&tag),
                nonpaged: usage.nonpaged.0,
                nonpaged_bytes: ByteSize(usage.nonpaged.1),
                paged: usage.paged.0,
                paged_bytes: ByteSize(usage.paged.1),
            })?;
        }
        Ok(())
    }
}
