//! x86 code as text, in the syntax of Intel's manuals.
//!
//! Decoding and text are those of the library `iced-x86`; here code is only cut into instructions. Truth: `llvm-mc --disassemble`.

use iced_x86::{Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter};
use object::{Absent, Types};

/// Width of the code's default operands and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Real mode and boot code.
    Bits16,
    /// 32-bit processes and kernels.
    Bits32,
    /// 64-bit processes and kernels.
    Bits64,
}

impl Mode {
    /// That of a kernel's own code; not applicable to processors other than x86.
    pub fn of(types: &Types) -> Result<Self, Absent> {
        match (types.profile().arch(), types.model().pointer_size()) {
            (Some("ARM64"), _) => Err(Absent::NotApplicable("only code of x86 processors can be shown")),
            (_, 4) => Ok(Self::Bits32),
            _ => Ok(Self::Bits64),
        }
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Address of its first byte.
    pub address: u64,
    /// Its bytes, at most 15; of what is no instruction a single one.
    pub bytes: Vec<u8>,
    /// `mov eax,[rbx+8]`; `(bad)` for what is none.
    pub text: String,
}

/// The instructions of code that stands at `address`, one after the other; the last may be cut off and is then `(bad)`.
#[must_use]
pub fn disassemble(code: &[u8], address: u64, mode: Mode) -> Vec<Line> {
    let bits = match mode {
        Mode::Bits16 => 16,
        Mode::Bits32 => 32,
        Mode::Bits64 => 64,
    };
    let mut decoder = Decoder::with_ip(bits, code, address, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_space_after_operand_separator(true);
    let mut instruction = Instruction::default();
    let mut lines = Vec::new();
    while decoder.can_decode() {
        let start = decoder.position();
        decoder.decode_out(&mut instruction);
        let mut text = String::new();
        if instruction.is_invalid() {
            // The next byte may begin an instruction; the library skips more.
            if decoder.set_position(start.saturating_add(1)).is_err() {
                break;
            }
            decoder.set_ip(address.wrapping_add(start as u64).wrapping_add(1));
            text.push_str("(bad)");
        } else {
            formatter.format(&instruction, &mut text);
        }
        let bytes = code.get(start..decoder.position()).unwrap_or_default().to_vec();
        lines.push(Line { address: address.wrapping_add(start as u64), bytes, text });
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(code: &[u8], mode: Mode) -> Vec<String> {
        disassemble(code, 0x1000, mode).into_iter().map(|line| line.text).collect()
    }

    // The instructions that `llvm-mc --disassemble --output-asm-variant=1` gives, in fewer words: it writes `qword ptr [rdi + 8]`,
    // `pushal`, and branches by their distance.
    #[test]
    fn code_reads_as_llvm_reads_it() {
        let code = b"\x55\x48\x89\xe5\x48\x8b\x47\x08\xe8\xfb\x00\x00\x00\xc3";
        let expected = ["push rbp", "mov rbp, rsp", "mov rax, [rdi+8]", "call 0x1108", "ret"];
        assert_eq!(text(code, Mode::Bits64), expected);
        let code = b"\x60\x89\xe5\x31\xc0\x64\x8b\x50\x30";
        let expected = ["pushad", "mov ebp, esp", "xor eax, eax", "mov edx, fs:[eax+0x30]"];
        assert_eq!(text(code, Mode::Bits32), expected);
    }

    #[test]
    fn what_is_no_code_is_said_byte_by_byte() {
        let lines = disassemble(b"\x06\x90\x48", 0x1000, Mode::Bits64);
        let found: Vec<(u64, usize, &str)> =
            lines.iter().map(|line| (line.address, line.bytes.len(), line.text.as_str())).collect();
        assert_eq!(found, [(0x1000, 1, "(bad)"), (0x1001, 1, "nop"), (0x1002, 1, "(bad)")]);
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_line(code in proptest::collection::vec(any::<u8>(), 0..256), address: u64) {
            for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64] {
                let lines = disassemble(&code, address, mode);
                let bytes: Vec<u8> = lines.iter().flat_map(|line| line.bytes.clone()).collect();
                prop_assert_eq!(&bytes, &code);
            }
        }
    }
}
