//! The same of what each source has in a case. Entries of the log name the case and not always the source: all that
//! anybody has in a case can be forgotten without looking through all that is kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use amanat_schema::{AgencyId, CaseId};
use hashlink::LruCache;

use super::{EACH, LARGEST_PART};
use crate::consent::SourceCase;

/// Bounded and kept true like [`super::Remembered`]; the case least recently used falls out as a whole.
pub struct RememberedByCase<V> {
    kept: Mutex<Kept<V>>,
    most_bytes: usize,
    bytes_of: fn(&V) -> usize,
}

/// Each source's, with what it takes.
type Sources<V> = HashMap<AgencyId, (usize, Arc<V>)>;

struct Kept<V> {
    cases: LruCache<CaseId, Sources<V>>,
    bytes: usize,
}

impl<V> RememberedByCase<V> {
    /// Holds at most so many MiB; `bytes_of` tells what a value takes, with all that hangs on it.
    pub fn holding(most_mib: usize, bytes_of: fn(&V) -> usize) -> Self {
        let kept = Kept {
            cases: LruCache::new_unbounded(),
            bytes: 0,
        };
        Self {
            kept: Mutex::new(kept),
            most_bytes: most_mib << 20,
            bytes_of,
        }
    }

    pub fn get(&self, (source, case): &SourceCase) -> Option<Arc<V>> {
        self.with(|kept| Some(Arc::clone(&kept.cases.get(case)?.get(source)?.1)))
    }

    /// What the database holds of the source in the case.
    pub fn keep(&self, of: SourceCase, value: Arc<V>) {
        let bytes = EACH + (self.bytes_of)(&value);
        self.with(|kept| {
            kept.forget(&of);
            if bytes > self.most_bytes / LARGEST_PART {
                return;
            }
            let (source, case) = of;
            kept.bytes += bytes;
            let sources = kept.cases.entry(case).or_insert_with(HashMap::new);
            sources.insert(source, (bytes, value));
            while kept.bytes > self.most_bytes
                && let Some((_, sources)) = kept.cases.remove_lru()
            {
                kept.bytes -= taken(&sources);
            }
        });
    }

    /// What the source has in the case is about to change.
    pub fn forget(&self, of: &SourceCase) {
        self.with(|kept| kept.forget(of));
    }

    /// What anybody has in the case may have changed.
    pub fn forget_case(&self, case: &CaseId) {
        self.with(|kept| {
            if let Some(sources) = kept.cases.remove(case) {
                kept.bytes -= taken(&sources);
            }
        });
    }

    /// Nothing is known any more.
    pub fn forget_all(&self) {
        self.with(|kept| {
            kept.cases.clear();
            kept.bytes = 0;
        });
    }

    fn with<T>(&self, with: impl FnOnce(&mut Kept<V>) -> T) -> T {
        // Its operations do not panic half way.
        with(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V> Kept<V> {
    fn forget(&mut self, (source, case): &SourceCase) {
        let Some(sources) = self.cases.get_mut(case) else {
            return;
        };
        if let Entry::Occupied(kept) = sources.entry(*source) {
            self.bytes -= kept.remove().0;
        }
        if sources.is_empty() {
            self.cases.remove(case);
        }
    }
}

fn taken<V>(sources: &Sources<V>) -> usize {
    sources.values().map(|(bytes, _)| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = (1 << 20) / LARGEST_PART - EACH;

    fn remembered() -> RememberedByCase<usize> {
        RememberedByCase::holding(1, |bytes| *bytes)
    }

    fn of(source: u8, case: u8) -> SourceCase {
        (AgencyId::new([source; 16]), CaseId::new([case; 16]))
    }

    fn bytes(remembered: &RememberedByCase<usize>) -> usize {
        remembered.with(|kept| {
            let counted: usize = kept.cases.iter().map(|(_, sources)| taken(sources)).sum();
            assert_eq!(kept.bytes, counted);
            counted
        })
    }

    #[test]
    fn a_case_is_forgotten_whoevers_it_is_and_no_other() {
        let remembered = remembered();
        for case in 0..3 {
            for source in 0..3 {
                remembered.keep(of(source, case), Arc::new(7));
            }
        }
        remembered.forget_case(&of(0, 1).1);
        remembered.forget(&of(2, 2));
        let kept = |source, case| remembered.get(&of(source, case)).is_some();
        for source in 0..3 {
            assert!(kept(source, 0) && !kept(source, 1), "{source}");
        }
        assert!(kept(0, 2) && kept(1, 2) && !kept(2, 2));
        assert_eq!(bytes(&remembered), 5 * (EACH + 7));
        remembered.forget_all();
        assert!(!kept(0, 0));
        assert_eq!(bytes(&remembered), 0);
    }

    #[test]
    fn the_case_that_was_used_last_falls_out_last_and_never_are_there_more_bytes() {
        let remembered = remembered();
        for round in 0..100_u8 {
            for source in 0..10 {
                remembered.keep(of(source, round), Arc::new(PART - usize::from(source)));
                assert!(bytes(&remembered) <= 1 << 20);
            }
            assert!(remembered.get(&of(9, round)).is_some());
        }
        assert_eq!(remembered.get(&of(9, 0)), None);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_pushes_nothing_out() {
        let remembered = remembered();
        remembered.keep(of(1, 1), Arc::new(7));
        remembered.keep(of(2, 1), Arc::new(PART + 1));
        assert_eq!(remembered.get(&of(2, 1)), None);
        assert_eq!(remembered.get(&of(1, 1)).as_deref(), Some(&7));
        remembered.keep(of(1, 1), Arc::new(PART + 1));
        assert_eq!(remembered.get(&of(1, 1)), None, "not what it was before");
        assert_eq!(bytes(&remembered), 0);
    }
}
