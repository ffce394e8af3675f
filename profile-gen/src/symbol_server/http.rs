//! HTTP servers as stores: one file at a time, resumed and retried.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use transport::{Client, HttpError, Request, Url, shown};

use super::answer::Answer;
use super::check::Wanted;
use super::directory::{POINTER, TWO_TIERS, tier};
use super::partial::Partial;
use super::pointer::MAX_POINTER;
use super::{Limits, Options};

/// What the original and Microsoft's own client call themselves; servers were seen to refuse others.
const USER_AGENT: &str = "Microsoft-Symbol-Server/10.0.0.0";
/// Most exchanges for one file, however much each of them brings.
const MAX_EXCHANGES: u32 = 50;
/// Time for which a server that did not answer is left alone.
const REST: Duration = Duration::from_secs(60);

/// What may be asked of a store, in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Compressed,
    Pointer,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Compressed, Self::Pointer];
}

/// A server.
pub(super) struct Server {
    pub(super) base: Url,
    options: Options,
    client: OnceLock<Result<Client, String>>,
    two_tiers: OnceLock<bool>,
    /// Until when the server is left alone, and why.
    resting: Mutex<Option<(Instant, Answer)>>,
}

impl Server {
    pub(super) fn new(base: Url, options: Options) -> Self {
        Self { base, options, client: OnceLock::new(), two_tiers: OnceLock::new(), resting: Mutex::new(None) }
    }

    /// What to call it in messages.
    pub(super) fn label(&self) -> String {
        shown(&self.base)
    }

    /// Why the server is not asked now.
    pub(super) fn closed(&self) -> Option<Answer> {
        if self.options.offline {
            return Some(Answer::Offline);
        }
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.as_ref().filter(|(until, _)| Instant::now() < *until).map(|(_, answer)| answer.clone())
    }

    fn rest(&self, time: Duration, answer: Answer) -> Answer {
        let until = Instant::now().checked_add(time.min(Duration::from_secs(24 * 3600)));
        if let Some(until) = until {
            *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, answer.clone()));
        }
        answer
    }

    /// Whether names stand below their first two letters. Asked until there is an answer, and only after the usual place
    /// was empty.
    pub(super) fn has_two_tiers(&self) -> Result<bool, Answer> {
        if let Some(known) = self.two_tiers.get() {
            return Ok(*known);
        }
        let Some(url) = self.below(&[TWO_TIERS]) else { return Ok(false) };
        // The contents have no meaning; a page that a server shows for everything is markup.
        let has = match self.small(&url, MAX_POINTER) {
            Ok(text) => !text.trim_ascii_start().starts_with(b"<"),
            Err(Answer::NotThere) => false,
            Err(answer) => return Err(answer),
        };
        Ok(*self.two_tiers.get_or_init(|| has))
    }

    /// Whether it is known to keep names below their first two letters.
    pub(super) fn knows_two_tiers(&self) -> bool {
        self.two_tiers.get() == Some(&true)
    }

    /// The address of a file in one of its forms; `None` for a base that is no address of directories.
    pub(super) fn address(&self, wanted: &Wanted, two_tiers: bool, form: Form) -> Option<Url> {
        let file = match form {
            Form::Plain => wanted.name().to_owned(),
            Form::Compressed => wanted.compressed_name(),
            Form::Pointer => POINTER.to_owned(),
        };
        let mut parts = tier(wanted, two_tiers);
        parts.push(file);
        self.below(&parts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A query of the base (an access token) stays at the end.
    fn below(&self, parts: &[&str]) -> Option<Url> {
        let mut url = self.base.clone();
        url.set_fragment(None);
        url.path_segments_mut().ok()?.pop_if_empty().extend(parts);
        Some(url)
    }

    /// Fetches a pointer file or the like into memory.
    pub(super) fn small(&self, url: &Url, max: u64) -> Result<Vec<u8>, Answer> {
        let mut bytes = Vec::new();
        self.attempt(|client| {
            bytes.clear();
            let head = client.get(&Request::new(url, max), &mut bytes);
            Step::of(head.map(|head| (head.status, head.retry_after)))
        })?;
        Ok(bytes)
    }

    /// Fetches a file. What an interrupted exchange brought is kept for the next one, of a later run, too. Says whether
    /// it is put together from several.
    pub(super) fn large(&self, url: &Url) -> Result<(Vec<u8>, bool), Answer> {
        let limits = &self.options.limits;
        let directory = self.options.state_dir.as_ref().map(|directory| directory.join("partial"));
        let cannot = |error: std::io::Error| Answer::Refused(format!("cannot keep a download: {error}"));
        let mut partial =
            Partial::open(directory.as_deref(), url, self.options.listener.clone()).map_err(cannot)?;
        let fetched = self.attempt(|client| {
            let before = partial.len();
            let (have, validators) = partial.resume();
            let request = Request { resume: Some((have, &validators)), ..Request::new(url, limits.max_file) };
            match client.get(&request, &mut partial) {
                Ok(head) if head.status == 416 => match partial.restart() {
                    Ok(()) => {
                        Step::Again { reason: "HTTP status 416".to_owned(), wait: None, progress: false }
                    }
                    Err(error) => Step::Over(cannot(error)),
                },
                Ok(head) if matches!(head.status, 200 | 206) && !partial.is_whole() => Step::Again {
                    reason: format!("the answer ends after {} bytes", partial.len()),
                    wait: None,
                    progress: partial.len() > before,
                },
                Ok(head) => Step::of(Ok((head.status, head.retry_after))),
                Err(HttpError::Interrupted(reason)) => {
                    Step::Again { reason, wait: None, progress: partial.len() > before }
                }
                Err(error) => Step::of(Err(error)),
            }
        });
        match fetched {
            Ok(()) => {
                let resumed = partial.resumed;
                partial.finish().map(|bytes| (bytes, resumed)).map_err(cannot)
            }
            // The bytes of a broken connection are worth keeping, if they can be continued.
            Err(answer @ Answer::Unreachable(_))
                if partial.resume().1.strong().is_some() && partial.len() > 0 =>
            {
                Err(answer)
            }
            Err(answer) => {
                partial.discard();
                Err(answer)
            }
        }
    }

    /// Repeats an exchange while it is worth it: after trouble that may pass, with growing pauses or the one that the
    /// server asks for.
    fn attempt(&self, mut exchange: impl FnMut(&Client) -> Step) -> Result<(), Answer> {
        if let Some(answer) = self.closed() {
            return Err(answer);
        }
        let client = self.client.get_or_init(|| self.connect()).as_ref();
        let client = client.map_err(|reason| Answer::Unreachable(reason.clone()))?;
        let limits = &self.options.limits;
        let started = Instant::now();
        let mut pause = limits.first_pause;
        let mut failures = 0;
        for _ in 0..MAX_EXCHANGES {
            let (reason, wait) = match exchange(client) {
                Step::Done => return Ok(()),
                Step::Over(answer @ Answer::Unreachable(_)) => return Err(self.rest(REST, answer)),
                Step::Over(answer) => return Err(answer),
                Step::Again { reason, wait, progress } => {
                    failures = if progress { 1 } else { failures + 1 };
                    (reason, wait)
                }
            };
            let answer = Answer::Unreachable(reason.clone());
            if let Some(wait) = wait.filter(|wait| *wait > limits.longest_pause) {
                let answer =
                    Answer::Unreachable(format!("{reason}; it asks to come back in {} s", wait.as_secs()));
                return Err(self.rest(wait, answer));
            }
            let wait = wait.unwrap_or(pause);
            if failures >= limits.attempts {
                return Err(self.rest(REST, answer));
            }
            if started.elapsed().saturating_add(wait) > limits.deadline {
                return Err(answer);
            }
            if let Some(listener) = &self.options.listener {
                listener.waiting(&self.label(), &reason, wait);
            }
            thread::sleep(wait);
            pause = pause.saturating_mul(2).min(limits.longest_pause);
        }
        Err(Answer::Unreachable(format!("no whole file in {MAX_EXCHANGES} attempts")))
    }

    fn connect(&self) -> Result<Client, String> {
        let Limits { connect_timeout, read_timeout, deadline, max_redirects, .. } = self.options.limits;
        let listener = self.options.listener.clone();
        let options = transport::Options {
            user_agent: USER_AGENT,
            connect_timeout,
            read_timeout,
            total_timeout: deadline,
            max_redirects,
            announce: listener.map(|listener| {
                Arc::new(move |url: &Url| listener.asking(&shown(url))) as transport::Announce
            }),
            guard: self.options.guard.clone(),
        };
        Client::new(&self.base, options).map_err(|error| error.to_string())
    }
}

/// How an exchange ended.
enum Step {
    /// The body is there.
    Done,
    /// Another one may succeed. `wait` is what the server asks for; `progress` says that bytes came.
    Again { reason: String, wait: Option<Duration>, progress: bool },
    /// Another one would end the same.
    Over(Answer),
}

impl Step {
    fn of(result: Result<(u16, Option<Duration>), HttpError>) -> Self {
        match result {
            Ok((200 | 206, _)) => Self::Done,
            Ok((404 | 410, _)) => Self::Over(Answer::NotThere),
            Ok((status @ (408 | 429 | 500 | 502 | 503 | 504), wait)) => {
                Self::Again { reason: format!("HTTP status {status}"), wait, progress: false }
            }
            Ok((status @ (401 | 403 | 407), _)) => {
                Self::Over(Answer::Refused(format!("HTTP status {status}: access denied")))
            }
            Ok((status, _)) => Self::Over(Answer::Refused(format!("HTTP status {status}"))),
            Err(HttpError::Interrupted(reason)) => Self::Again { reason, wait: None, progress: false },
            Err(HttpError::Unreachable(reason)) => Self::Over(Answer::Unreachable(reason)),
            Err(error @ (HttpError::Refused(_) | HttpError::TooLarge(_) | HttpError::Receiver(_))) => {
                Self::Over(Answer::Refused(error.to_string()))
            }
        }
    }
}
