use super::*;
use crate::os::linux::fixture::{DIRECT, IMAGE, Machine};

/// Offsets of v6.1 on x86-64, by its DWARF.
const STRUCTS: &str = r#"{
    "fb_info": [864, {"node": [4, ["int"]], "var": [80, ["fb_var_screeninfo"]], "fix": [240, ["fb_fix_screeninfo"]],
        "mode": [632, ["Pointer"]], "screen_base": [800, ["Pointer"]], "state": [824, ["unsigned int"]]}],
    "fb_var_screeninfo": [160, {"xres": [0, ["unsigned int"]], "yres": [4, ["unsigned int"]],
        "xres_virtual": [8, ["unsigned int"]], "yres_virtual": [12, ["unsigned int"]],
        "bits_per_pixel": [24, ["unsigned int"]]}],
    "fb_fix_screeninfo": [80, {"id": [0, ["Array", {"count": 16, "target": "char"}]],
        "smem_start": [16, ["unsigned long"]], "smem_len": [24, ["unsigned int"]],
        "line_length": [48, ["unsigned int"]]}],
    "fb_videomode": [64, {"name": [0, ["Pointer"]], "refresh": [8, ["unsigned int"]], "xres": [12, ["unsigned int"]],
        "yres": [16, ["unsigned int"]]}]}"#;

const TABLE: u64 = IMAGE + 0x1000;
const COUNT: u64 = IMAGE + 0x2000;
const INFO: u64 = DIRECT + 0x10_0000;
const MODE: u64 = DIRECT + 0x11_0000;

/// One frame buffer on the second place of the table.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.symbol("registered_fb", TABLE).symbol("num_registered_fb", COUNT);
    machine.word(TABLE + 8, INFO).half(COUNT, 1).half(INFO + 4, 1);
    machine.half(INFO + 80, 1024).half(INFO + 84, 768).half(INFO + 104, 32);
    machine.bytes(INFO + 240, b"EFI VGA").word(INFO + 256, 0x8000_0000).half(INFO + 264, 3 << 20);
    machine.half(INFO + 288, 4096).word(INFO + 632, MODE).word(INFO + 800, DIRECT + 0x20_0000);
    machine.word(MODE, MODE + 64).half(MODE + 8, 60).half(MODE + 12, 1024).half(MODE + 16, 768);
    machine.bytes(MODE + 64, b"vesa\0");
    machine
}

fn notes_of(machine: &Machine, check: impl FnOnce(Vec<FrameBuffer<'_>>)) -> usize {
    let (notes, kernel) = (Notes::default(), machine.kernel_with(STRUCTS));
    check(frame_buffers(&notes, kernel.target()).expect("a table"));
    notes.take().len()
}

#[test]
fn a_frame_buffer_is_described() {
    let notes = notes_of(&machine(), |found| {
        let [buffer] = found.as_slice() else { panic!("one") };
        assert_eq!((buffer.node(), buffer.id()), (Ok(1), Ok("EFI VGA".to_owned())));
        assert_eq!((buffer.xres(), buffer.yres(), buffer.bits_per_pixel()), (Ok(1024), Ok(768), Ok(32)));
        assert_eq!((buffer.physical(), buffer.length()), (Ok(0x8000_0000), Ok(3 << 20)));
        assert_eq!((buffer.line_length(), buffer.state()), (Ok(4096), Ok("running")));
        assert_eq!(buffer.mode(), Ok("1024x768@60 vesa".to_owned()));
        assert_eq!(buffer.address(), Ok(DIRECT + 0x20_0000));
    });
    assert_eq!(notes, 0);
}

#[test]
fn what_is_not_told_is_absent() {
    let mut machine = machine();
    machine.word(INFO + 256, 0).word(INFO + 632, 0).word(INFO + 800, 0).half(INFO + 824, 9);
    notes_of(&machine, |found| {
        let [buffer] = found.as_slice() else { panic!("one") };
        assert!(matches!(buffer.physical(), Err(Absent::NotApplicable(_))));
        assert!(matches!(buffer.mode(), Err(Absent::NotApplicable(_))));
        assert!(matches!(buffer.address(), Err(Absent::NotApplicable(_))));
        assert!(matches!(buffer.state(), Err(Absent::Malformed(_))));
    });
}

#[test]
fn a_count_that_differs_is_reported() {
    let mut machine = machine();
    machine.half(COUNT, 2);
    assert_eq!(notes_of(&machine, |found| assert_eq!(found.len(), 1)), 1);
}
