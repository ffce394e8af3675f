//! Page files: what the kernel knows of them, and their content beside the image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::image::Snapshot;
use crate::machine::{Machine, SpaceId};
use crate::physical::PAGE;
use crate::pool::Kind;

/// Pages of a page file.
const PAGES: u64 = 0x1000;

impl Machine {
    /// Puts a page into a page file, 0 to 15, where an entry of [`crate::Page::PageFile`] finds it.
    pub fn page_out(&mut self, number: u64, index: u64, bytes: &[u8]) {
        assert!(index < PAGES && bytes.len() <= 4096, "a page of a page file of {PAGES} pages");
        self.page_files.entry(number).or_default().insert(index, bytes.to_vec());
    }

    /// Tells the kernel its page files: `MmPagingFile`, or the array of the system's partition and the tree in `MiState`.
    pub(crate) fn make_page_files(&mut self) {
        let name = "_MMPAGING_FILE";
        let numbers: Vec<u64> = self.page_files.keys().copied().collect();
        let size = self.system.layouts.size(name);
        let mut nodes = Vec::new();
        for &number in &numbers {
            let text =
                if number == 0 { "\\pagefile.sys".to_owned() } else { format!("\\pagefile{number}.sys") };
            // One may be none: the compressed store, which has no name either.
            let is_store = self.store_file == Some(number);
            let file = if is_store { 0 } else { self.file(&text, None) };
            let at = self.allocate(Kind::NonPaged, *b"MmPf", size);
            self.at(name, at)
                .set("Size", PAGES)
                .set("MaximumSize", PAGES)
                .set("MinimumSize", PAGES)
                .set("File", file)
                .set("PageFileNumber", number)
                .set_if("VirtualStorePagefile", u64::from(is_store));
            if let Some(partition) = self.symbol_if("MiSystemPartition") {
                let slot = self.at("_MI_PARTITION", partition).member(&format!("Vp.PagingFile[{number}]"));
                self.write_pointer(SpaceId::SYSTEM, slot, at);
            }
            if is_store {
                continue;
            }
            let string = self.at(name, at).member("PageFileName");
            self.unicode_string(string, &format!("\\??\\C:{text}"));
            if let Some(array) = self.symbol_if("MmPagingFile") {
                let slot = array + number * self.pointer_size();
                self.write_pointer(SpaceId::SYSTEM, slot, at);
            }
            if let Some(place) = self.system.layouts.find(name, "FileObjectNode") {
                nodes.push(at + place.offset);
            }
        }
        self.set_variable32("MmNumberOfPagingFiles", u32::try_from(numbers.len()).expect("few"));
        let head = self.system.layouts.find("_MI_SYSTEM_INFORMATION", "PagingIo.PageFileHead");
        if let (Some(state), Some(head), Some(&root)) = (self.symbol_if("MiState"), head, nodes.first()) {
            self.write_pointer(SpaceId::SYSTEM, state + head.offset, root);
            // A tree that leans to the right.
            for pair in nodes.windows(2) {
                self.at("_RTL_BALANCED_NODE", pair[0]).set("Right", pair[1]);
                self.at("_RTL_BALANCED_NODE", pair[1]).set("ParentValue", pair[0]);
            }
        }
    }
}

impl Snapshot {
    /// Writes a page file. Pages that were not put there are zero.
    pub fn write_page_file(&self, number: u64, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.set_len(PAGES * PAGE)?;
        for (index, bytes) in self.machine.page_files.get(&number).unwrap_or(&BTreeMap::new()) {
            file.seek(SeekFrom::Start(index * PAGE))?;
            file.write_all(bytes)?;
        }
        Ok(())
    }
}
