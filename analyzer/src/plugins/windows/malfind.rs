//! `malfind`: memory of processes that may hold injected code.
//!
//! Shown are ranges that can be written and executed and are either private memory or of a section that is no image, as the original
//! has it, when at least one page of them can be read and is not zeros. Programs that make code at run time have such ranges too.
//! Code that is injected into an image, or whose protection was changed afterwards, is not seen. Truth: the description of the
//! machine that the maker of test images lays out; not compared with another program yet.

use memory::AddressSpace as _;

use crate::disassembly::{Mode, disassemble};
use crate::hexdump;
use crate::os::windows::page_state::{State, each};
use crate::os::windows::paged::PagedSpace;
use crate::os::windows::vad::{self, Vad, ranges_of};
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Malfind;

/// Bytes that are shown.
const SHOWN: u16 = 64;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// The descriptor.
        vad as "VAD": ObjRef,
        /// First address.
        start: Address,
        /// Last address.
        end: Address,
        /// Pool tag of the descriptor.
        tag: Read<String>,
        /// Protection of its pages when it was mapped.
        protect: Read<String>,
        /// Bytes of it that can be read.
        in_memory: ByteSize,
        /// First page that is not zeros: its bytes are shown.
        shown_from: Address,
        /// The bytes in hexadecimal and as text; `??` cannot be read.
        hexdump: String,
        /// The bytes as instructions.
        disassembly: ListOf<String>,
    }
}

impl Plugin for Malfind {
    const NAME: &'static str = "malfind";
    const SUMMARY: &'static str = "Find memory of processes that may hold injected code";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            let Some((space, ranges)) = ranges_of(&session.notes, &kernel, &process) else { continue };
            let narrow = kernel.is_32bit() || process.is_wow64() == Ok(true);
            let mode = if narrow { Mode::Bits32 } else { Mode::Bits64 };
            for (start, last, vad) in ranges.iter().filter(|(.., vad)| is_suspicious(vad)) {
                let content = look(&space, *start, *last)?;
                if content.hidden > 0 {
                    session.notes.partial(format!(
                        "{} bytes of the range at {start:#x} of {} cannot be read, so that it cannot be judged whole",
                        content.hidden,
                        process.describe()
                    ));
                }
                let Some(from) = content.first else { continue };
                let code = space.read_vec(from, SHOWN.into(), SHOWN.into()).unwrap_or_default();
                let lines = disassemble(&code, from, mode).into_iter();
                out.push(Row {
                    process: process.obj_ref(),
                    vad: ObjRef {
                        type_name: vad.struct_name().unwrap_or(Vad::STRUCT),
                        addr: vad.addr(),
                        tags: Vec::new(),
                    },
                    start: Address(*start),
                    end: Address(*last),
                    tag: vad.tag().map(|tag| text_of(&tag)),
                    protect: vad.protection().map(vad::Protection::name),
                    in_memory: ByteSize(content.readable),
                    shown_from: Address(from),
                    hexdump: hexdump::cell(&space, from, SHOWN),
                    disassembly: ListOf(
                        lines.map(|line| format!("{:#x} {}", line.address, line.text)).collect(),
                    ),
                })?;
            }
        }
        Ok(())
    }
}

/// Whether code in a range could have been written by anybody. What cannot be read speaks against no range.
fn is_suspicious(vad: &Vad<'_>) -> bool {
    let Ok(protection) = vad.protection() else { return true };
    if !protection.is_executable() || !protection.is_writable() {
        return false;
    }
    match vad.is_private() {
        Ok(true) => vad.tag().is_ok_and(|tag| tag == *b"VadS") || vad.tag().is_err(),
        Ok(false) => !protection.is_copied_on_write(),
        Err(_) => true,
    }
}

/// What is in a range.
#[derive(Default)]
struct Content {
    /// First page that is not zeros.
    first: Option<u64>,
    /// Bytes that can be read.
    readable: u64,
    /// Bytes that are somewhere, but cannot be read.
    hidden: u64,
}

fn look(space: &PagedSpace, start: u64, last: u64) -> Result<Content, Error> {
    let mut content = Content::default();
    let complete = each(space, start, last, |pages| {
        match pages.state {
            State::DemandZero => return Ok(()),
            State::FileMapping | State::Unknown => {
                content.hidden = content.hidden.saturating_add(pages.len);
                return Ok(());
            }
            _ => {}
        }
        let mut page = [0; 4096];
        for at in (0..pages.len).step_by(page.len()).map(|done| pages.start.wrapping_add(done)) {
            if space.read_at(at, &mut page).is_err() {
                content.hidden = content.hidden.saturating_add(4096);
                continue;
            }
            content.readable = content.readable.saturating_add(4096);
            if content.first.is_none() && page.iter().any(|byte| *byte != 0) {
                content.first = Some(at);
            }
        }
        Ok(())
    })?;
    if !complete {
        content.hidden = content.hidden.saturating_add(1);
    }
    Ok(content)
}
