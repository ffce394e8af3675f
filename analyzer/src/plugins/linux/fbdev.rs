//! `fbdev`: frame buffers of the kernel, and with `--dump` the pictures in them.
//!
//! Lists `registered_fb`. A dump is the memory as it is, row after row, without a header: `line_length`, the virtual size and the
//! bits of a pixel tell a viewer how to read it. The memory is often the card's and then in no image of RAM: what is missing is zero
//! and noted. Frame buffers of drivers that register none (most of DRM) are not seen, nor those of kernels with `fb` as a module.
//!
//! Truth: what the driver `vesafb` of Debian's 6.1 logs on a machine that QEMU gives a VGA card (`-vga std`, `vga=0x318`): name, mode, length of
//! a row, place and size; and the picture, byte by byte, as the emulator's `pmemsave` has it, from an image with the card's memory
//! (`dump-guest-memory`). That was done by hand, once: the guests of `tools/guest-image` have no card, and no frame buffer here.

use crate::dump_file::DumpArgs;
use crate::os::linux::Kernel;
use crate::os::linux::KernelFact;
use crate::os::linux::framebuffer::{FrameBuffer, frame_buffers};
use crate::plugin::prelude::*;

/// The command.
pub struct Fbdev;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Write the memory of each frame buffer to a file
    #[arg(long)]
    dump: bool,
    #[command(flatten)]
    file: DumpArgs,
}

row! {
    pub struct Row {
        /// Address of the `fb_info`.
        info as "fb_info": Address,
        /// Its number, as in /dev/fb0.
        node: Read<i32>,
        /// Name that the driver gave it.
        id: Read<String>,
        /// Visible pixels, `WIDTHxHEIGHT`.
        resolution: Read<String>,
        /// Pixels of its memory, `WIDTHxHEIGHT`.
        virtual_size: Read<String>,
        /// Bits of a pixel.
        bits_per_pixel: Read<u32>,
        /// Bytes from one row to the next.
        line_length: Read<ByteSize>,
        /// `running` or `suspended`.
        state: Read<&'static str>,
        /// The mode of the screen, with its refresh rate in Hz.
        mode: Read<String>,
        /// Physical address of its memory.
        physical as "Physical": Read<Address>,
        /// Address at which the kernel writes the picture.
        address as "Virtual": Read<Address>,
        /// Bytes of its memory.
        size: Read<ByteSize>,
        /// Bytes of it that are in the image.
        in_memory: Read<ByteSize>,
        /// The file that was written.
        dump_name: Read<String>,
    }
}

impl Plugin for Fbdev {
    const NAME: &'static str = "fbdev";
    const SUMMARY: &'static str = "List frame buffers and write the pictures in them";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for buffer in frame_buffers(&session.notes, kernel.target())? {
            let dumped = if args.dump { dump(session, &kernel, args, &buffer)? } else { Err(NOT_ASKED_FOR) };
            let (in_memory, dump_name) = match dumped {
                Ok((bytes, name)) => (Ok(ByteSize(bytes)), Ok(name)),
                Err(why) => (Err(why.clone()), Err(why)),
            };
            let size = |width: Read<u32>, height: Read<u32>| Ok(format!("{}x{}", width?, height?));
            out.push(Row {
                info: Address(buffer.addr()),
                node: buffer.node(),
                id: buffer.id(),
                resolution: size(buffer.xres(), buffer.yres()),
                virtual_size: size(buffer.xres_virtual(), buffer.yres_virtual()),
                bits_per_pixel: buffer.bits_per_pixel(),
                line_length: buffer.line_length().map(|length| ByteSize(length.into())),
                state: buffer.state(),
                mode: buffer.mode(),
                physical: buffer.physical().map(Address),
                address: buffer.address().map(Address),
                size: buffer.length().map(|length| ByteSize(length.into())),
                in_memory,
                dump_name,
            })?;
        }
        Ok(())
    }
}

const NOT_ASKED_FOR: Absent = Absent::NotApplicable("not asked for");

/// Writes the memory of a frame buffer: how much of it is there, and the file's name.
fn dump(
    session: &Session,
    kernel: &Kernel,
    args: &Args,
    buffer: &FrameBuffer<'_>,
) -> Result<Read<(u64, String)>, Error> {
    let length = match buffer.length() {
        Ok(length) => u64::from(length),
        Err(why) => return Ok(Err(why)),
    };
    let mut file = args.file.create(session, &format!("framebuffer.{:x}.raw", buffer.addr()))?;
    let bytes = match (buffer.address(), buffer.physical()) {
        (Ok(address), _) => file.copy_to(0, kernel.target().space(), address, length)?,
        (_, Ok(physical)) => file.copy_to(0, &**kernel.physical(), physical, length)?,
        (Err(why), _) => return Ok(Err(why)),
    };
    Ok(Ok((bytes, file.commit(session)?)))
}
