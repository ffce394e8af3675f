//! `inspect_vaddr`: through which address spaces an address goes, down to the image file.
//!
//! Truth: the banner of guests is at the place in the file, and at the physical address.

use memory::Stored;

use crate::os::address_space::SpaceArg;
use crate::os::symbols;
use crate::plugin::prelude::*;

/// The command.
pub struct InspectVaddr;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// An address or symbol
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// What the address means
    #[command(flatten)]
    pub space: SpaceArg,
}

row! {
    pub struct Row {
        /// The address space.
        space as "Address Space": String,
        /// The address in it.
        offset as "Offset": Address,
        /// The address space below; absent for the file itself.
        base as "Base AS": Option<String>,
        /// The address in that one; where it is compressed, that of the compressed block.
        base_offset as "Base AS Offset": Read<Address>,
        /// Bytes of the compressed block; absent where bytes are stored as they are.
        compressed as "Compressed": Option<ByteSize>,
    }
}

impl Plugin for InspectVaddr {
    const NAME: &'static str = "inspect_vaddr";
    const SUMMARY: &'static str = "Follow an address down to the image file";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let mut addr = symbols::address(session, &args.address)?;
        let top = args.space.name(session).open(session)?;
        let mut space = top.as_ref();
        // Each space has one below it, given when it was made, so this ends.
        loop {
            let below = space.base();
            let stored = match below {
                Some(_) => space.stored(addr).map_err(|fault| Absent::Unreadable { addr, fault }),
                None => Err(Absent::NotApplicable("the lowest address space")),
            };
            out.push(Row {
                space: space.name(),
                offset: Address(addr),
                base: below.map(memory::AddressSpace::name),
                base_offset: stored.clone().map(|stored| match stored {
                    Stored::Plain(offset) | Stored::Compressed { block: offset, .. } => Address(offset),
                }),
                compressed: match stored {
                    Ok(Stored::Compressed { len, .. }) => Some(ByteSize(len)),
                    _ => None,
                },
            })?;
            let (Some(below), Ok(Stored::Plain(target))) = (below, stored) else { return Ok(()) };
            (space, addr) = (below, target);
        }
    }
}
