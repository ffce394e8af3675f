//! Which Windows kernel is in an image, which profile describes it, and where it is loaded.
//!
//! Evidence, best first: page table roots named by the container or the low stub, whose kernel image names its PDB; then
//! everything a pass over physical memory finds. A profile is fetched by the identity of that PDB and used only when the
//! structures it describes are where it says. Every decision is logged.

use std::sync::Arc;

use memory::{AddressSpace, Image, VirtualSpace};
use profile::Profile;
use profile::names::ProfileName;
use repository::{LoadError, Loaded};

use super::evidence::{Build, Evidence, Found};
use super::kernel::{Kernel, Layout};
use super::roots::{self, MODES, Root};
use super::verify::{system_dtb, verify};
use super::{indexes, remembered, triage};
use crate::diagnosis::Diagnosis;
use crate::error::Error;
use crate::module_profile::{self, ModuleProfile, Unavailable};
use crate::os::System;
use crate::session::Session;

/// Most combinations of a root, a base and a build that are tried when the kernel's image itself cannot be read.
const MAX_GUESSES: usize = 64;

/// Identifies the kernel, or explains in full why not.
pub(super) fn identify(session: &Session) -> Result<Kernel, Error> {
    let image = session.image()?;
    let looked_for = "page tables of Windows, a kernel image, RSDS records of its PDB and debugger blocks";
    let mut search = Search {
        session,
        diagnosis: Diagnosis::new(image, System::Windows, looked_for),
        profiles: Vec::new(),
        named: None,
    };
    if let Some(name) = &session.config.profile {
        search.named = search.load(name, |name| session.repositories().map(|all| all.load(name)))?;
        if search.named.is_none() {
            return Err(search.diagnosis.into_error());
        }
    }
    if triage::is_triage(image) {
        return search.triage(image);
    }
    let mut evidence = Evidence::quick(image);
    if let Some(dtb) = session.config.dtb {
        let source = || "as the user says".to_owned();
        evidence.replace_roots(MODES.map(|paging| Root { dtb, paging, source: source(), entry: None }));
    }
    for scanned in [false, true] {
        if scanned {
            // Only a search of all memory is worth remembering.
            if let Some(kernel) = search.remembered(image)? {
                return Ok(kernel);
            }
            evidence.scan(image);
        }
        for found in evidence.kernels(&image.space) {
            if let Some(kernel) = search.try_found(&image.space, &evidence, &found)? {
                if scanned {
                    remembered::remember(session, image, kernel.layout(), kernel.profile_name());
                }
                return Ok(kernel);
            }
        }
    }
    if !evidence.roots.iter().any(|(quality, _)| quality.shared_data) {
        evidence.add_roots(&image.space, indexes::roots(session, &image.space));
        for found in evidence.kernels(&image.space) {
            if let Some(kernel) = search.try_found(&image.space, &evidence, &found)? {
                return Ok(kernel);
            }
        }
    }
    for build in &evidence.builds {
        search.describe(build, evidence.roots.first().map(|(_, root)| root), &image.space);
    }
    // The image of the kernel is not readable through any root: debugger blocks may still tell where it is.
    let guesses = evidence.debugger_bases.iter().flat_map(|(at, base)| {
        let roots = evidence.roots.iter().filter(|(quality, _)| quality.shared_data);
        roots.map(move |(_, root)| (*at, Found { root: root.clone(), base: *base, build: None }))
    });
    for (at, found) in guesses.take(MAX_GUESSES) {
        search.diagnosis.decided(format!("debugger block at physical {at:#x} names base {:#x}", found.base));
        if let Some(kernel) = search.try_found(&image.space, &evidence, &found)? {
            return Ok(kernel);
        }
    }
    Err(search.diagnosis.into_error())
}

/// A search under way.
struct Search<'s> {
    session: &'s Session,
    diagnosis: Diagnosis,
    /// Profiles loaded so far.
    profiles: Vec<Candidate>,
    /// The one the user named.
    named: Option<Candidate>,
}

/// A profile under test.
#[derive(Clone)]
struct Candidate {
    name: String,
    source: String,
    profile: Arc<Profile>,
}

impl Search<'_> {
    /// The kernel where an earlier run found it, if it is there.
    fn remembered(&mut self, image: &Image) -> Result<Option<Kernel>, Error> {
        let Some(known) = remembered::recall(self.session, image) else { return Ok(None) };
        let Ok(name) = ProfileName::new(&known.profile) else { return Ok(None) };
        let Ok(loaded) = self.session.repositories()?.load_named(&name) else { return Ok(None) };
        let Loaded { name, profile, source, .. } = loaded;
        let candidate = Candidate { name, source, profile: Arc::new(profile) };
        let layout = Layout { paging: known.root.paging, dtb: known.root.dtb, base: known.base };
        match verify(&candidate.profile, &image.space, layout) {
            Ok(()) => Ok(Some(self.kernel(&image.space, candidate, layout, &known.root))),
            Err(reason) => {
                self.diagnosis.decided(format!("what an earlier run found does not hold: {reason}"));
                Ok(None)
            }
        }
    }

    /// A dump without physical memory: the profile the user named, if the process in the dump agrees with it.
    fn triage(mut self, image: &Image) -> Result<Kernel, Error> {
        let build = image.hints.windows.as_ref().and_then(|windows| windows.build);
        let build =
            build.map_or_else(|| "of unknown build".to_owned(), |build| format!("build {}", build & 0xffff));
        self.diagnosis.kernel(&build, None, "header of the dump, which has no physical memory");
        let (Some(candidate), Some(stored)) = (self.named.take(), &image.virtual_space) else {
            return Err(self.diagnosis.into_error());
        };
        if let Err(reason) = triage::verify(&candidate.profile, stored, image) {
            self.diagnosis.refused(&candidate.name, &reason);
            return Err(self.diagnosis.into_error());
        }
        self.diagnosis.decided(format!("{} fits the process in the dump", candidate.name));
        let decisions = self.diagnosis.decisions().to_vec();
        let Candidate { name, source, profile } = candidate;
        let (physical, stored) = (Arc::clone(&image.space), Some(Arc::clone(stored)));
        let layout = triage::layout(image);
        Ok(Kernel::over(self.session, profile, physical, stored, layout, (name, source), decisions))
    }

    /// Tests the profiles that may describe a kernel at the place it was found.
    fn try_found(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        evidence: &Evidence,
        found: &Found,
    ) -> Result<Option<Kernel>, Error> {
        if let Some(build) = &found.build {
            self.describe(build, Some(&found.root), space);
        }
        let builds: Vec<Build> = match &found.build {
            Some(build) => vec![build.clone()],
            None => evidence.builds.clone(),
        };
        let mut candidates: Vec<Candidate> = match self.named.clone() {
            Some(named) => vec![named],
            None => builds.iter().flat_map(|build| self.profile_of(build)).collect(),
        };
        if candidates.is_empty() && self.named.is_none() {
            candidates = self.by_index(space, found);
        }
        for candidate in candidates {
            let base = self.session.config.kernel_slide.unwrap_or(found.base);
            let layout = Layout { paging: found.root.paging, dtb: found.root.dtb, base };
            match verify(&candidate.profile, space, layout) {
                Ok(()) => return Ok(Some(self.kernel(space, candidate, layout, &found.root))),
                Err(reason) => {
                    self.diagnosis.refused(&candidate.name, &format!("{}: {reason}", found.root.source));
                }
            }
        }
        Ok(None)
    }

    fn kernel(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        candidate: Candidate,
        layout: Layout,
        root: &Root,
    ) -> Kernel {
        self.diagnosis
            .decided(format!("page tables: {} at {:#x}, {}", root.paging.name, root.dtb, root.source));
        let Candidate { name, source, profile } = candidate;
        self.diagnosis.decided(format!("{name} fits the kernel at {:#x}", layout.base));
        let layout = match system_dtb(&profile, space, layout) {
            Some(dtb) if self.session.config.dtb.is_none() && dtb != layout.dtb => {
                self.diagnosis.decided(format!("page tables of the process System: {dtb:#x}"));
                Layout { dtb, ..layout }
            }
            _ => layout,
        };
        let decisions = self.diagnosis.decisions().to_vec();
        Kernel::new(self.session, profile, Arc::clone(space), layout, (name, source), decisions)
    }

    /// The profiles of builds whose code is where the kernel was found.
    fn by_index(&mut self, space: &Arc<dyn AddressSpace>, found: &Found) -> Vec<Candidate> {
        let virt = VirtualSpace::new(Arc::clone(space), found.root.paging, found.root.dtb);
        let mut candidates = Vec::new();
        for name in indexes::builds(self.session, &virt, found.base) {
            let session = self.session;
            let loaded =
                self.load(name.as_str(), |_| session.repositories().map(|all| all.load_named(&name)));
            candidates.extend(loaded.ok().flatten());
        }
        candidates
    }

    /// Tells the diagnosis of a kernel build.
    fn describe(&mut self, build: &Build, root: Option<&Root>, space: &Arc<dyn AddressSpace>) {
        let version = root.and_then(|root| {
            let virt = VirtualSpace::new(Arc::clone(space), root.paging, root.dtb);
            roots::version(&virt, root.paging.bits == 32)
        });
        let version = version.map_or_else(String::new, |version| format!("{version}, "));
        let name = format!("{version}{} {}", build.pdb, build.id);
        self.diagnosis.kernel(&name, None, &build.source);
    }

    /// The profile of a build, from the repositories or made of its PDB.
    fn profile_of(&mut self, build: &Build) -> Vec<Candidate> {
        let text = format!("nt/GUID/{}", build.id);
        if let Some(known) = self.profiles.iter().find(|candidate| candidate.name == text) {
            return vec![known.clone()];
        }
        if self.diagnosis.already_tried(&text) {
            return Vec::new();
        }
        match module_profile::find(self.session, "nt", &build.pdb, build.id) {
            Ok(ModuleProfile { name, source, profile }) => {
                let candidate = Candidate { name, source, profile: Arc::new(profile) };
                self.profiles.push(candidate.clone());
                vec![candidate]
            }
            Err(Unavailable { repositories, stores, error }) => {
                self.diagnosis.asked(&repositories);
                self.diagnosis.symbols(&stores, &error);
                Vec::new()
            }
        }
    }

    /// Loads a profile unless it was tried before.
    fn load(
        &mut self,
        name: &str,
        load: impl FnOnce(&str) -> Result<Result<Loaded, LoadError>, Error>,
    ) -> Result<Option<Candidate>, Error> {
        if self.diagnosis.already_tried(name) {
            return Ok(None);
        }
        Ok(match load(name)? {
            Ok(Loaded { name, profile, source, .. }) => {
                Some(Candidate { name, source, profile: Arc::new(profile) })
            }
            Err(error) => {
                self.diagnosis.asked(&error.trace);
                None
            }
        })
    }
}
