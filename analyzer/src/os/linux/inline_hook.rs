//! Functions of the kernel whose first instructions were overwritten to lead elsewhere (x86; ARM64 in `inline_hook/arm64.rs`).
//!
//! Patching a function in place needs a jump at its start. What begins a function of a compiled kernel is skipped: a landing pad
//! for indirect jumps, and the five bytes where ftrace calls its own code. Jumps inside the kernel's code are how compilers end
//! functions and are no finding.

mod arm64;

use object::Target;

use super::code::Code;
use super::ftrace::Ops;

/// Bytes of a function that are looked at: landing pad, ftrace's place, and the longest jump.
const LENGTH: usize = 40;

/// How the start of a function leads away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detour {
    /// A jump.
    Jump(u64),
    /// A call before anything else.
    Call(u64),
    /// A return to an address pushed before.
    Return(u64),
}

impl Detour {
    /// Where it leads.
    #[must_use]
    pub fn destination(self) -> u64 {
        match self {
            Self::Jump(to) | Self::Call(to) | Self::Return(to) => to,
        }
    }

    /// The word shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jump(_) => "jump",
            Self::Call(_) => "call",
            Self::Return(_) => "push and return",
        }
    }
}

/// A function that leads away.
pub struct Patched {
    /// Where it begins.
    pub function: u64,
    /// Its first bytes.
    pub code: Vec<u8>,
    /// How it leads away.
    pub detour: Detour,
    /// Whether the code made for a listed `ftrace_ops` is where it leads.
    pub ftrace: bool,
}

/// Functions of the kernel that lead out of its code at their start, and how many could not be read.
#[must_use]
pub fn patched(target: &Target, code: &Code, ftrace: &[Ops<'_>]) -> (Vec<Patched>, usize) {
    let text = code.kernel_text();
    let symbols = target.types().profile().symbols().map(|symbol| target.to_run_time(symbol.value));
    let mut functions: Vec<u64> = symbols.filter(|address| text.contains(address)).collect();
    functions.sort_unstable();
    functions.dedup();
    let (mut found, mut missing) = (Vec::new(), 0usize);
    let is_arm64 = target.types().profile().arch() == Some("ARM64");
    for function in functions {
        let left = usize::try_from(text.end.saturating_sub(function)).unwrap_or(LENGTH).min(LENGTH);
        let Ok(bytes) = target.read_bytes(function, left as u64, LENGTH) else {
            missing += 1;
            continue;
        };
        let wide = target.types().model().pointer_size() == 8;
        let pointer = |place| target.read_ptr(place).ok();
        let detour = if is_arm64 {
            arm64::detour(&bytes, function, pointer)
        } else {
            detour(&bytes, function, wide, pointer)
        };
        let Some(detour) = detour else { continue };
        let to = detour.destination();
        if !code.is_own(to) {
            let ftrace = ftrace.iter().any(|ops| ops.has_trampoline(to));
            found.push(Patched { function, code: bytes, detour, ftrace });
        }
    }
    (found, missing)
}

/// What the code at `address` does first, where that is to lead away. `pointer` reads the memory of an indirect jump.
fn detour(code: &[u8], address: u64, wide: bool, pointer: impl Fn(u64) -> Option<u64>) -> Option<Detour> {
    let mut rest = code;
    let mut call = None;
    loop {
        let at = address.wrapping_add((code.len().saturating_sub(rest.len())) as u64);
        // From the end of an instruction of `length` bytes whose distance is in its last four.
        let relative = |rest: &[u8], length: usize| {
            let distance = rest.get(length.checked_sub(4)?..length)?.first_chunk::<4>()?;
            let distance = i64::from(i32::from_le_bytes(*distance));
            let to = at.wrapping_add(length as u64).wrapping_add(distance.cast_unsigned());
            Some(if wide { to } else { to & 0xffff_ffff })
        };
        let immediate =
            |rest: &[u8], at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk::<8>()?));
        match rest {
            // endbr64, endbr32; nop, and the five-byte nop of ftrace.
            [0xf3, 0x0f, 0x1e, 0xfa | 0xfb, tail @ ..]
            | [0x0f, 0x1f, 0x44, 0, 0, tail @ ..]
            | [0x90, tail @ ..] => rest = tail,
            [0xe8, _, _, _, _, tail @ ..] if call.is_none() => {
                call = relative(rest, 5);
                rest = tail;
            }
            [0xe9, ..] => return relative(rest, 5).map(Detour::Jump),
            [0xff, 0x25, ..] if wide => return relative(rest, 6).and_then(pointer).map(Detour::Jump),
            // mov reg, imm64; jmp reg or push reg, ret.
            [0x48, 0xb8..=0xbf, _, _, _, _, _, _, _, _, 0xff, 0xe0..=0xe7, ..]
            | [0x49, 0xb8..=0xbf, _, _, _, _, _, _, _, _, 0x41, 0xff, 0xe0..=0xe7, ..]
                if wide =>
            {
                return immediate(rest, 2).map(Detour::Jump);
            }
            [0x48, 0xb8..=0xbf, _, _, _, _, _, _, _, _, 0x50..=0x57, 0xc3, ..] if wide => {
                return immediate(rest, 2).map(Detour::Return);
            }
            // mov eax, imm32; jmp eax.
            [0xb8..=0xbf, a, b, c, d, 0xff, 0xe0..=0xe7, ..] if !wide => {
                return Some(Detour::Jump(u32::from_le_bytes([*a, *b, *c, *d]).into()));
            }
            // push imm32 and, on 64 bits, the upper half; ret.
            [0x68, a, b, c, d, 0xc7, 0x44, 0x24, 0x04, e, f, g, h, 0xc3, ..] if wide => {
                return Some(Detour::Return(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])));
            }
            [0x68, a, b, c, d, 0xc3, ..] => {
                let to = i64::from(i32::from_le_bytes([*a, *b, *c, *d])).cast_unsigned();
                return Some(Detour::Return(if wide { to } else { to & 0xffff_ffff }));
            }
            _ => return call.map(Detour::Call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_start(code: &[u8]) -> Option<Detour> {
        detour(code, 0xffff_ffff_8100_0000, true, |place| Some(place + 1))
    }

    /// Encodings by Intel SDM vol. 2 (CALL, JMP, MOV, PUSH, RET).
    #[test]
    fn every_way_to_lead_away_is_known() {
        const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
        let jump = Some(Detour::Jump(0xffff_ffff_8100_0105));
        assert_eq!(at_start(&[0xe9, 0, 1, 0, 0, 0x90]), jump);
        assert_eq!(at_start(&[&ENDBR[..], &[0xe9, 0xfc, 0, 0, 0]].concat()), jump);
        assert_eq!(at_start(&[0x0f, 0x1f, 0x44, 0, 0, 0xe9, 0xfb, 0, 0, 0]), jump);
        let far = 0xffff_ffff_c012_3456u64.to_le_bytes();
        let to = 0xffff_ffff_c012_3456;
        assert_eq!(at_start(&[&[0x48, 0xb8][..], &far, &[0xff, 0xe0]].concat()), Some(Detour::Jump(to)));
        assert_eq!(at_start(&[&[0x48, 0xb8][..], &far, &[0x50, 0xc3]].concat()), Some(Detour::Return(to)));
        assert_eq!(at_start(&[0x68, 0x56, 0x34, 0x12, 0xc0, 0xc3]), Some(Detour::Return(to)));
        assert_eq!(at_start(&[0xff, 0x25, 2, 0, 0, 0]), Some(Detour::Jump(0xffff_ffff_8100_0009)));
        assert_eq!(at_start(&[0xe8, 0xfb, 0, 0, 0, 0x55]), Some(Detour::Call(0xffff_ffff_8100_0100)));
    }

    #[test]
    fn what_compilers_begin_functions_with_leads_nowhere() {
        assert_eq!(at_start(&[0x0f, 0x1f, 0x44, 0, 0, 0x55, 0x48, 0x89, 0xe5]), None);
        assert_eq!(at_start(&[0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xc0, 0xc3]), None);
        assert_eq!(at_start(&[]), None);
        assert_eq!(at_start(&[0xe9, 1]), None);
    }
}
