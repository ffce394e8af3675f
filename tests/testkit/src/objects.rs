//! Objects of the object manager: types, headers with their optional parts, directories.
//!
//! Optional headers stand in front of the object header, the lowest bit of `InfoMask` nearest to it. Since Windows 7 the
//! header names its type by index; Windows 10 hides that index behind a byte of the header's address and a cookie. Before, the
//! header points at its type and holds the distances to its optional headers. Sources: spec of the kernel's symbols,
//! Windows Internals chapter "Object manager", and the type numbering of Windows 7 as seen in `\ObjectTypes`.

use std::collections::BTreeMap;

use crate::machine::{Machine, SpaceId};
use crate::pool::Kind;

/// Optional headers by their bit.
pub mod info {
    /// `_OBJECT_HEADER_CREATOR_INFO`.
    pub const CREATOR: u8 = 1;
    /// `_OBJECT_HEADER_NAME_INFO`.
    pub const NAME: u8 = 2;
    /// `_OBJECT_HEADER_HANDLE_INFO`.
    pub const HANDLE: u8 = 4;
    /// `_OBJECT_HEADER_QUOTA_INFO`.
    pub const QUOTA: u8 = 8;
    /// `_OBJECT_HEADER_PROCESS_INFO`.
    pub const PROCESS: u8 = 0x10;
}

const OPTIONAL: [(u8, &str); 5] = [
    (info::CREATOR, "_OBJECT_HEADER_CREATOR_INFO"),
    (info::NAME, "_OBJECT_HEADER_NAME_INFO"),
    (info::HANDLE, "_OBJECT_HEADER_HANDLE_INFO"),
    (info::QUOTA, "_OBJECT_HEADER_QUOTA_INFO"),
    (info::PROCESS, "_OBJECT_HEADER_PROCESS_INFO"),
];

/// Names of the object types in the order of their index; the first has index 2. The third column is the variable that points
/// at the type, the second the pool tag of its objects.
const TYPES: [(&str, &[u8; 4], &str); 42] = [
    ("Type", b"ObjT", "ObpTypeObjectType"),
    ("Directory", b"Dire", "ObpDirectoryObjectType"),
    ("SymbolicLink", b"Symb", "ObpSymbolicLinkObjectType"),
    ("Token", b"Toke", "SeTokenObjectType"),
    ("Job", b"Job ", "PsJobType"),
    ("Process", b"Proc", "PsProcessType"),
    ("Thread", b"Thre", "PsThreadType"),
    ("UserApcReserve", b"Resv", ""),
    ("IoCompletionReserve", b"Resv", ""),
    ("DebugObject", b"Debu", "DbgkDebugObjectType"),
    ("Event", b"Even", "ExEventObjectType"),
    ("EventPair", b"Even", "ExEventPairObjectType"),
    ("Mutant", b"Muta", "ExMutantObjectType"),
    ("Callback", b"Call", "ExCallbackObjectType"),
    ("Semaphore", b"Sema", "ExSemaphoreObjectType"),
    ("Timer", b"Time", "ExTimerObjectType"),
    ("Profile", b"Prof", "ExProfileObjectType"),
    ("KeyedEvent", b"Keye", "ExpKeyedEventObjectType"),
    ("WindowStation", b"Wind", "ExWindowStationObjectType"),
    ("Desktop", b"Desk", "ExDesktopObjectType"),
    ("TpWorkerFactory", b"TpWo", "ExpWorkerFactoryObjectType"),
    ("Adapter", b"Adap", "IoAdapterObjectType"),
    ("Controller", b"Cont", "IoControllerObjectType"),
    ("Device", b"Devi", "IoDeviceObjectType"),
    ("Driver", b"Driv", "IoDriverObjectType"),
    ("IoCompletion", b"IoCo", "IoCompletionObjectType"),
    ("File", b"File", "IoFileObjectType"),
    ("TmTm", b"TmTm", ""),
    ("TmTx", b"TmTx", ""),
    ("TmRm", b"TmRm", ""),
    ("TmEn", b"TmEn", ""),
    ("Section", b"Sect", "MmSectionObjectType"),
    ("Session", b"Sess", "MmSessionObjectType"),
    ("Key", b"Key ", "CmKeyObjectType"),
    ("ALPC Port", b"ALPC", "AlpcPortObjectType"),
    ("PowerRequest", b"Powe", ""),
    ("WmiGuid", b"WmiG", "WmipGuidObjectType"),
    ("EtwRegistration", b"EtwR", "EtwpRegistrationObjectType"),
    ("EtwConsumer", b"EtwC", ""),
    ("FilterConnectionPort", b"Filt", ""),
    ("FilterCommunicationPort", b"Filt", ""),
    ("PcwObject", b"PcwO", ""),
];

/// The object types of a machine and its named objects.
#[derive(Debug, Default)]
pub(crate) struct Types {
    /// Name to index and address.
    by_name: BTreeMap<&'static str, (u8, u64)>,
    /// Full path to the object's body.
    pub(crate) paths: BTreeMap<String, u64>,
}

/// How an object is made; everything has a default.
#[derive(Debug, Clone, Default)]
pub struct ObjectOptions {
    /// Very address of the body.
    pub at: Option<u64>,
    /// Full path in the object tree, such as `\Device\Null`; its directory must exist.
    pub path: Option<String>,
    /// More optional headers than the name calls for: bits of [`info`].
    pub info: u8,
}

impl ObjectOptions {
    /// An object with a path in the object tree.
    pub fn named(path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..Self::default() }
    }
}

impl Machine {
    /// Makes the object types and the directories that every system has.
    pub(crate) fn make_types(&mut self) {
        let size = self.system.layouts.size("_OBJECT_TYPE");
        for (index, (name, ..)) in (2u8..).zip(TYPES) {
            let body = self.object_block("Type", size, info::CREATOR | info::NAME, None);
            self.types.by_name.insert(name, (index, body));
        }
        if let Some(table) = self.symbol_if("ObpInfoMaskToOffset") {
            let distances: Vec<u8> =
                (0..=255u8).map(|mask| u8::try_from(self.distance(mask, mask)).unwrap_or(0)).collect();
            self.write(SpaceId::SYSTEM, table, &distances);
        }
        if let Some(cookie) = self.symbol_if("ObHeaderCookie") {
            self.write(SpaceId::SYSTEM, cookie, &[self.system.cookie]);
        }
        let pointer = self.pointer_size();
        let root = self.make_directory(None);
        self.types.paths.insert("\\".to_owned(), root);
        self.set_variable("ObpRootDirectoryObject", root);
        for path in [
            "\\ObjectTypes",
            "\\Device",
            "\\Driver",
            "\\FileSystem",
            "\\BaseNamedObjects",
            "\\GLOBAL??",
            "\\KernelObjects",
            "\\Sessions",
            "\\KnownDlls",
            "\\Windows",
            "\\RPC Control",
            "\\Security",
        ] {
            self.directory(path);
        }
        for (name, tag, variable) in TYPES {
            let (index, body) = self.types.by_name[name];
            self.object_header("Type", body, info::CREATOR | info::NAME);
            self.name_object(body, &format!("\\ObjectTypes\\{name}"));
            let name_at = self.at("_OBJECT_TYPE", body).member("Name");
            self.unicode_string(name_at, name);
            let key = u64::from(u32::from_le_bytes(*tag));
            self.at("_OBJECT_TYPE", body).set("Index", u64::from(index)).set("Key", key);
            let list = self.at("_OBJECT_TYPE", body).member("TypeList");
            self.empty_list(list);
            if self.system.layouts.has("_OBJECT_TYPE", "CallbackList") {
                let callbacks = self.at("_OBJECT_TYPE", body).member("CallbackList");
                self.empty_list(callbacks);
            }
            self.set_variable(variable, body);
            if let Some(table) = self.symbol_if("ObTypeIndexTable") {
                self.write_pointer(SpaceId::SYSTEM, table + u64::from(index) * pointer, body);
            }
            if let Some(table) = self.symbol_if("ObpObjectTypes") {
                self.write_pointer(SpaceId::SYSTEM, table + u64::from(index - 2) * pointer, body);
            }
        }
        if let Some(table) = self.symbol_if("ObTypeIndexTable") {
            self.write_pointer(SpaceId::SYSTEM, table + pointer, 0xBAD0_B0B0);
        }
    }

    /// Address of the `_OBJECT_TYPE` with this name.
    pub fn object_type(&self, name: &str) -> u64 {
        self.types.by_name.get(name).unwrap_or_else(|| panic!("no object type: {name}")).1
    }

    /// An object of the tree by its full path.
    pub fn named(&self, path: &str) -> u64 {
        *self.types.paths.get(path).unwrap_or_else(|| panic!("no object: {path}"))
    }

    fn size_of_info(&self, bit: u8) -> u64 {
        let name = OPTIONAL.iter().find(|(b, _)| *b == bit).map(|(_, name)| *name);
        name.and_then(|name| self.system.layouts.size_if(name)).unwrap_or(match bit {
            // XP's symbols lack some of them: two pointers, or four words and two pointers.
            info::HANDLE => 8,
            info::CREATOR | info::NAME | info::QUOTA => 16,
            _ => 0,
        })
    }

    /// Distance from the object header up to the optional header with the highest bit of `upto`.
    fn distance(&self, mask: u8, upto: u8) -> u64 {
        (0..8)
            .map(|bit| 1 << bit)
            .filter(|bit| bit & mask != 0 && *bit <= upto)
            .map(|bit| self.size_of_info(bit))
            .sum()
    }

    /// Bytes of the header in front of a body.
    fn header_size(&self) -> u64 {
        self.system.layouts.offset("_OBJECT_HEADER", "Body")
    }

    /// Pool tag of a type's objects. Until Windows 7 its last character carries the protection bit.
    pub(crate) fn object_tag(&self, kind: &str) -> [u8; 4] {
        let mut tag = *TYPES
            .iter()
            .find(|(name, ..)| *name == kind)
            .unwrap_or_else(|| panic!("no object type: {kind}"))
            .1;
        if self.system.version < (6, 2, 0) {
            tag[3] |= 0x80;
        }
        tag
    }

    /// Allocates headers and body. Returns the address of the body.
    fn object_block(&mut self, kind: &str, size: u64, mask: u8, at: Option<u64>) -> u64 {
        let before = self.distance(mask, 0xFF) + self.header_size();
        let pool = match kind {
            "SymbolicLink" | "Directory" | "Key" | "Section" | "Token" => Kind::Paged,
            _ => Kind::NonPaged,
        };
        let tag = self.object_tag(kind);
        match at {
            Some(body) => {
                self.place_block(pool, tag, body - before, before + size);
                body
            }
            None => self.allocate(pool, tag, before + size) + before,
        }
    }

    fn object_header(&mut self, kind: &str, body: u64, mask: u8) {
        let (index, type_address) = self.types.by_name[kind];
        let header = body - self.header_size();
        let distances = [info::NAME, info::HANDLE, info::QUOTA]
            .map(|bit| if mask & bit == 0 { 0 } else { self.distance(mask, bit) });
        let cookie = self.system.cookie;
        let hidden = self.symbol_if("ObHeaderCookie").is_some();
        let mut record = self.at("_OBJECT_HEADER", header);
        record.set("PointerCount", 1).set("HandleCount", 0);
        if mask & info::QUOTA == 0 {
            // Unquoted objects belong to the system's quota block; a valid-looking pointer is enough.
            record.set_if("QuotaBlockCharged", 1);
        }
        if record.set_if("InfoMask", u64::from(mask)).has("TypeIndex") {
            let byte = header.to_le_bytes()[1];
            let stored = if hidden { index ^ byte ^ cookie } else { index };
            record.set("TypeIndex", u64::from(stored));
        } else {
            record.set("Type", type_address);
            for (path, distance) in
                ["NameInfoOffset", "HandleInfoOffset", "QuotaInfoOffset"].into_iter().zip(distances)
            {
                record.set(path, distance);
            }
            record.set("Flags", if mask & info::CREATOR == 0 { 0 } else { 4 });
        }
        if mask & info::CREATOR != 0 {
            let at = header - self.distance(mask, info::CREATOR);
            let (list, head) = if self.system.layouts.size_if("_OBJECT_HEADER_CREATOR_INFO").is_some() {
                (
                    self.at("_OBJECT_HEADER_CREATOR_INFO", at).member("TypeList"),
                    self.at("_OBJECT_TYPE", type_address).member("TypeList"),
                )
            } else {
                (at, self.at("_OBJECT_TYPE", type_address).member("TypeList"))
            };
            self.append(head, list);
        }
        let counter = self.system.layouts.place("_OBJECT_TYPE", "TotalNumberOfObjects").offset;
        let count = self.read(SpaceId::SYSTEM, type_address + counter, 4);
        let count = u32::from_le_bytes(count.try_into().expect("four bytes")) + 1;
        self.write(SpaceId::SYSTEM, type_address + counter, &count.to_le_bytes());
    }

    /// Makes an object of a type with a zeroed body of `size` bytes. Returns the address of the body.
    pub fn object(&mut self, kind: &str, size: u64, options: &ObjectOptions) -> u64 {
        let mut mask = options.info;
        if options.path.is_some() {
            mask |= info::NAME;
        }
        let body = self.object_block(kind, size, mask, options.at);
        self.object_header(kind, body, mask);
        if let Some(path) = &options.path {
            self.name_object(body, path);
        }
        body
    }

    /// Gives an object that has the room its name, and puts it into its directory.
    fn name_object(&mut self, body: u64, path: &str) {
        let (parent, name) = path.rsplit_once('\\').expect("a path starts with a backslash");
        let directory =
            if path == "\\" { 0 } else { self.named(if parent.is_empty() { "\\" } else { parent }) };
        let at = self.name_info(body);
        let text = self.at("_OBJECT_HEADER_NAME_INFO", at).set("Directory", directory).member("Name");
        self.unicode_string(text, if path == "\\" { path } else { name });
        if directory != 0 {
            self.insert(directory, body, name);
        }
        self.types.paths.insert(path.to_owned(), body);
    }

    /// Address of the name header; with `InfoMask` or the offset that the header holds.
    fn name_info(&self, body: u64) -> u64 {
        let header = body - self.header_size();
        match self.system.layouts.find("_OBJECT_HEADER", "InfoMask|NameInfoOffset") {
            Some(place) if self.system.layouts.has("_OBJECT_HEADER", "InfoMask") => {
                let mask = self.read(SpaceId::SYSTEM, header + place.offset, 1)[0];
                header - self.distance(mask, info::NAME)
            }
            Some(place) => header - u64::from(self.read(SpaceId::SYSTEM, header + place.offset, 1)[0]),
            None => panic!("the profile's _OBJECT_HEADER has no names"),
        }
    }

    /// Puts an object into a directory's hash table: 37 chains, hashed by the upper-case name.
    fn insert(&mut self, directory: u64, body: u64, name: &str) {
        let hash = name.encode_utf16().fold(0u32, |hash, unit| {
            let upper =
                char::from_u32(u32::from(unit)).map_or(u32::from(unit), |c| c.to_ascii_uppercase() as u32);
            hash.wrapping_add(hash << 1).wrapping_add(hash >> 1).wrapping_add(upper)
        });
        let size = self.system.layouts.size("_OBJECT_DIRECTORY_ENTRY");
        let entry = self.allocate(Kind::Paged, *b"ObDi", size);
        let bucket = self.at("_OBJECT_DIRECTORY", directory).member(&format!("HashBuckets[{}]", hash % 37));
        let next = self.read_pointer(SpaceId::SYSTEM, bucket);
        self.at("_OBJECT_DIRECTORY_ENTRY", entry)
            .set("ChainLink", next)
            .set("Object", body)
            .set_if("HashValue", u64::from(hash));
        self.write_pointer(SpaceId::SYSTEM, bucket, entry);
    }

    fn make_directory(&mut self, path: Option<&str>) -> u64 {
        let size = self.system.layouts.size("_OBJECT_DIRECTORY");
        let body = self.object_block("Directory", size, info::NAME, None);
        self.object_header("Directory", body, info::NAME);
        self.name_object(body, path.unwrap_or("\\"));
        body
    }

    /// A directory of the object tree, made where it does not exist; its parent must.
    pub fn directory(&mut self, path: &str) -> u64 {
        match self.types.paths.get(path) {
            Some(&body) => body,
            None => self.make_directory(Some(path)),
        }
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str, created: u64) -> u64 {
        let size = self.system.layouts.size("_OBJECT_SYMBOLIC_LINK");
        let body = self.object("SymbolicLink", size, &ObjectOptions::named(path));
        let text = self.at("_OBJECT_SYMBOLIC_LINK", body).set("CreationTime", created).member("LinkTarget");
        self.unicode_string(text, target);
        body
    }

    /// A mutant, named or not, owned by a thread or free.
    pub fn mutant(&mut self, path: Option<&str>, owner: Option<u64>) -> u64 {
        let size = self.system.layouts.size("_KMUTANT");
        let options =
            ObjectOptions { path: path.map(str::to_owned), info: info::QUOTA, ..ObjectOptions::default() };
        let body = self.object("Mutant", size, &options);
        // Dispatcher type 2 is a mutant; the signal state is 1 where nobody holds it.
        let mut record = self.at("_KMUTANT", body);
        record.set("Header.Type", 2).set("Header.SignalState", u64::from(owner.is_none()));
        record.set("OwnerThread", owner.unwrap_or(0));
        let wait = record.member("Header.WaitListHead");
        self.empty_list(wait);
        body
    }

    /// A file object without a device.
    pub fn file(&mut self, name: &str, at: Option<u64>) -> u64 {
        let size = self.system.layouts.size("_FILE_OBJECT");
        let options = ObjectOptions { at, info: info::HANDLE, ..ObjectOptions::default() };
        let body = self.object("File", size, &options);
        let text = self
            .at("_FILE_OBJECT", body)
            .set("Type", 5)
            .set("Size", size)
            .set("ReadAccess", 1)
            .set("SharedRead", 1)
            .member("FileName");
        self.unicode_string(text, name);
        body
    }
}
