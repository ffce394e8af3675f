//! One run of a work per key, however many ask for it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The works under way.
pub(crate) struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    most: usize,
}

/// Too many works are under way; no more are started.
#[derive(Debug)]
pub(crate) struct Full;

/// Where to wait for a result.
pub(crate) struct Flight<V>(watch::Receiver<Option<V>>);

impl<V: Clone> Flight<V> {
    /// The result; `None` where the work died without one.
    pub(crate) async fn landed(mut self) -> Option<V> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `most` works at a time.
    pub(crate) fn new(most: usize) -> Self {
        Self { running: Arc::default(), most }
    }

    /// Number of works under way.
    pub(crate) fn len(&self) -> usize {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether the work is under way.
    pub(crate) fn joinable(&self, key: &K) -> Option<Flight<V>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().map(Flight)
    }

    /// Joins the work that is under way, or starts it on a task of its own, so that it goes on when the one who asked
    /// first has gone. The entry is removed when the work ends, even by a panic.
    pub(crate) fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Result<Flight<V>, Full>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(key) {
            return Ok(Flight(flight.clone()));
        }
        if running.len() >= self.most {
            return Err(Full);
        }
        let (land, flight) = watch::channel(None);
        running.insert(key.clone(), flight.clone());
        drop(running);
        let entry = Entry { running: Arc::clone(&self.running), key: key.clone() };
        let work = work();
        tokio::spawn(async move {
            let result = work.await;
            // Removed first: whoever comes later finds what the work left behind.
            drop(entry);
            // Nobody may wait any more.
            let _ = land.send(Some(result));
        });
        Ok(Flight(flight))
    }
}

/// A work under way; removes itself.
struct Entry<K: Hash + Eq, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_hundred_ask_and_one_works() {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let flights: Flights<u8, usize> = Flights::new(1);
        let work = || async {
            tokio::task::yield_now().await;
            RUNS.fetch_add(1, Ordering::Relaxed) + 7
        };
        let asked: Vec<_> = (0..100).map(|_| flights.join(&1, work).expect("room")).collect();
        assert!(flights.join(&2, work).is_err(), "no room for another");
        for flight in asked {
            assert_eq!(flight.landed().await, Some(7));
        }
        assert_eq!((RUNS.load(Ordering::Relaxed), flights.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_work_that_dies_leaves_nothing_behind() {
        let flights: Flights<u8, u8> = Flights::new(1);
        let flight = flights.join(&1, || async { panic!("a defect") }).expect("room");
        assert_eq!(flight.landed().await, None);
        let flight = flights.join(&1, || async { 2 }).expect("room again");
        assert_eq!(flight.landed().await, Some(2));
    }
}
