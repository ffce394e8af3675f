//! `object_types`: the types of objects, and how many objects there are of each.
//!
//! From the kernel's table of types. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::namespace::types;
use crate::plugin::prelude::*;

/// The command.
pub struct ObjectTypes;

row! {
    pub struct Row {
        /// The type.
        kind as "_OBJECT_TYPE": Address,
        /// Its index, by which object headers name it.
        index: Read<u64>,
        /// Objects of the type.
        objects as "NumberOfObjects": Read<u64>,
        /// Handles to such objects.
        handles as "NumberOfHandles": Read<u64>,
        /// Pool that its objects are allocated from (`_POOL_TYPE`): even numbers are never paged out.
        pool_type as "PoolType": Read<u64>,
        /// Its name.
        name: Read<String>,
    }
}

impl Plugin for ObjectTypes {
    const NAME: &'static str = "object_types";
    const SUMMARY: &'static str = "List the types of objects";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for kind in types(&session.notes, kernel.target())? {
            out.push(Row {
                kind: Address(kind.addr()),
                index: kind.index().map(|index| index.0),
                objects: kind.objects().map(u64::from),
                handles: kind.handles().map(u64::from),
                pool_type: kind.pool_type().map(|pool| pool.0),
                name: kind.name(),
            })?;
        }
        Ok(())
    }
}
