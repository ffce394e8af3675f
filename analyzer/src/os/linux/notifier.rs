//! Chains of functions that the kernel calls when something happens (include/linux/notifier.h).

use object::{Missing, Ptr, Target, layout, walk};

use crate::error::Error;
use crate::notes::Notes;

/// Most functions of one chain.
const MAX_BLOCKS: usize = 1 << 16;

/// Heads of chains: symbol and type.
const CHAINS: &[(&str, &str)] = &[
    ("keyboard_notifier_list", "atomic_notifier_head"),
    ("vt_notifier_list", "atomic_notifier_head"),
    ("acpi_chain_head", "blocking_notifier_head"),
    ("cpu_chain", "raw_notifier_head"),
    ("cpufreq_transition_notifier_list", "srcu_notifier_head"),
    ("crypto_chain", "blocking_notifier_head"),
    ("dcbevent_notif_chain", "atomic_notifier_head"),
    ("die_chain", "atomic_notifier_head"),
    ("fb_notifier_list", "blocking_notifier_head"),
    ("inet6addr_chain", "atomic_notifier_head"),
    ("inetaddr_chain", "blocking_notifier_head"),
    ("lease_notifier_chain", "srcu_notifier_head"),
    ("memory_chain", "blocking_notifier_head"),
    ("module_notify_list", "blocking_notifier_head"),
    ("netdev_chain", "raw_notifier_head"),
    ("netevent_notif_chain", "atomic_notifier_head"),
    ("netlink_chain", "blocking_notifier_head"),
    ("oom_notify_list", "blocking_notifier_head"),
    ("panic_notifier_list", "atomic_notifier_head"),
    ("pm_chain_head", "blocking_notifier_head"),
    ("reboot_notifier_list", "blocking_notifier_head"),
    ("tracepoint_notify_list", "blocking_notifier_head"),
    ("usb_notifier_list", "blocking_notifier_head"),
    ("xenstore_chain", "blocking_notifier_head"),
];

layout! {
    /// `notifier_block`: one function of a chain.
    pub struct Block / BlockLayout = "notifier_block" {
        /// The function.
        call: Ptr = "notifier_call",
        /// Next one of the chain, or null.
        next: Ptr = "next",
        /// Functions of higher priority come first.
        priority: i32 = "priority",
    }
}

/// The chains this kernel has: symbol of the head, and the functions in order.
///
/// # Errors
/// When the profile knows no chain at all.
pub fn chains<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<(&'static str, Vec<Block<'t>>)>, Error> {
    let mut found = Vec::new();
    for (symbol, structure) in CHAINS {
        let Ok(head) = target.symbol(symbol) else { continue };
        let first = head.wrapping_add(target.offset_of(structure, "head")?);
        let next = |block| Block::at(target, block).next().map(|Ptr(next)| next);
        let blocks = match target.read_ptr(first) {
            Ok(first) => {
                let walked = walk::chain(first, MAX_BLOCKS, next);
                notes.walk(symbol, &walked.end);
                walked.nodes
            }
            Err(why) => {
                notes.partial(format!("{symbol} cannot be read: {why}"));
                Vec::new()
            }
        };
        found.push((*symbol, blocks.into_iter().map(|block| Block::at(target, block)).collect()));
    }
    if found.is_empty() {
        return Err(Missing::Symbol("keyboard_notifier_list".into()).into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{Memory, texts};
    use super::*;

    const STRUCTS: &str = r#"{"atomic_notifier_head": [16, {"head": [8, ["Pointer"]]}],
        "notifier_block": [24, {"notifier_call": [0, ["Pointer"]], "next": [8, ["Pointer"]], "priority": [16, ["int"]]}]}"#;

    /// A chain that was bent back into itself still gives its functions once, and the loop is told.
    #[test]
    fn a_chain_that_loops_is_told() {
        let mut memory = Memory::default();
        memory
            .words(0x1000, &[0, 0x2000])
            .words(0x2000, &[0xa000, 0x2020, 7])
            .words(0x2020, &[0xb000, 0x2000, 0]);
        let target = memory.target(STRUCTS, &[("keyboard_notifier_list", 0x1000)]);
        let notes = Notes::default();
        let found = chains(&notes, &target).expect("the profile has a chain");
        let [(name, blocks)] = found.as_slice() else { panic!("one chain") };
        assert_eq!(*name, "keyboard_notifier_list");
        let calls: Vec<_> = blocks.iter().map(|block| (block.call(), block.priority())).collect();
        assert_eq!(calls, [(Ok(Ptr(0xa000)), Ok(7)), (Ok(Ptr(0xb000)), Ok(0))]);
        assert_eq!(texts(&notes), ["list keyboard_notifier_list ends in a loop at 0x2000"]);
    }

    #[test]
    fn without_any_chain_there_is_nothing_to_say() {
        assert!(chains(&Notes::default(), &Memory::default().target(STRUCTS, &[])).is_err());
    }
}
