//! Facts of earlier batches, kept in memory for the next ones.

mod by_case;

use std::{
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use hashlink::LruCache;

pub use by_case::RememberedByCase;

/// Bytes of an entry beside its value: key, places, counts.
const EACH: usize = 256;
/// What takes more than this part of all is not kept: a few could push out all the others.
const LARGEST_PART: usize = 32;

/// What was loaded last for each key, the least recently used falling out. Bounded by what the values take, for
/// how large each is, its signer chooses.
///
/// INVARIANT: a database has one writer at a time. Whoever writes what a key stands for forgets the key in the same
/// transaction, before it commits; and what other writers may have changed since is forgotten before anything is
/// asked for in the next one. What is found here is what the database holds, whether a commit succeeded, failed or
/// is in doubt.
pub struct Remembered<K, V> {
    kept: Mutex<Kept<K, V>>,
    most_bytes: usize,
    bytes_of: fn(&V) -> usize,
}

struct Kept<K, V> {
    values: LruCache<K, (usize, Arc<V>)>,
    bytes: usize,
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// Holds at most so many MiB; `bytes_of` tells what a value takes, with all that hangs on it.
    pub fn holding(most_mib: usize, bytes_of: fn(&V) -> usize) -> Self {
        let kept = Kept {
            values: LruCache::new_unbounded(),
            bytes: 0,
        };
        Self {
            kept: Mutex::new(kept),
            most_bytes: most_mib << 20,
            bytes_of,
        }
    }

    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        let value = |kept: &mut Kept<K, V>| Some(Arc::clone(&kept.values.get(key)?.1));
        self.with(value)
    }

    /// What the database holds for the key.
    pub fn keep(&self, key: K, value: Arc<V>) {
        let bytes = EACH + (self.bytes_of)(&value);
        self.with(|kept| {
            kept.forget(&key);
            if bytes > self.most_bytes / LARGEST_PART {
                return;
            }
            kept.bytes += bytes;
            kept.values.insert(key, (bytes, value));
            while kept.bytes > self.most_bytes
                && let Some((_, (bytes, _))) = kept.values.remove_lru()
            {
                kept.bytes -= bytes;
            }
        });
    }

    /// What the key stands for is about to change.
    pub fn forget(&self, key: &K) {
        self.with(|kept| kept.forget(key));
    }

    /// Nothing is known any more.
    pub fn forget_all(&self) {
        self.with(|kept| {
            kept.values.clear();
            kept.bytes = 0;
        });
    }

    fn with<T>(&self, with: impl FnOnce(&mut Kept<K, V>) -> T) -> T {
        // Its operations do not panic half way.
        with(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq + Hash, V> Kept<K, V> {
    fn forget(&mut self, key: &K) {
        if let Some((bytes, _)) = self.values.remove(key) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = (1 << 20) / LARGEST_PART - EACH;

    fn remembered() -> Remembered<usize, usize> {
        Remembered::holding(1, |bytes| *bytes)
    }

    #[test]
    fn what_is_forgotten_or_falls_out_is_loaded_again() {
        let remembered = remembered();
        for key in 0..=LARGEST_PART {
            remembered.keep(key, Arc::new(PART));
        }
        assert_eq!(remembered.get(&0), None, "it fell out");
        assert_eq!(remembered.get(&1).as_deref(), Some(&PART));
        remembered.keep(1, Arc::new(7));
        assert_eq!(remembered.get(&1).as_deref(), Some(&7));
        remembered.forget(&1);
        assert_eq!(remembered.get(&1), None);
    }

    #[test]
    fn many_small_things_are_kept_in_the_place_of_few_large_ones_and_never_more_bytes() {
        let remembered = remembered();
        for key in 0..10_000 {
            remembered.keep(key, Arc::new(key % PART));
            remembered.keep(key / 2, Arc::new(key % 100));
        }
        let kept = remembered.kept.lock().unwrap();
        let counted: usize = kept.values.iter().map(|(_, (bytes, _))| bytes).sum();
        assert_eq!(kept.bytes, counted);
        assert!(kept.bytes <= 1 << 20, "{}", kept.bytes);
        assert!(kept.values.len() > LARGEST_PART, "{}", kept.values.len());
    }

    #[test]
    fn when_all_is_forgotten_its_place_is_free_again() {
        let remembered = remembered();
        for key in 0..10 {
            remembered.keep(key, Arc::new(7));
        }
        remembered.forget_all();
        assert!((0..10).all(|key| remembered.get(&key).is_none()));
        assert_eq!(remembered.kept.lock().unwrap().bytes, 0);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_pushes_nothing_out() {
        let remembered = remembered();
        remembered.keep(1, Arc::new(7));
        remembered.keep(2, Arc::new(PART + 1));
        assert_eq!(remembered.get(&2), None);
        assert_eq!(remembered.get(&1).as_deref(), Some(&7));
        remembered.keep(1, Arc::new(PART + 1));
        assert_eq!(remembered.get(&1), None, "not what it was before");
    }
}
