//! Pages that cost much to make and are kept for the next reads of them.

use std::sync::{Arc, Mutex, PoisonError};

/// Most pages that are kept.
const KEPT: usize = 64;

/// A page and what it is of.
type Kept<K> = Option<(K, Arc<Vec<u8>>)>;

/// The last pages, by what they are of; memory for 64 of them at most.
pub(crate) struct KeptPages<K> {
    places: Vec<Mutex<Kept<K>>>,
}

impl<K: Copy + PartialEq> KeptPages<K> {
    /// Without any page.
    pub(crate) fn new() -> Self {
        Self { places: (0..KEPT).map(|_| Mutex::new(None)).collect() }
    }

    /// The page of `key`, made where it is not kept. `number` spreads pages: neighbours have different ones.
    pub(crate) fn page<E>(
        &self,
        key: K,
        number: u64,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        let place = usize::try_from(number % KEPT as u64).ok().and_then(|index| self.places.get(index));
        let kept = place.and_then(|place| place.lock().unwrap_or_else(PoisonError::into_inner).clone());
        if let Some((of, page)) = kept
            && of == key
        {
            return Ok(page);
        }
        let page = Arc::new(make()?);
        if let Some(place) = place {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, Arc::clone(&page)));
        }
        Ok(page)
    }
}
