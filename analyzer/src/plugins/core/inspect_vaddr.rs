//! `inspect_vaddr`: through which address spaces an address goes, down to the image file.

use crate::os::linux::address_space::SpaceArg;
use crate::os::linux::resolver;
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
        /// The address in that one. Compressed images have no offset of single bytes: there it is the same address.
        base_offset as "Base AS Offset": Read<Address>,
    }
}

impl Plugin for InspectVaddr {
    const NAME: &'static str = "inspect_vaddr";
    const SUMMARY: &'static str = "Follow an address down to the image file";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let mut addr = resolver::address(session, &args.address)?;
        let top = args.space.address_space.open(session)?;
        let mut space = top.as_ref();
        // Each space has one below it, given when it was made, so this ends.
        loop {
            let below = space.base();
            let base_offset = match below {
                Some(_) => space.translate(addr).map_err(|fault| Absent::Unreadable { addr, fault }),
                None => Err(Absent::NotApplicable("the lowest address space")),
            };
            let next = below.zip(base_offset.clone().ok());
            out.push(Row {
                space: space.name(),
                offset: Address(addr),
                base: below.map(memory::AddressSpace::name),
                base_offset: base_offset.map(Address),
            })?;
            let Some((below, target)) = next else { return Ok(()) };
            (space, addr) = (below, target);
        }
    }
}
