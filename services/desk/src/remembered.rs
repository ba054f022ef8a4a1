//! Facts of earlier batches, kept in memory for the next ones.

use std::{
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use hashlink::LruCache;

/// What was loaded last for each key, the least recently used falling out.
///
/// INVARIANT: a database has one writer, and whoever writes what a key stands for forgets the key in the same
/// transaction, before it commits: what is found here is what the database holds, whether a commit succeeded,
/// failed or is in doubt.
pub struct Remembered<K, V>(Mutex<LruCache<K, Arc<V>>>);

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// Holds at most so many.
    pub fn holding(most: usize) -> Self {
        Self(Mutex::new(LruCache::new(most)))
    }

    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.cache(|cache| cache.get(key).cloned())
    }

    /// What the database holds for the key.
    pub fn keep(&self, key: K, value: Arc<V>) {
        self.cache(|cache| cache.insert(key, value));
    }

    /// What the key stands for is about to change.
    pub fn forget(&self, key: &K) {
        self.cache(|cache| cache.remove(key));
    }

    fn cache<T>(&self, with: impl FnOnce(&mut LruCache<K, Arc<V>>) -> T) -> T {
        // Its operations do not panic half way.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_or_falls_out_is_loaded_again() {
        let remembered = Remembered::holding(2);
        for key in [1, 2, 3] {
            remembered.keep(key, Arc::new(key * 10));
        }
        assert_eq!(remembered.get(&1), None, "it fell out");
        assert_eq!(remembered.get(&2).as_deref(), Some(&20));
        remembered.keep(2, Arc::new(21));
        assert_eq!(remembered.get(&2).as_deref(), Some(&21));
        remembered.forget(&2);
        assert_eq!(remembered.get(&2), None);
    }
}
