//! Commands for any image, and those that need none.

pub mod address_resolver;
pub mod aff4acquire;
pub mod build_index;
pub mod build_inventory;
pub mod build_local_profile;
pub mod convert_profile;
pub mod dt;
pub mod dump;
pub mod elf_sections;
pub mod elf_versions_needed;
pub mod elf_versions_symbols;
pub mod ewfacquire;
pub mod fetch_pdb;
pub mod guess_guid;
pub mod imagecopy;
pub mod info;
pub mod inspect_vaddr;
pub mod load_as;
pub mod make_symlink;
pub mod manage_repo;
pub mod parse_pdb;
pub mod peinfo;
pub mod profile;
pub mod repo;
pub mod symlinks;
pub mod version_scan;
