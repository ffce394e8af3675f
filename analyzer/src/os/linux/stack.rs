//! Stacks of the kernel: return addresses that a sleeping thread left (x86 only).
//!
//! Without unwinding data every word between the saved stack pointer and the top of the stack that follows a call in code is taken. So
//! what `/proc/PID/stack` shows is there, and with it what earlier calls left behind.

use object::{Absent, Ptr, Read, Uint, layout, little_endian};

use super::code::Code;
use super::task::Task;

/// Bytes of a kernel stack: 4 pages on 64 bits, 2 on 32 (arch/x86/include/asm/page_{64,32}_types.h).
const SIZE_64: u64 = 16 << 10;
const SIZE_32: u64 = 8 << 10;

layout! {
    struct Stack / StackLayout = "task_struct" {
        base: Ptr = "stack",
        pointer: Uint = "thread.sp | thread.esp",
    }
}

/// A word of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where it stands.
    pub place: u64,
    /// The address to return to.
    pub address: u64,
}

/// The return addresses of a thread, innermost first.
///
/// # Errors
/// Why the stack cannot be found or read.
pub fn frames(code: &Code, task: &Task<'_>) -> Read<Vec<Frame>> {
    let target = task.target();
    let stack = Stack::at(target, task.addr());
    let base = stack.base()?.non_null("its stack was given back")?;
    let Uint(pointer) = stack.pointer()?;
    let width = u64::from(target.types().model().pointer_size());
    let size = if width == 8 { SIZE_64 } else { SIZE_32 };
    if !(base..base.saturating_add(size)).contains(&pointer) || !pointer.is_multiple_of(width) {
        return Err(Absent::Malformed("stack pointer outside of the stack"));
    }
    let length = base.saturating_add(size).saturating_sub(pointer);
    let bytes = target.read_bytes(pointer, length, 16 << 10)?;
    let width = usize::from(target.types().model().pointer_size());
    let words = bytes.chunks_exact(width).map(little_endian);
    let mut found = Vec::new();
    for (address, place) in words.zip((pointer..).step_by(width)) {
        if code.is_nobodys(address) {
            continue;
        }
        let mut before = [0; 7];
        let read = target.space().read_at(address.wrapping_sub(7), &mut before);
        if read.is_ok() && follows_call(&before) {
            found.push(Frame { place, address });
        }
    }
    Ok(found)
}

/// Whether the bytes end with a call instruction: `call rel32`, or `call` through a register or memory (Intel SDM vol. 2, CALL).
fn follows_call(before: &[u8; 7]) -> bool {
    let indirect = |length: usize| {
        let code = before.get(before.len().saturating_sub(length)..).unwrap_or_default();
        let ([0x41, 0xff, code @ ..] | [0xff, code @ ..]) = code else { return false };
        let [mode, rest @ ..] = code else { return false };
        if mode >> 3 & 7 != 2 {
            return false;
        }
        let has_sib = mode >> 6 != 3 && mode & 7 == 4;
        let displacement = match (mode >> 6, mode & 7) {
            (1, _) => 1,
            (2, _) | (0, 5) => 4,
            _ => 0,
        };
        rest.len() == usize::from(has_sib) + displacement
    };
    matches!(before, [_, _, 0xe8, ..]) || (2..=7).any(indirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings by Intel SDM vol. 2, CALL.
    #[test]
    fn calls_are_told_from_other_code() {
        let ends_with = |code: &[u8]| {
            let mut before = [0x90; 7];
            before[7 - code.len()..].copy_from_slice(code);
            follows_call(&before)
        };
        assert!(ends_with(&[0xe8, 1, 2, 3, 4]));
        assert!(ends_with(&[0xff, 0xd0]) && ends_with(&[0x41, 0xff, 0xd3]));
        assert!(ends_with(&[0xff, 0x50, 8]) && ends_with(&[0xff, 0x15, 1, 2, 3, 4]));
        assert!(ends_with(&[0xff, 0x54, 0x24, 8]));
        assert!(
            !ends_with(&[0xff, 0xe0]) && !ends_with(&[0x48, 0x89, 0xe5]) && !ends_with(&[0xe9, 1, 2, 3, 4])
        );
    }
}
