//! Names of objects for people: a file by device and path, a key by its path, a process by name and id.

use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::object_header::ObjectHeader;
use super::process::Process;
use super::thread::Thread;
use super::unicode;

/// Most directories or keys above an object.
const MAX_DEPTH: usize = 64;

layout! {
    /// `_FILE_OBJECT`: an open file.
    pub struct FileObject / FileObjectLayout = "_FILE_OBJECT" {
        /// Its path, a `UNICODE_STRING`.
        name_place: Addr = "FileName",
        /// The device it is on.
        device: Ptr = "DeviceObject",
        /// Opened for reading.
        read_access: bool = "ReadAccess",
        /// Opened for writing.
        write_access: bool = "WriteAccess",
        /// Opened for deletion.
        delete_access: bool = "DeleteAccess",
        /// Others may read it.
        shared_read: bool = "SharedRead",
        /// Others may write it.
        shared_write: bool = "SharedWrite",
        /// Others may delete it.
        shared_delete: bool = "SharedDelete",
        /// Data and image sections of the file.
        sections: Ptr = "SectionObjectPointer",
    }

    struct KeyBody / KeyBodyLayout = "_CM_KEY_BODY" {
        control_block: Ptr = "KeyControlBlock",
    }

    struct KeyControlBlock / KeyControlBlockLayout = "_CM_KEY_CONTROL_BLOCK" {
        parent: Ptr = "ParentKcb",
        name_block: Ptr = "NameBlock",
    }

    struct NameControlBlock / NameControlBlockLayout = "_CM_NAME_CONTROL_BLOCK" {
        compressed: Uint = "Compressed",
        length: Uint = "NameLength",
        name: Addr = "Name",
    }

    /// `_OBJECT_SYMBOLIC_LINK`: a name for another name.
    pub struct SymbolicLink / SymbolicLinkLayout = "_OBJECT_SYMBOLIC_LINK" {
        /// When it was made, as a `FILETIME`.
        creation_time_raw: u64 = "CreationTime",
        /// Where it leads, a `UNICODE_STRING`.
        target_place: Addr = "LinkTarget",
    }
}

impl FileObject<'_> {
    /// Its path on its device; empty for the device itself.
    pub fn path(&self) -> Read<String> {
        unicode::text_at(self.target(), self.name_place())
    }

    /// Its path with the device before it: `\Device\HarddiskVolume1\Windows\...`; without it where the device has no name.
    pub fn full_path(&self) -> Read<String> {
        let path = self.path()?;
        let device = self.device().and_then(|device| device.non_null("no device"));
        let device = device.and_then(|device| ObjectHeader::of_body(self.target(), device)?.name());
        Ok(match device {
            Ok(device) => format!("\\Device\\{device}{path}"),
            Err(_) => path,
        })
    }

    /// Its access: `R`, `W`, `D` for what it was opened for, small letters for what others may do; `-` for what not.
    pub fn access(&self) -> Read<String> {
        let flag = |set: Read<bool>, letter: char| set.map(|set| if set { letter } else { '-' });
        Ok([
            flag(self.read_access(), 'R')?,
            flag(self.write_access(), 'W')?,
            flag(self.delete_access(), 'D')?,
            flag(self.shared_read(), 'r')?,
            flag(self.shared_write(), 'w')?,
            flag(self.shared_delete(), 'd')?,
        ]
        .iter()
        .collect())
    }
}

/// The path of a registry key: `MACHINE\SYSTEM\CONTROLSET001`, of its `_CM_KEY_BODY`.
pub fn key_path(target: &Target, body: u64) -> Read<String> {
    let mut parts = Vec::new();
    let Ptr(mut block) = KeyBody::at(target, body).control_block()?;
    while block != 0 && parts.len() < MAX_DEPTH {
        let view = KeyControlBlock::at(target, block);
        let name = view.name_block()?.non_null("no name")?;
        let name = NameControlBlock::at(target, name);
        let (Uint(length), Addr(text)) = (name.length()?, name.name()?);
        let bytes = target.read_bytes(text, length, 1 << 12)?;
        parts.push(match name.compressed()? {
            Uint(0) => unicode::decode(&bytes),
            Uint(_) => bytes.iter().copied().map(char::from).collect(),
        });
        let Ptr(parent) = view.parent()?;
        block = parent;
    }
    parts.reverse();
    Ok(parts.join("\\"))
}

/// Where a symbolic link of the object manager leads.
pub fn link_target(target: &Target, body: u64) -> Read<String> {
    unicode::text_at(target, SymbolicLink::at(target, body).target_place())
}

/// What identifies an object to people, by its type; not applicable for one without a name.
pub fn describe(header: &ObjectHeader<'_>, type_name: &str) -> Read<String> {
    let (target, body) = (header.target(), header.body()?);
    match type_name {
        "File" => FileObject::at(target, body).full_path(),
        "Key" => key_path(target, body),
        "Process" => {
            Ok(format!("{}({})", Process::at(target, body).name()?, Process::at(target, body).pid()?))
        }
        "Thread" => {
            let thread = Thread::at(target, body);
            Ok(format!("TID {} PID {}", thread.tid()?, thread.pid()?))
        }
        "SymbolicLink" => match (header.name(), link_target(target, body)) {
            (Ok(name), Ok(to)) => Ok(format!("{name} -> {to}")),
            (name, _) => name,
        },
        _ => header.name(),
    }
}

/// The full name of an object in the namespace: `\BaseNamedObjects\name`.
pub fn full_name(header: &ObjectHeader<'_>) -> Read<String> {
    let mut parts = vec![header.name()?];
    let mut directory = header.directory();
    while let Ok(body) = directory {
        if parts.len() >= MAX_DEPTH {
            return Err(Absent::Malformed("directories of an object lead in a loop"));
        }
        let above = ObjectHeader::of_body(header.target(), body)?;
        // The root is in no directory; its name is the separator alone.
        match above.name() {
            Ok(name) if name != "\\" => parts.push(name),
            _ => break,
        }
        directory = above.directory();
    }
    parts.reverse();
    Ok(format!("\\{}", parts.join("\\")))
}
