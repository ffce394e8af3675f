//! One search through the stores, form by form.

use std::path::{Path, PathBuf};

use transport::{Url, plain, shown};

use super::answer::{Answer, Asked};
use super::check::Wanted;
use super::directory::{self, Candidate, Directory};
use super::http::{Form, Server};
use super::misses::Miss;
use super::pointer::{MAX_POINTER, Pointer};
use super::{Store, SymbolServer};

/// A file that was found.
pub(super) struct Found {
    pub(super) bytes: Vec<u8>,
    /// The file or URL that gave it.
    pub(super) source: String,
    /// Where it lies, if on this machine.
    pub(super) path: Option<PathBuf>,
}

/// One search under way.
pub(super) struct Search<'a> {
    server: &'a SymbolServer,
    wanted: &'a Wanted,
    pub(super) trace: Vec<Asked>,
}

impl<'a> Search<'a> {
    pub(super) fn new(server: &'a SymbolServer, wanted: &'a Wanted) -> Self {
        Self { server, wanted, trace: Vec::new() }
    }

    /// Asks one store.
    pub(super) fn ask(&mut self, store: &Store) -> Option<Found> {
        match store {
            Store::Unusable { text, reason } => {
                self.miss(text.clone(), Answer::Refused((*reason).to_owned()))
            }
            Store::Directory(directory) => self.ask_directory(directory),
            Store::Server(server) => self.ask_server(server),
        }
    }

    fn add(&mut self, place: impl Into<String>, answer: Answer) {
        self.trace.push(Asked { place: place.into(), answer });
    }

    fn miss(&mut self, place: impl Into<String>, answer: Answer) -> Option<Found> {
        self.add(place, answer);
        None
    }

    fn ask_directory(&mut self, directory: &Directory) -> Option<Found> {
        let candidates = directory.candidates(self.wanted);
        if candidates.is_empty() {
            return self.miss(directory.root.display().to_string(), Answer::NotThere);
        }
        candidates.into_iter().find_map(|candidate| match candidate {
            Candidate::InStore(path) => self.read(path, Answer::Wrong),
            Candidate::Loose(path) => self.read(path, Answer::Other),
            Candidate::Pointer(path) => {
                let text = directory::read_file(&path, MAX_POINTER);
                self.follow(text.map_err(Answer::Refused), path.display().to_string(), false)
            }
        })
    }

    /// Reads and checks a file of this machine; `wrong` makes the answer where it is another one.
    fn read(&mut self, path: PathBuf, wrong: fn(String) -> Answer) -> Option<Found> {
        let (place, max) = (path.display().to_string(), self.server.options.limits.max_file);
        let read = directory::read_file(&path, max).map_err(Answer::Refused);
        match read.and_then(|bytes| self.wanted.accept(bytes, max)) {
            Ok(bytes) => {
                self.add(&place, Answer::Found);
                Some(Found { bytes, source: place, path: Some(path) })
            }
            Err(Answer::Wrong(reason)) => self.miss(place, wrong(reason)),
            Err(answer) => self.miss(place, answer),
        }
    }

    fn ask_server(&mut self, server: &Server) -> Option<Found> {
        if let Some(answer) = server.closed() {
            return self.miss(server.label(), answer);
        }
        let misses = &self.server.misses;
        let question = format!("{} {}/{}", server.base, self.wanted.name(), self.wanted.key());
        if let Some(miss) = misses.get(&question).filter(|_| !self.server.options.ask_again) {
            return self.miss(server.label(), Answer::Remembered(miss.answer().to_string()));
        }
        let first = self.trace.len();
        let found = self.ask_tiers(server);
        let limits = &self.server.options.limits;
        let answers = self.trace.iter().skip(first).map(|asked| Miss::of(&asked.answer));
        match (&found, answers.collect()) {
            (Some(_), _) => misses.remove(&question),
            (None, Some(answers)) => match most_telling(answers) {
                Some(miss @ Miss::Wrong(_)) => misses.put(&question, miss, limits.remember_wrong),
                Some(miss) => misses.put(&question, miss, limits.remember_missing),
                None => {}
            },
            // Trouble with the network says nothing about the file.
            (None, None) => {}
        }
        found
    }

    fn ask_tiers(&mut self, server: &Server) -> Option<Found> {
        let known = server.knows_two_tiers();
        for two_tiers in [known, !known] {
            // The second tier is looked into only where the server has one.
            if two_tiers && !known {
                match server.has_two_tiers() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(answer) => return self.miss(server.label(), answer),
                }
            }
            for form in Form::ALL {
                let Some(url) = server.address(self.wanted, two_tiers, form) else {
                    return self.miss(server.label(), Answer::Refused("not a URL with a path".to_owned()));
                };
                let found = match form {
                    Form::Plain | Form::Compressed => self.download(server, &url),
                    Form::Pointer => {
                        let text = server.small(&url, MAX_POINTER);
                        self.follow(text, shown(&url), url.scheme() == "https")
                    }
                };
                if found.is_some() || self.is_in_vain() {
                    return found;
                }
            }
        }
        None
    }

    /// Whether the last answer is about the server rather than the file.
    fn is_in_vain(&self) -> bool {
        let last = self.trace.last().map(|asked| &asked.answer);
        matches!(last, Some(Answer::Unreachable(_) | Answer::Offline | Answer::WebPage))
    }

    /// Downloads and checks a file. What was put together from several exchanges and proves wrong is fetched once more.
    fn download(&mut self, server: &Server, url: &Url) -> Option<Found> {
        let max = self.server.options.limits.max_file;
        let once = || {
            let (bytes, resumed) = server.large(url)?;
            Ok((self.wanted.accept(bytes, max), resumed))
        };
        let accepted = match once() {
            Ok((Err(_), true)) => once(),
            other => other,
        };
        match accepted.and_then(|(accepted, _)| accepted) {
            Ok(bytes) => {
                self.add(shown(url), Answer::Found);
                Some(Found { bytes, source: shown(url), path: None })
            }
            Err(answer) => self.miss(shown(url), answer),
        }
    }

    /// Goes where a pointer file says: to an http(s) address, or to a file inside a directory of the symbol path. No
    /// pointer leads to another one, and none from https to http.
    fn follow(&mut self, text: Result<Vec<u8>, Answer>, place: String, https: bool) -> Option<Found> {
        let text = match text {
            Ok(text) => text,
            Err(answer) => return self.miss(place, answer),
        };
        match Pointer::parse(&text) {
            None => self.miss(place, Answer::Wrong("a pointer that names no path".to_owned())),
            Some(Pointer::Markup) => self.miss(place, Answer::WebPage),
            Some(Pointer::Message(message)) => self.miss(place, Answer::Withheld(message)),
            Some(Pointer::Path(target)) if self.server.holds(Path::new(&target)) => {
                self.read(target.into(), Answer::Wrong)
            }
            Some(Pointer::Path(target)) => {
                let target = plain(&target);
                let reason = format!("it points outside the directories of the symbol path: {target}");
                self.miss(place, Answer::Refused(reason))
            }
            Some(Pointer::Url(target)) if https && target.scheme() != "https" => {
                let target = shown(&target);
                let reason = format!("it points from https to an unencrypted address: {target}");
                self.miss(place, Answer::Refused(reason))
            }
            Some(Pointer::Url(target)) => {
                let server = Server::new((*target).clone(), self.server.options.clone());
                self.download(&server, &target)
            }
        }
    }
}

/// What to remember of several answers: one that says more than that there is nothing.
fn most_telling(answers: Vec<Miss>) -> Option<Miss> {
    let telling = answers.iter().find(|miss| !matches!(miss, Miss::NotThere)).cloned();
    telling.or_else(|| answers.into_iter().next())
}
