//! Commands for Linux images.

pub mod arp;
pub mod banner;
pub mod cpuinfo;
pub mod dmesg;
pub mod find_dtb;
pub mod find_kaslr;
pub mod hostname;
pub mod ifconfig;
pub mod iomem;
pub mod lsmod;
pub mod lsof;
pub mod maps;
pub mod memmap;
pub mod mount;
pub mod netstat;
pub mod psaux;
pub mod pslist;
pub mod pstree;
pub mod psxview;
pub mod vtop;
