//! Names of Volatility 3 for commands: `linux.pslist.PsList`, `linux.pslist`, `windows.pslist.PsList`, ...
//!
//! A name is `SYSTEM.MODULE.CLASS`, with a category after the system for some modules; the class may be left out. Where a command
//! of the system is named like the module, it is meant. [`OTHER`] has the modules that have another name here; those may also
//! be typed by their module alone (`tty_check`). Names by Volatility 3 2.28.2.

use super::ALL;
use crate::os::System;
use crate::plugin::{Active, DynPlugin};

/// Categories between system and module; names without them are deprecated there and mean the same.
const CATEGORIES: [&str; 4] = ["graphics", "malware", "registry", "tracing"];

/// Modules that are named otherwise here: name there, command.
pub static OTHER: &[(&str, &str)] = &[
    ("linux.ip.Addr", "ifconfig"),
    ("linux.ip.Link", "ifconfig"),
    ("linux.kmsg.Kmsg", "dmesg"),
    ("linux.malware.keyboard_notifiers.Keyboard_notifiers", "notifier_chains"),
    ("linux.malware.tty_check.Tty_Check", "check_ttys"),
    ("linux.module_extract.ModuleExtract", "moddump"),
    ("linux.mountinfo.MountInfo", "mount"),
    ("linux.pagecache.Files", "mls"),
    ("linux.pagecache.InodePages", "mcat"),
    ("linux.pagecache.RecoverFs", "recover_fs"),
    ("linux.proc.Maps", "maps"),
    ("linux.sockstat.Sockstat", "netstat"),
    ("linux.vmaregexscan.VmaRegExScan", "grep"),
    ("linux.vmayarascan.VmaYaraScan", "yarascan"),
    ("windows.getsids.GetSIDs", "tokens"),
    ("windows.info.Info", "imageinfo"),
    ("windows.kpcrs.KPCRs", "kpcr"),
    ("windows.unloadedmodules.UnloadedModules", "unloaded_modules"),
    ("windows.vadinfo.VadInfo", "vad"),
    ("windows.vadregexscan.VadRegExScan", "grep"),
    ("windows.vadwalk.VadWalk", "vad"),
    ("windows.vadyarascan.VadYaraScan", "yarascan"),
    ("windows.verinfo.VerInfo", "version_modules"),
];

/// A name, taken apart.
struct Name<'n> {
    system: System,
    module: &'n str,
    class: Option<&'n str>,
}

impl<'n> Name<'n> {
    fn parse(text: &'n str) -> Option<Self> {
        let mut parts = text.split('.');
        let system = match parts.next()? {
            "linux" => System::Linux,
            "windows" => System::Windows,
            _ => return None,
        };
        let mut module = parts.next()?;
        if CATEGORIES.contains(&module) {
            module = parts.next()?;
        }
        let class = parts.next();
        parts.next().is_none().then_some(Self { system, module, class })
    }

    /// Whether it means what a name of the table means; without a class all classes of the module.
    fn means(&self, other: &Name<'_>) -> bool {
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        let class = match (self.class, other.class) {
            (Some(one), Some(other)) => same(one, other),
            _ => true,
        };
        self.system == other.system && same(self.module, other.module) && class
    }
}

/// The commands that a name of Volatility 3 means: one, or one for each system where only the module is typed; none for names it
/// does not have or that no command does the work of.
#[must_use]
pub fn resolve(text: &str) -> Vec<&'static dyn DynPlugin> {
    let table = || OTHER.iter().filter_map(|(name, command)| Some((Name::parse(name)?, *command)));
    let mut found: Vec<(System, &str)> = Vec::new();
    match Name::parse(text) {
        Some(name) => {
            found.extend(
                table().filter(|(other, _)| name.means(other)).map(|(_, command)| (name.system, command)),
            );
            let module = name.module.to_ascii_lowercase();
            let own = ALL.iter().map(|plugin| plugin.name()).find(|command| *command == module);
            found.extend(own.filter(|_| found.is_empty()).map(|command| (name.system, command)));
        }
        None => {
            let typed = table().filter(|(other, _)| other.module == text);
            found.extend(typed.map(|(other, command)| (other.system, command)));
        }
    }
    found.dedup();
    let commands = found.into_iter().filter_map(|(system, command)| {
        let fits = |active: Active| active.system().is_none_or(|of| of == system);
        ALL.iter().copied().find(|plugin| plugin.name() == command && fits(plugin.active()))
    });
    commands.collect()
}

/// The names in the table that mean a command.
pub fn names_of(plugin: &dyn DynPlugin) -> impl Iterator<Item = &'static str> {
    let (command, system) = (plugin.name(), plugin.active().system());
    let means =
        move |name: &str| Name::parse(name).is_some_and(|name| system.is_none_or(|of| of == name.system));
    OTHER.iter().filter(move |(name, of)| *of == command && means(name)).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<(&'static str, Active)> {
        resolve(text).iter().map(|plugin| (plugin.name(), plugin.active())).collect()
    }

    #[test]
    fn every_name_of_the_table_leads_to_a_command_of_its_system() {
        for (name, command) in OTHER {
            let found: Vec<_> = resolved(name);
            let system = Name::parse(name).map(|name| name.system);
            assert_eq!(found.len(), 1, "{name}");
            assert!(
                found
                    .iter()
                    .all(|(found, active)| found == command && [system, None].contains(&active.system())),
                "{name}"
            );
            assert_ne!(Name::parse(name).map(|name| name.module), Some(*command), "{name} needs no entry");
        }
    }

    #[test]
    fn names_may_be_short_old_or_new() {
        let linux = |command| vec![(command, Active::Linux)];
        for name in ["linux.pslist.PsList", "linux.pslist", "linux.PsList"] {
            assert_eq!(resolved(name), linux("pslist"), "{name}");
        }
        assert_eq!(resolved("windows.pslist.PsList"), [("pslist", Active::Windows)]);
        for name in
            ["linux.check_idt.Check_idt", "linux.malware.check_idt.Check_idt", "linux.malware.check_idt"]
        {
            assert_eq!(resolved(name), linux("check_idt"), "{name}");
        }
        for name in
            ["tty_check", "linux.tty_check", "linux.tty_check.tty_check", "linux.malware.tty_check.Tty_Check"]
        {
            assert_eq!(resolved(name), linux("check_ttys"), "{name}");
        }
        assert_eq!(resolved("linux.ip"), linux("ifconfig"));
    }

    #[test]
    fn other_names_mean_nothing() {
        for name in [
            "linux",
            "linux.",
            "linux.nothing",
            "mac.pslist.PsList",
            "linux.pslist.PsList.x",
            "linux.vad",
            "pslist.PsList",
        ] {
            assert!(resolved(name).is_empty(), "{name}");
        }
    }
}
