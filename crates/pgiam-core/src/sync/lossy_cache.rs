//! A bounded, lock-free cache that may lose entries.
//!
//! A small table of short lists. A look-up loads one list and goes through it; an insertion replaces one list by a new one.
//! A list that would grow over its bounds starts again with the new entry alone, so that both the number of entries and
//! their bytes are bounded, and what is used all the time is soon there again.

use std::sync::Arc;

use crate::sync::primitives::ArcSwapOption;

const LISTS: usize = 16;
const MOST_ENTRIES: usize = 16;
/// Of one list. An entry that is larger is not kept at all.
const MOST_BYTES: usize = 64 * 1024;

/// Up to 256 entries of together at most 1 MiB, found by a hash and a comparison.
pub(crate) struct LossyCache<T>([ArcSwapOption<Vec<Entry<T>>>; LISTS]);

struct Entry<T> {
    value: Arc<T>,
    size: usize,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), size: self.size }
    }
}

impl<T> LossyCache<T> {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| ArcSwapOption::empty()))
    }

    fn list(&self, hash: u64) -> &ArcSwapOption<Vec<Entry<T>>> {
        &self.0[usize::try_from(hash % LISTS as u64).unwrap_or(0)]
    }

    /// What `look` returns for the first entry under this hash for which it returns something.
    pub(crate) fn find<R>(&self, hash: u64, look: impl Fn(&T) -> Option<R>) -> Option<R> {
        self.list(hash).load().as_ref()?.iter().find_map(|entry| look(&entry.value))
    }

    /// Adds a value of so many bytes and drops those under the same hash that it `replaces`.
    pub(crate) fn insert(&self, hash: u64, value: T, size: usize, replaces: impl Fn(&T) -> bool) {
        if size > MOST_BYTES {
            return;
        }
        let entry = Entry { value: Arc::new(value), size };
        self.list(hash).rcu(|list| {
            let kept = list.iter().flat_map(|list| list.iter()).filter(|kept| !replaces(&kept.value));
            let mut list: Vec<_> = kept.cloned().collect();
            let bytes: usize = list.iter().map(|kept| kept.size).sum();
            if list.len() >= MOST_ENTRIES || bytes + size > MOST_BYTES {
                list.clear();
            }
            list.push(entry.clone());
            Some(Arc::new(list))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(cache: &LossyCache<u64>, number: u64) -> bool {
        cache.find(number, |value| (*value == number).then_some(())).is_some()
    }

    fn count<T>(cache: &LossyCache<T>) -> usize {
        cache.0.iter().map(|list| list.load().as_ref().map_or(0, |list| list.len())).sum()
    }

    #[test]
    fn the_latest_entry_is_always_found_and_their_number_is_bounded() {
        let cache = LossyCache::new();
        for number in 0..10_000 {
            assert!(!has(&cache, number));
            cache.insert(number, number, 8, |_| false);
            assert!(has(&cache, number));
        }
        assert!((LISTS..=LISTS * MOST_ENTRIES).contains(&count(&cache)));
    }

    #[test]
    fn the_bytes_of_all_entries_are_bounded() {
        let cache = LossyCache::new();
        for number in 0..1000 {
            cache.insert(number, number, MOST_BYTES / 3, |_| false);
        }
        assert!(count(&cache) <= 3 * LISTS);
        cache.insert(1, 7777, MOST_BYTES + 1, |_| false);
        assert!(!cache.0.iter().any(|list| list.load().iter().any(|list| list.iter().any(|e| *e.value == 7777))));
    }

    #[test]
    fn an_entry_that_is_replaced_makes_room() {
        let cache = LossyCache::new();
        for number in 0..1000_u64 {
            cache.insert(1, number, 8, |value| value + 3 <= number);
        }
        assert_eq!(cache.find(1, |value| (*value == 996).then_some(())), None);
        assert_eq!(cache.find(1, |value| (*value == 997).then_some(*value)), Some(997));
    }
}
