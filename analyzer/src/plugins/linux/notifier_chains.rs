//! `notifier_chains`: functions that the kernel calls when something happens.
//!
//! Reads the chains of keyboard and virtual terminals, which key loggers use, and others that tell of modules, network devices,
//! crashes and the like, as far as the kernel has them. A function belongs to the kernel or to a module that is listed.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding. Volatility 3 (keyboard_notifiers) shows the keyboard's chain only.

use object::Ptr;

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::notifier::chains;
use crate::plugin::prelude::*;

/// The command.
pub struct NotifierChains;

row! {
    pub struct Row {
        /// Symbol of the chain.
        chain as "chain_symbol": &'static str,
        /// Place in the chain, from 0.
        index: u64,
        /// Functions of higher priority are called first.
        priority: Read<i32>,
        /// The function.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Whether neither the kernel nor a listed module holds the code.
        hooked: Read<bool>,
    }
}

impl Plugin for NotifierChains {
    const NAME: &'static str = "notifier_chains";
    const SUMMARY: &'static str = "List functions that are told of keys and other events";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        for (chain, blocks) in chains(&session.notes, kernel.target())? {
            for (index, block) in (0..).zip(blocks) {
                let address = block.call().map(|Ptr(call)| call);
                let (symbol, module_name) = code.names_of(&address);
                out.push(Row {
                    chain,
                    index,
                    priority: block.priority(),
                    hooked: address.clone().map(|address| code.is_nobodys(address)),
                    address: address.map(Address),
                    symbol,
                    module_name,
                })?;
            }
        }
        Ok(())
    }
}
