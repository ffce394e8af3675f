//! Frame buffers: the memory that is the picture on a screen (include/linux/fb.h).

use object::{Absent, Ptr, Read, Target, Text, Uint, layout};

use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// `FB_MAX` (include/uapi/linux/fb.h): places in `registered_fb`.
const MOST: u64 = 32;
/// Longest name of a mode that is read.
const MODE_NAME: usize = 64;

layout! {
    /// `fb_info`: a frame buffer (include/linux/fb.h).
    pub struct FrameBuffer / FrameBufferLayout = "fb_info" {
        /// Its number, as in `/dev/fb0`.
        node: i32 = "node",
        /// Visible pixels in a row.
        xres: u32 = "var.xres",
        /// Visible rows.
        yres: u32 = "var.yres",
        /// Pixels in a row of its memory.
        xres_virtual: u32 = "var.xres_virtual",
        /// Rows in its memory.
        yres_virtual: u32 = "var.yres_virtual",
        /// Bits of a pixel.
        bits_per_pixel: u32 = "var.bits_per_pixel",
        /// See [`FrameBuffer::id`].
        raw_id: Text = "fix.id",
        /// See [`FrameBuffer::physical`]; 0 where the driver does not tell.
        raw_physical: Uint = "fix.smem_start",
        /// Bytes of its memory.
        length: u32 = "fix.smem_len",
        /// Bytes from one row to the next.
        line_length: u32 = "fix.line_length",
        /// See [`FrameBuffer::state`].
        raw_state: u32 = "state",
        /// See [`FrameBuffer::address`].
        raw_virtual: Ptr = "screen_base",
        /// See [`FrameBuffer::mode`].
        raw_mode: Ptr = "mode",
    }

    struct Mode / ModeLayout = "fb_videomode" {
        name: Ptr = "name",
        refresh: u32 = "refresh",
        xres: u32 = "xres",
        yres: u32 = "yres",
    }
}

impl FrameBuffer<'_> {
    /// Name that the driver gave it (`EFI VGA`, `virtio_gpudrmfb`).
    pub fn id(&self) -> Read<String> {
        self.raw_id().map(|Text(id)| text_of(&id))
    }

    /// Physical address of its memory, which is often that of the card.
    pub fn physical(&self) -> Read<u64> {
        let Uint(physical) = self.raw_physical()?;
        if physical == 0 { Err(Absent::NotApplicable("the driver does not tell")) } else { Ok(physical) }
    }

    /// Address at which the kernel writes the picture.
    pub fn address(&self) -> Read<u64> {
        self.raw_virtual()?.non_null("the kernel does not map it")
    }

    /// `FBINFO_STATE_*` (include/linux/fb.h).
    pub fn state(&self) -> Read<&'static str> {
        match self.raw_state()? {
            0 => Ok("running"),
            1 => Ok("suspended"),
            _ => Err(Absent::Malformed("no such state")),
        }
    }

    /// The mode that was chosen from those of the screen, `1024x768@60`, with its name where it has one.
    pub fn mode(&self) -> Read<String> {
        let mode = self.raw_mode()?.non_null("none was chosen from a list")?;
        let mode = Mode::at(self.target(), mode);
        let text = format!("{}x{}@{}", mode.xres()?, mode.yres()?, mode.refresh()?);
        let name = mode.name().ok().filter(|name| name.0 != 0);
        let name = name.and_then(|Ptr(name)| self.target().read_cstr(name, MODE_NAME).ok());
        Ok(name.map_or_else(|| text.clone(), |name| format!("{text} {}", text_of(&name))))
    }
}

/// The frame buffers of `registered_fb`; none where the kernel was built without (`CONFIG_FB`) or has them in a module.
pub fn frame_buffers<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<FrameBuffer<'t>>, Error> {
    let table = target.symbol("registered_fb")?;
    let width = u64::from(target.types().model().pointer_size());
    let mut found = Vec::new();
    for index in 0..MOST {
        match target.read_ptr(table.wrapping_add(index * width)) {
            Ok(0) => {}
            Ok(address) => found.push(FrameBuffer::at(target, address)),
            Err(why) => notes.partial(format!("registered_fb cannot be read at entry {index}: {why}")),
        }
    }
    let counted = target.symbol("num_registered_fb").map_err(Absent::from).and_then(|at| target.read_u32(at));
    match counted {
        Ok(count) if count as usize == found.len() => {}
        Ok(count) => {
            notes.partial(format!("the kernel counts {count} frame buffers, but lists {}", found.len()));
        }
        Err(why) => notes.partial(format!("frame buffers cannot be counted: {why}")),
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
