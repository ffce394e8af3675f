//! Which Linux kernel is in an image, which profile describes it, and where KASLR put it.
//!
//! Evidence, best first: the container's VMCOREINFO note; VMCOREINFO in memory; the banner `Linux version ...`; the idle
//! task's name `swapper/0`; what `remains` finds in a damaged image. Each piece gives a hypothesis: by how much the kernel image
//! was moved in physical memory. A hypothesis holds when the page tables it implies map the image back to itself, or the pointers
//! in it tell the same place, and the profile's symbols read what they must. A profile that fails is refused, with the probe that
//! failed. Every decision is logged.

use std::collections::BTreeSet;
use std::sync::Arc;

use memchr::memmem;
use memory::{AddressSpace, CHUNK, Image, find_bytes, scan_first};
use profile::Profile;
use profile::names::{BuildId, ProfileName, release_of_banner};
use repository::{Candidate as ProfileCandidate, LinuxEvidence, LoadError, Loaded};

use super::carve::{carve, kernel_symbols};
use super::kernel::{Kernel, Layout};
use super::nearest;
use super::place::{Hypothesis, hypotheses, locate, locate_remains};
use super::remains::{self, TopTable};
use super::verify::verify;
use super::vmcoreinfo::{MAX_LEN, VmcoreInfo};
use crate::diagnosis::Diagnosis;
use crate::error::Error;
use crate::os::System;
use crate::session::Session;

/// Most copies of a banner that are looked at.
const MAX_HITS: usize = 512;
/// Most places that are tried without page tables.
const MAX_REMAINS: usize = 16;

/// What an image says of its kernel before any profile is known.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) vmcoreinfo: Vec<(VmcoreInfo, String)>,
    banners: Vec<String>,
    /// Physical addresses of texts that look like banners.
    pub(super) banner_hits: Vec<u64>,
    /// Where the kernel's own symbols, carved out of the image, put it.
    pub(super) carved: Option<Hypothesis>,
    /// Releases named by modules and by the kernel's `utsname`.
    releases: BTreeSet<String>,
    /// First page tables.
    pub(super) tables: Vec<TopTable>,
}

/// A profile under test.
struct Candidate {
    name: String,
    source: String,
    profile: Arc<Profile>,
    /// Physical shifts and starts of RAM it was tested with.
    tried: BTreeSet<(u64, u64)>,
}

/// Identifies the kernel, or explains in full why not.
pub(super) fn identify(session: &Session) -> Result<Kernel, Error> {
    let image = session.image()?;
    let mut diagnosis = Diagnosis::new(image, System::Linux, "VMCOREINFO and a Linux banner");
    let mut evidence = Evidence::default();
    if let Some(text) = &image.hints.vmcoreinfo
        && let Some(info) = VmcoreInfo::parse(text)
    {
        evidence.vmcoreinfo.push((info, "VMCOREINFO note of the image".to_owned()));
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    // Cheap evidence first: memory is searched for more only when it did not lead to a kernel.
    for stage in [Stage::Notes, Stage::VmcoreInfo, Stage::Banner, Stage::Remains] {
        evidence.gather(stage, &*image.space);
        load_candidates(session, &evidence, &mut candidates, &mut diagnosis)?;
        for candidate in &mut candidates {
            if let Some(kernel) = try_candidate(session, &evidence, stage, candidate, &mut diagnosis) {
                return Ok(kernel);
            }
        }
    }
    if let Some(kernel) = from_image(session, &mut evidence, &mut diagnosis) {
        return Ok(kernel);
    }
    if let Some(kernel) = from_neighbour(session, &evidence, &mut diagnosis) {
        return Ok(kernel);
    }
    for candidate in candidates.iter().filter(|candidate| candidate.tried.is_empty()) {
        diagnosis.refused(&candidate.name, "nothing in the image tells where this kernel would stand");
    }
    evidence.describe(&mut diagnosis);
    Err(diagnosis.into_error())
}

/// Where the kernel keeps no types: those of the nearest kernel that fits. Every result is marked as such.
fn from_neighbour(session: &Session, evidence: &Evidence, diagnosis: &mut Diagnosis) -> Option<Kernel> {
    if session.config.profile.is_some() {
        return None;
    }
    let image = session.image().ok()?;
    let releases: BTreeSet<String> =
        evidence.questions().into_iter().filter_map(|question| question.release).collect();
    let names = nearest::names(session, &releases);
    if names.is_empty() {
        return None;
    }
    let symbols = kernel_symbols(&*image.space).ok()?;
    for neighbour in nearest::neighbours(session, &names, &symbols) {
        let nearest::Neighbour { name, source, document, common } = neighbour;
        let Some(profile) = nearest::without(document.clone(), &[]) else { continue };
        let mut candidate =
            Candidate { name: format!("types of {name}"), source, profile, tried: BTreeSet::new() };
        let Some(kernel) = try_candidate(session, evidence, Stage::Banner, &mut candidate, diagnosis) else {
            continue;
        };
        let tested = match nearest::test(&kernel) {
            Ok(tested) => tested,
            Err(reason) => {
                diagnosis.refused(&candidate.name, &reason);
                continue;
            }
        };
        let profile = nearest::without(document, &tested.wrong)?;
        session.notes.partial(format!(
            "no repository has this kernel's profile and the image keeps no types: those of {name} are used, another build, \
             which shares {common} % of the symbols; {tested}"
        ));
        let named = (candidate.name, candidate.source);
        let decisions = kernel.decisions().to_vec();
        return Some(Kernel::new(profile, &image.space, kernel.layout(), named, decisions));
    }
    None
}

/// The last resort: a profile made from the image itself. It is kept in the cache directory under its build-id.
fn from_image(session: &Session, evidence: &mut Evidence, diagnosis: &mut Diagnosis) -> Option<Kernel> {
    const NAME: &str = "profile made from the image";
    if session.config.profile.is_some() {
        return None;
    }
    let refused = |diagnosis: &mut Diagnosis, reason: &str| diagnosis.refused(NAME, reason);
    let carved = match carve(&*session.image().ok()?.space) {
        Ok(carved) => carved,
        Err(reason) => {
            refused(diagnosis, &reason);
            return None;
        }
    };
    let document = carved.converted.document;
    let profile = match Profile::parse_text(document.to_canonical_json()) {
        Ok(profile) => Arc::new(profile),
        Err(error) => {
            refused(diagnosis, &error.to_string());
            return None;
        }
    };
    diagnosis.decided(format!("{NAME}: {}", carved.found));
    evidence.carved =
        carved.physical_shift.map(|shift| Hypothesis::at(shift, 0, "kallsyms in memory".to_owned()));
    let build_id = profile.metadata_str("BuildID").and_then(BuildId::from_hex);
    let mut candidate =
        Candidate { name: NAME.to_owned(), source: "the image".to_owned(), profile, tried: BTreeSet::new() };
    let kernel = try_candidate(session, evidence, Stage::Remains, &mut candidate, diagnosis)?;
    let kept = build_id.map(|id| ProfileName::linux_build_id(&id)).and_then(|name| {
        session.repositories().ok()?.keep(&name, &document).ok()?;
        Some(format!("; it is kept as {name}"))
    });
    session.notes.info(format!(
        "no repository has this kernel's profile, so it was made from the image: {}{}",
        carved.found,
        kept.unwrap_or_default()
    ));
    Some(kernel)
}

/// Whether the strongest evidence that can be had quickly says that an image is of Linux; no proof.
#[must_use]
pub fn looks_like(image: &Image) -> bool {
    image.hints.vmcoreinfo.is_some() || vmcoreinfo_in_memory(image).is_some()
}

/// Whether the image is a raw dump of an ARM64 machine, by the VMCOREINFO in it: such dumps begin where RAM begins.
#[must_use]
pub fn may_begin_anywhere(image: &Image) -> bool {
    let is_raw = image.layers.last().is_some_and(|layer| layer.starts_with("raw"));
    is_raw && vmcoreinfo_in_memory(image).is_some_and(|info| info.image_offset().is_some())
}

fn vmcoreinfo_in_memory(image: &Image) -> Option<VmcoreInfo> {
    let mut evidence = Evidence::default();
    evidence.find_vmcoreinfo(&*image.space);
    evidence.vmcoreinfo.pop().map(|(info, _)| info)
}

/// How far the search for evidence went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Notes,
    VmcoreInfo,
    Banner,
    /// What is left where all that is damaged.
    Remains,
}

impl Evidence {
    fn gather(&mut self, stage: Stage, space: &dyn AddressSpace) {
        match stage {
            Stage::Notes => {}
            Stage::VmcoreInfo => self.find_vmcoreinfo(space),
            Stage::Banner => self.find_banners(space),
            Stage::Remains => {
                self.releases = remains::releases(space);
                self.tables = remains::top_tables(space);
            }
        }
    }

    /// The VMCOREINFO with the lowest physical address. Other copies are of the same kernel but for rare cases (a crash
    /// kernel's image), which the banners of the next stage tell apart.
    fn find_vmcoreinfo(&mut self, space: &dyn AddressSpace) {
        if !self.vmcoreinfo.is_empty() {
            return;
        }
        let finder = memmem::Finder::new(b"OSRELEASE=");
        self.vmcoreinfo.extend(scan_first(space, CHUNK, MAX_LEN, |piece| {
            finder.find_iter(piece.bytes).take_while(|&at| at < piece.own).find_map(|at| {
                let info = VmcoreInfo::parse(piece.bytes.get(at..)?)?;
                let addr = piece.addr.wrapping_add(at as u64);
                Some((info, format!("VMCOREINFO in memory at physical {addr:#x}")))
            })
        }));
    }

    fn find_banners(&mut self, space: &dyn AddressSpace) {
        let mut texts = BTreeSet::new();
        for addr in find_bytes(space, b"Linux version ", MAX_HITS) {
            let text = space.read_cstr(addr, 512).unwrap_or_default();
            let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
            // "Linux version 6.1.0-56 (builder@host) (compiler) #1 SMP ...": a digit, and the builder in brackets.
            if let Ok(line) = std::str::from_utf8(line)
                && line.len() > 40
                && line.as_bytes().get(14).is_some_and(u8::is_ascii_digit)
                && line.contains(" (")
                && line.contains(" #")
                && !line.contains(char::is_control)
            {
                texts.insert(line.to_owned());
                self.banner_hits.push(addr);
            }
        }
        self.banners = texts.into_iter().collect();
    }

    /// Questions for the repositories, best first.
    fn questions(&self) -> Vec<LinuxEvidence> {
        let from_info = self.vmcoreinfo.iter().map(|(info, _)| LinuxEvidence {
            build_id: info.build_id(),
            banner: None,
            release: Some(info.release().to_owned()),
        });
        let from_banner = self.banners.iter().map(|banner| LinuxEvidence {
            build_id: None,
            banner: Some(banner.clone()),
            release: release_of_banner(banner).map(str::to_owned),
        });
        let others = self.releases.iter().map(|release| LinuxEvidence {
            build_id: None,
            banner: None,
            release: Some(release.clone()),
        });
        from_info.chain(from_banner).chain(others).collect()
    }

    fn describe(&self, diagnosis: &mut Diagnosis) {
        for (info, source) in &self.vmcoreinfo {
            diagnosis.kernel(info.release(), info.build_id().as_ref(), source);
        }
        for banner in &self.banners {
            diagnosis.kernel(release_of_banner(banner).unwrap_or(banner), None, &format!("banner: {banner}"));
        }
        for release in &self.releases {
            diagnosis.kernel(release, None, "named by modules or utsname in memory");
        }
    }
}

/// Adds the profiles that the evidence leads to, or the one the user named, as far as they are not there yet.
fn load_candidates(
    session: &Session,
    evidence: &Evidence,
    candidates: &mut Vec<Candidate>,
    diagnosis: &mut Diagnosis,
) -> Result<(), Error> {
    let repositories = session.repositories()?;
    // Only a name typed by the user may be a local file; names that come from the image are for repositories.
    if let Some(name) = &session.config.profile {
        add_candidate(name, |name| repositories.load(name), candidates, diagnosis);
        return Ok(());
    }
    for question in evidence.questions() {
        match repositories.find_linux(&question) {
            Ok(found) => {
                for ProfileCandidate { name, .. } in found {
                    add_candidate(name.as_str(), |_| repositories.load_named(&name), candidates, diagnosis);
                }
            }
            Err(error) => diagnosis.asked(&error.trace),
        }
    }
    Ok(())
}

/// Loads a profile unless it was tried before.
fn add_candidate(
    name: &str,
    load: impl FnOnce(&str) -> Result<Loaded, LoadError>,
    candidates: &mut Vec<Candidate>,
    diagnosis: &mut Diagnosis,
) {
    if diagnosis.already_tried(name) {
        return;
    }
    match load(name) {
        // Two names may lead to one profile.
        Ok(loaded) if candidates.iter().any(|candidate| candidate.name == loaded.name) => {}
        Ok(Loaded { name, profile, source, .. }) => {
            candidates.push(Candidate { name, source, profile: Arc::new(profile), tried: BTreeSet::new() });
        }
        Err(error) => {
            diagnosis.asked(&error.trace);
            diagnosis.refused(name, &error.to_string());
        }
    }
}

/// Tests one profile at every place the evidence names and that it was not tested at yet.
fn try_candidate(
    session: &Session,
    evidence: &Evidence,
    stage: Stage,
    candidate: &mut Candidate,
    diagnosis: &mut Diagnosis,
) -> Option<Kernel> {
    let image = session.image().ok()?;
    let Candidate { name, source, profile, tried } = candidate;
    if let Err(reason) = check_build_id(profile, evidence) {
        // Once per profile; there is nothing to try at any place.
        if tried.insert((u64::MAX, 0)) {
            diagnosis.refused(name, &reason);
        }
        return None;
    }
    if is_exact(profile, evidence) {
        diagnosis.exact();
    }
    let hypotheses = hypotheses(evidence, stage, profile, image);
    let info = evidence.vmcoreinfo.first().map(|(info, _)| info);
    for hypothesis in &hypotheses {
        if !tried.insert((hypothesis.physical_shift, hypothesis.ram_start)) {
            continue;
        }
        let located = locate(profile, &image.space, hypothesis, info)
            .map(|layout| with_overrides(session, layout))
            .and_then(|layout| verify(profile, &image.space, layout, &evidence.vmcoreinfo).map(|()| layout));
        match located {
            Ok(layout) => {
                diagnosis.decided(format!("{name} fits: {}", hypothesis.source));
                let decisions = diagnosis.decisions().to_vec();
                let named = (name.clone(), source.clone());
                return Some(Kernel::new(Arc::clone(profile), &image.space, layout, named, decisions));
            }
            Err(reason) => diagnosis.refused(name, &format!("{}: {reason}", hypothesis.source)),
        }
    }
    let remaining = if stage >= Stage::Remains { hypotheses.as_slice() } else { &[] };
    for hypothesis in remaining.iter().take(MAX_REMAINS) {
        let located = locate_remains(profile, &image.space, hypothesis, &evidence.tables, info).and_then(
            |(layout, how)| {
                let layout = with_overrides(session, layout);
                verify(profile, &image.space, layout, &evidence.vmcoreinfo).map(|()| (layout, how))
            },
        );
        match located {
            Ok((layout, how)) => {
                diagnosis.decided(format!("{name} fits: {}; {how}", hypothesis.source));
                session.notes.partial(format!("the kernel's page tables are damaged: {how}"));
                let decisions = diagnosis.decisions().to_vec();
                let named = (name.clone(), source.clone());
                return Some(Kernel::new(Arc::clone(profile), &image.space, layout, named, decisions));
            }
            Err(reason) => diagnosis.refused(name, &format!("{}: {reason}", hypothesis.source)),
        }
    }
    None
}

/// A build-id that differs from that of every kernel in the image rules a profile out; without one, probes must tell.
fn check_build_id(profile: &Profile, evidence: &Evidence) -> Result<(), String> {
    let Some(ours) = profile.metadata_str("BuildID").and_then(BuildId::from_hex) else { return Ok(()) };
    let found: Vec<BuildId> = evidence.vmcoreinfo.iter().filter_map(|(info, _)| info.build_id()).collect();
    match found.first() {
        Some(theirs) if !found.contains(&ours) => {
            Err(format!("the profile is of the kernel with build-id {ours}, the image runs {theirs}"))
        }
        _ => Ok(()),
    }
}

/// Whether the image names the very build the profile was made from.
fn is_exact(profile: &Profile, evidence: &Evidence) -> bool {
    let ours = profile.metadata_str("BuildID").and_then(BuildId::from_hex);
    ours.is_some() && evidence.vmcoreinfo.iter().any(|(info, _)| info.build_id() == ours)
}

/// The user's `--dtb` and `--kernel_slide` win over what was found.
fn with_overrides(session: &Session, layout: Layout) -> Layout {
    Layout {
        dtb: session.config.dtb.unwrap_or(layout.dtb),
        slide: session.config.kernel_slide.unwrap_or(layout.slide),
        ..layout
    }
}
