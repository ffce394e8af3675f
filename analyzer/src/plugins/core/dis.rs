//! `dis`: code in memory as instructions.
//!
//! Truth: `objdump -d` of programs and libraries that guests booted with, behind the system calls in which their processes sleep, and
//! `llvm-objdump -d` of the `vmlinux` of guests. Code of ARM64 is refused: no decoder of it is built in.

use crate::disassembly::{Mode, disassemble};
use crate::os::Kernel;
use crate::os::address_space::SpaceArg;
use crate::os::symbols::{self, Symbols};
use crate::plugin::prelude::*;

/// The command.
pub struct Dis;

/// Most bytes that are looked at.
const MAX_LENGTH: u64 = 16 << 20;
/// Longest instruction.
const LONGEST: u64 = 15;

/// Width of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Width {
    /// 32-bit code
    #[value(name = "I386", alias = "32")]
    I386,
    /// 64-bit code
    #[value(name = "AMD64", alias = "64")]
    Amd64,
}

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to start: an address or symbol
    #[arg(value_name = "ADDRESS")]
    offset: String,
    #[command(flatten)]
    space: SpaceArg,
    /// Bytes of code to show
    #[arg(long, value_name = "BYTES", value_parser = crate::parse::address)]
    length: Option<u64>,
    /// Address to stop at, or a symbol
    #[arg(long, value_name = "ADDRESS", conflicts_with = "length")]
    end: Option<String>,
    /// Instructions to show, where nothing says how much
    #[arg(long, value_name = "N", default_value_t = 40)]
    count: u64,
    /// Kind of code [default: that of the kernel]
    #[arg(long, value_name = "MODE", ignore_case = true)]
    mode: Option<Width>,
}

row! {
    pub struct Row {
        /// Address of the instruction.
        address: Address,
        /// Symbol that begins there; in the first row the one that precedes it.
        rel: Option<String>,
        /// Its bytes in hexadecimal.
        opcode: String,
        /// The instruction, in Intel's syntax; `(bad)` for what is none.
        instruction: String,
        /// The symbol it leads to or uses.
        comment: Option<String>,
    }
}

impl Plugin for Dis {
    const NAME: &'static str = "dis";
    const SUMMARY: &'static str = "Disassemble code";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let start = symbols::address(session, &args.offset)?;
        let name = args.space.name(session);
        let space = name.open(session)?;
        let resolver = if name.is_virtual() { Some(symbols::symbols(session)?) } else { None };
        let mode = match args.mode {
            Some(Width::I386) => Mode::Bits32,
            None if name.is_virtual() => {
                Mode::of(Kernel::of(session)?.target().types()).map_err(|absent| {
                    Error::analysis(absent.to_string()).with_hint("--mode shows it as x86 code")
                })?
            }
            Some(Width::Amd64) | None => Mode::Bits64,
        };
        let end = match (&args.end, args.length) {
            (Some(end), _) => Some(symbols::address(session, end)?),
            (None, length) => length.map(|length| start.saturating_add(length)),
        };
        let most = if end.is_some() { u64::MAX } else { args.count };
        let wanted = end.map_or(args.count.saturating_mul(LONGEST), |end| end.saturating_sub(start));
        if wanted > MAX_LENGTH {
            session.notes.partial(format!("only the first {MAX_LENGTH} bytes of code are shown"));
        }
        let wanted = usize::try_from(wanted.min(MAX_LENGTH)).unwrap_or(0);
        let mut code = vec![0; wanted];
        let gaps = space.read_padded(start, &mut code);
        if let Some((at, fault)) = gaps.first {
            // Only what precedes the first missing byte is code.
            code.truncate(usize::try_from(at.saturating_sub(start)).unwrap_or(0));
            session.notes.partial(format!("the code cannot be read at {at:#x}: {fault}"));
        }
        for (shown, line) in (0..most).zip(disassemble(&code, start, mode)) {
            let named = |address: u64| resolver.as_ref().and_then(|resolver| resolver.describe(address));
            let here = named(line.address).filter(|name| shown == 0 || !name.contains('+'));
            out.push(Row {
                address: Address(line.address),
                rel: here,
                opcode: line.bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
                comment: resolver.as_ref().and_then(|resolver| comment(&**resolver, &line.text)),
                instruction: line.text,
            })?;
        }
        if let Some(resolver) = resolver {
            resolver.report(&session.notes);
        }
        Ok(())
    }
}

/// The symbols of the addresses in an instruction.
fn comment(resolver: &dyn Symbols, text: &str) -> Option<String> {
    let is_digit = |c: char| c.is_ascii_hexdigit() || c == 'x';
    let numbers = text.split(|c| !is_digit(c)).filter_map(|word| word.strip_prefix("0x"));
    // Short numbers are offsets and sizes.
    let addresses =
        numbers.filter(|digits| digits.len() > 5).filter_map(|digits| u64::from_str_radix(digits, 16).ok());
    let names: Vec<String> = addresses.filter_map(|address| resolver.describe(address)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
