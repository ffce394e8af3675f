//! The diagnosis: when an image cannot be opened or identified, everything that was found and tried, and what to do.

use memory::{Image, OpenError};
use profile::names::BuildId;
use profile_gen::symbol_server;
use repository::Asked;

use crate::error::Error;
use crate::os::System;

/// Most lines about one topic; the rest is counted.
const MAX_LINES: usize = 24;

/// What was found out about an image on the way to its kernel.
#[derive(Debug)]
pub struct Diagnosis {
    system: System,
    /// What a search for this system's kernels looks for.
    looked_for: &'static str,
    image: String,
    kernels: Vec<(String, Option<BuildId>, String)>,
    asked: Vec<Asked>,
    /// Symbol stores that were asked, and what to do where they did not help.
    stores: Vec<String>,
    advice: Option<String>,
    refused: Vec<(String, String)>,
    tried: Vec<String>,
    exact: bool,
    damage: Vec<String>,
    decisions: Vec<String>,
}

impl Diagnosis {
    /// Starts with an opened image in which a kernel of one system is looked for, by `looked_for`.
    #[must_use]
    pub fn new(image: &Image, system: System, looked_for: &'static str) -> Self {
        let bytes: u64 = image.space.runs(0, u64::MAX).map(|run| run.len).sum();
        let name = format!("{}, {} MiB of memory", image.layers.join(" > "), bytes >> 20);
        Self {
            system,
            looked_for,
            decisions: vec![format!("image: {name}")],
            image: name,
            kernels: Vec::new(),
            asked: Vec::new(),
            stores: Vec::new(),
            advice: None,
            refused: Vec::new(),
            tried: Vec::new(),
            exact: false,
            damage: image.warnings.clone(),
        }
    }

    /// A kernel was found in the image.
    pub fn kernel(&mut self, release: &str, build_id: Option<&BuildId>, source: &str) {
        let known = self
            .kernels
            .iter()
            .any(|(r, id, _)| r == release && (build_id.is_none() || id.as_ref() == build_id));
        if !known {
            self.kernels.push((release.to_owned(), build_id.cloned(), source.to_owned()));
        }
    }

    /// Repositories were asked.
    pub fn asked(&mut self, asked: &[Asked]) {
        for question in asked {
            if !self.asked.contains(question) {
                self.asked.push(question.clone());
            }
        }
    }

    /// Symbol stores were asked and did not help; `error` says why and what to do.
    pub fn symbols(&mut self, asked: &[symbol_server::Asked], error: &Error) {
        self.stores.extend(asked.iter().map(ToString::to_string));
        self.decisions.push(error.to_string());
        if self.advice.is_none() {
            self.advice = error.hint().map(str::to_owned);
        }
    }

    /// A profile was tried and does not fit.
    pub fn refused(&mut self, name: &str, reason: &str) {
        self.decisions.push(format!("{name} refused: {reason}"));
        self.refused.push((name.to_owned(), reason.to_owned()));
    }

    /// Remembers that a profile is tried; true when it was before.
    pub fn already_tried(&mut self, name: &str) -> bool {
        let known = self.tried.iter().any(|tried| tried == name);
        if !known {
            self.tried.push(name.to_owned());
        }
        known
    }

    /// A profile of the very build that the image names is there.
    pub fn exact(&mut self) {
        self.exact = true;
    }

    /// Logs a decision.
    pub fn decided(&mut self, decision: String) {
        self.decisions.push(decision);
    }

    /// What was decided so far.
    #[must_use]
    pub fn decisions(&self) -> &[String] {
        &self.decisions
    }

    /// The error for the user.
    #[must_use]
    pub fn into_error(self) -> Error {
        let mut lines = vec![format!("image: {}", self.image)];
        lines.extend(self.damage.iter().map(|damage| format!("image: {damage}")));
        if self.kernels.is_empty() {
            lines.push(format!(
                "kernel: none of {} found (looked for {})",
                self.system.name(),
                self.looked_for
            ));
        }
        for (release, build_id, source) in self.kernels.iter().take(MAX_LINES) {
            let id = build_id.as_ref().map_or_else(String::new, |id| format!(", build-id {id}"));
            lines.push(format!("kernel: {} {release}{id} ({source})", self.system.name()));
        }
        for question in self.asked.iter().take(MAX_LINES) {
            lines.push(format!("asked: {question}"));
        }
        if self.asked.len() > MAX_LINES {
            lines.push(format!("asked: {} more questions", self.asked.len() - MAX_LINES));
        }
        lines.extend(self.stores.iter().take(MAX_LINES).map(|question| format!("asked: {question}")));
        if self.stores.len() > MAX_LINES {
            lines.push(format!("asked: {} more symbol stores", self.stores.len() - MAX_LINES));
        }
        if self.asked.is_empty() && self.tried.is_empty() && !self.kernels.is_empty() {
            lines.push("asked: nobody, no repository is configured".to_owned());
        }
        for (name, reason) in self.refused.iter().take(MAX_LINES) {
            lines.push(format!("refused: {name}: {reason}"));
        }
        let (message, hint) = self.conclusion();
        Error::identify(message).with_details(lines).with_hint(hint)
    }

    fn conclusion(&self) -> (String, String) {
        if self.exact {
            return (
                "the image is too damaged to reach its kernel, whose profile is there".to_owned(),
                if self.damage.is_empty() {
                    "acquire the image again; its page tables do not lead to the kernel".to_owned()
                } else {
                    "acquire the image again; the file is incomplete".to_owned()
                },
            );
        }
        if let Some((name, _)) = self.refused.first() {
            return (
                format!("no profile fits this image; the closest was {name}"),
                "use the profile of exactly this kernel build, or leave out --profile".to_owned(),
            );
        }
        match (self.kernels.first(), self.system) {
            (Some((release, ..)), System::Linux) => (
                format!("no profile found for Linux {release}"),
                format!(
                    "make one where that kernel's vmlinux (with debug information or BTF) and System.map are: \
                     rekal convert_profile vmlinux-{release} {release}.json, then rekal --profile {release}.json ..."
                ),
            ),
            (Some((release, ..)), System::Windows) => (
                format!("no profile found for Windows {release}"),
                self.advice.clone().unwrap_or_else(|| {
                    "name a repository that has it with --repository_path, or leave out --offline".to_owned()
                }),
            ),
            (None, _) => (NO_KERNEL.to_owned(), NO_KERNEL_HINT.to_owned()),
        }
    }
}

const NO_KERNEL: &str = "no kernel found in this image";
const NO_KERNEL_HINT: &str = "check that the file is a complete dump of physical memory of a Linux or Windows system; \
                              if the kernel is known, name its profile: rekal --profile NAME ...";

/// The error for an image in which no system was identified, from those of the systems, the more likely one first.
#[must_use]
pub fn neither(failures: &[Error]) -> Error {
    // The search that came closest explains the most.
    let closest = failures.iter().find(|error| error.to_string() != NO_KERNEL).or(failures.first());
    let Some(closest) = closest else { return Error::identify(NO_KERNEL) };
    let mut lines: Vec<String> = Vec::new();
    for line in closest.details().iter().chain(failures.iter().flat_map(Error::details)) {
        if !lines.contains(line) {
            lines.push(line.clone());
        }
    }
    let error = Error::identify(closest.to_string()).with_details(lines);
    match closest.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The error for an image that cannot be opened.
#[must_use]
pub fn open_error(error: &OpenError) -> Error {
    let lines: Vec<String> = error.refusals().iter().map(|refusal| format!("tried: {refusal}")).collect();
    let hint = match error {
        OpenError::Io { .. } => "check the path and the permissions",
        OpenError::Directory { .. } => "name the image file in it",
        OpenError::Empty { .. } => "acquire the image again; the copy has no content",
        OpenError::NotAnImage { .. } => "name a dump of physical memory: raw, ELF core, LiME, AVML or kdump",
        OpenError::Refused { .. } => {
            "acquire the image again, or convert it to raw or ELF core with its own tools"
        }
    };
    Error::identify(error.to_string()).with_details(lines).with_hint(hint)
}
