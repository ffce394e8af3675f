//! `pools`: the pools that the kernel and its drivers allocate from.
//!
//! One row for each descriptor, or from Windows 10 of 2019 on for each heap of a memory node, and one for each session. Truth: the
//! description of the machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::pool_descriptor::pools;
use crate::plugin::prelude::*;

/// The command.
pub struct Pools;

row! {
    pub struct Row {
        /// Address of what describes the pool: a `_POOL_DESCRIPTOR`, a `_SEGMENT_HEAP`, or a `_MM_SESSION_SPACE`.
        descriptor: Address,
        /// What memory it gives, as `_POOL_TYPE` names it.
        kind as "type": &'static str,
        /// Number among the pools of its kind, of its memory node, or of its session.
        index: Read<u64>,
        /// Bytes in use.
        size: Read<ByteSize>,
        /// First address of the memory that pools of this kind take from.
        start: Read<Address>,
        /// Behind the last one.
        end: Read<Address>,
        /// What it is in words.
        comment: String,
    }
}

impl Plugin for Pools {
    const NAME: &'static str = "pools";
    const SUMMARY: &'static str = "List the pools that the kernel allocates from";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for pool in pools(session, &kernel)? {
            out.push(Row {
                descriptor: Address(pool.descriptor),
                kind: pool.kind.name(),
                index: pool.index,
                size: pool.size.map(ByteSize),
                start: pool.start.map(Address),
                end: pool.end.map(Address),
                comment: pool.comment,
            })?;
        }
        Ok(())
    }
}
