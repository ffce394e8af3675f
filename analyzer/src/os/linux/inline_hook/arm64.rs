//! The same for ARM64: branches at the start of a function, behind landing pads, the signing of the return address, and
//! the two instructions where ftrace calls its own code.
//!
//! Encodings: Arm Architecture Reference Manual (DDI 0487), C6.2.

use super::Detour;

/// `nop`, `bti`, `bti c`, `bti j`, `bti jc`, `paciasp`, `pacibsp`, and `mov x9, x30` in front of ftrace's call.
const PADS: [u32; 8] =
    [0xd503_201f, 0xd503_241f, 0xd503_245f, 0xd503_249f, 0xd503_24df, 0xd503_233f, 0xd503_237f, 0xaa1e_03e9];

/// What the code at `address` does first, where that is to lead away. `pointer` reads the memory of a literal.
pub(super) fn detour(code: &[u8], address: u64, pointer: impl Fn(u64) -> Option<u64>) -> Option<Detour> {
    let words = code.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    // A register that was given a whole address, and the address.
    let mut loaded: Option<(u32, u64)> = None;
    let mut call = None;
    for (word, at) in words.zip((address..).step_by(4)) {
        let register = word & 0x1f;
        // MOVZ and MOVK: 16 bits of the value, and where they belong.
        let piece = u64::from(word >> 5 & 0xffff) << ((word >> 21 & 3) * 16);
        match word {
            _ if PADS.contains(&word) => {}
            _ if word & 0xfc00_0000 == 0x1400_0000 => return Some(Detour::Jump(relative(at, word, 26, 0))),
            _ if word & 0xfc00_0000 == 0x9400_0000 && call.is_none() => {
                call = Some(relative(at, word, 26, 0));
            }
            // LDR (literal), 64 bits.
            _ if word & 0xff00_0000 == 0x5800_0000 => {
                loaded = Some((register, pointer(relative(at, word, 19, 5))?));
            }
            _ if word & 0xff80_0000 == 0xd280_0000 => loaded = Some((register, piece)),
            // MOVN begins addresses of the kernel's half.
            _ if word & 0xff80_0000 == 0x9280_0000 => loaded = Some((register, !piece)),
            _ if word & 0xff80_0000 == 0xf280_0000 => {
                let mask = 0xffffu64 << ((word >> 21 & 3) * 16);
                loaded =
                    loaded.filter(|(to, _)| *to == register).map(|(to, value)| (to, value & !mask | piece));
                loaded?;
            }
            // BR and RET.
            _ if word & 0xffff_fc1f == 0xd61f_0000 => {
                let (to, value) = loaded?;
                return (to == word >> 5 & 0x1f).then_some(Detour::Jump(value));
            }
            _ if word & 0xffff_fc1f == 0xd65f_0000 => {
                let (to, value) = loaded?;
                return (to == word >> 5 & 0x1f).then_some(Detour::Return(value));
            }
            _ => break,
        }
    }
    call.map(Detour::Call)
}

/// A distance in instructions, of `bits` bits from bit `shift` on.
fn relative(at: u64, word: u32, bits: u32, shift: u32) -> u64 {
    let distance = (word >> shift << (32 - bits)).cast_signed() >> (32 - bits);
    at.wrapping_add((i64::from(distance) * 4).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0xffff_8000_0800_1000;

    fn at_start(words: &[u32]) -> Option<Detour> {
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        detour(&code, AT, |place| Some(place + 1))
    }

    #[test]
    fn every_way_to_lead_away_is_known() {
        // b .+0x100; bti c, b .-4; paciasp, nop, b
        assert_eq!(at_start(&[0x1400_0040]), Some(Detour::Jump(AT + 0x100)));
        assert_eq!(at_start(&[0xd503_245f, 0x17ff_ffff]), Some(Detour::Jump(AT)));
        assert_eq!(at_start(&[0xd503_233f, 0xd503_201f, 0x1400_0001]), Some(Detour::Jump(AT + 12)));
        // ldr x16, .+8; br x16
        assert_eq!(at_start(&[0x5800_0050, 0xd61f_0200]), Some(Detour::Jump(AT + 9)));
        // movn x9, #0x7fff, lsl #32; movk x9, #0x1234, lsl #16; movk x9, #0x5678; br x9
        let far = [0x92cf_ffe9, 0xf2a2_4689, 0xf28a_cf09, 0xd61f_0120];
        assert_eq!(at_start(&far), Some(Detour::Jump(0xffff_8000_1234_5678)));
        // mov x9, x30; bl .+0x10
        assert_eq!(at_start(&[0xaa1e_03e9, 0x9400_0004, 0xd503_201f]), Some(Detour::Call(AT + 0x14)));
    }

    #[test]
    fn what_compilers_begin_functions_with_leads_nowhere() {
        // bti c; nop; nop; paciasp; stp x29, x30, [sp, #-32]!
        assert_eq!(at_start(&[0xd503_245f, 0xd503_201f, 0xd503_201f, 0xd503_233f, 0xa9be_7bfd]), None);
        // mov x0, #0; ret
        assert_eq!(at_start(&[0xd280_0000, 0xd65f_03c0]), None);
        assert_eq!(at_start(&[]), None);
    }
}
