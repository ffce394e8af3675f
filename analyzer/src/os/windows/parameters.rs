//! What a process was started with: `_RTL_USER_PROCESS_PARAMETERS` in its own memory.

use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::process::{Peb, Process};
use super::unicode;

/// Most bytes of an environment; Windows allowed no more than 32,767 characters for long, and has no limit now.
const MAX_ENVIRONMENT: usize = 1 << 20;
/// Bytes read at a time.
const PAGE: u64 = 4096;

layout! {
    struct Parameters / ParametersLayout = "_RTL_USER_PROCESS_PARAMETERS" {
        command_line: Addr = "CommandLine",
        image_path: Addr = "ImagePathName",
        current_directory: Addr = "CurrentDirectory.DosPath",
        dll_path: Addr = "DllPath",
        window_title: Addr = "WindowTitle",
        desktop: Addr = "DesktopInfo",
        environment: Ptr = "Environment",
    }
}

/// The environment of a process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NAME=value` each.
    pub variables: Vec<String>,
    /// Why there may be more.
    pub cut: Option<Absent>,
}

impl Process<'_> {
    /// The command line it was started with. `user` is its memory.
    pub fn command_line(&self, user: &Target) -> Read<String> {
        unicode::text_at(user, self.parameters(user)?.command_line())
    }

    /// The path of its executable, as the process knows it. `user` is its memory.
    pub fn image_path(&self, user: &Target) -> Read<String> {
        unicode::text_at(user, self.parameters(user)?.image_path())
    }

    /// All texts it was started with, by their names. `user` is its memory.
    pub fn parameter_texts(&self, user: &Target) -> Vec<(&'static str, Read<String>)> {
        let parameters = self.parameters(user);
        let parameters = parameters.as_ref().map_err(Clone::clone);
        [
            ("ImagePathName", parameters.clone().and_then(Parameters::image_path)),
            ("CommandLine", parameters.clone().and_then(Parameters::command_line)),
            ("CurrentDirectory", parameters.clone().and_then(Parameters::current_directory)),
            ("DllPath", parameters.clone().and_then(Parameters::dll_path)),
            ("WindowTitle", parameters.clone().and_then(Parameters::window_title)),
            ("DesktopInfo", parameters.and_then(Parameters::desktop)),
        ]
        .into_iter()
        .map(|(name, place)| (name, unicode::text_at(user, place)))
        .collect()
    }

    /// Its environment. `user` is its memory.
    pub fn environment(&self, user: &Target) -> Read<Environment> {
        let start = self.parameters(user)?.environment()?.non_null("no environment")?;
        let (mut bytes, mut at, mut cut) = (Vec::new(), start, None);
        // Two zeros end it, the text before them another two.
        let mut ended = false;
        while !ended && bytes.len() < MAX_ENVIRONMENT {
            let mut page = vec![0; usize::try_from(PAGE - at % PAGE).unwrap_or(0)];
            if let Err(fault) = user.space().read_at(at, &mut page) {
                let why = Absent::Unreadable { addr: at, fault };
                if bytes.is_empty() {
                    return Err(why);
                }
                cut = Some(why);
                break;
            }
            at = at.wrapping_add(page.len() as u64);
            let from = bytes.len().saturating_sub(4);
            bytes.append(&mut page);
            // Characters are at even places of the block.
            let units = bytes.get(from & !1..).unwrap_or_default().as_chunks::<2>().0;
            ended = units.windows(2).any(|pair| pair == [[0, 0], [0, 0]]);
        }
        if !ended && cut.is_none() {
            cut = Some(Absent::Malformed("environment without an end"));
        }
        let variables = bytes.as_chunks::<2>().0.split(|unit| *unit == [0, 0]);
        let variables = variables.take_while(|variable| !variable.is_empty());
        let variables = variables.map(|variable| unicode::decode(variable.as_flattened()));
        Ok(Environment { variables: variables.collect(), cut })
    }

    fn parameters<'u>(&self, user: &'u Target) -> Read<Parameters<'u>> {
        let peb = self.peb()?.non_null("no environment block")?;
        let parameters = Peb::at(user, peb).parameters()?.non_null("no parameters")?;
        Ok(Parameters::at(user, parameters))
    }
}
