//! Things made once and found again by many threads at a time, without a lock.
//!
//! A small table of short lists. To find something is to load one list and look through it; to keep something is to put a
//! new list in the place of one. A list that is full begins anew, so what is kept is bounded, and what is asked for all
//! the time is soon kept again.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

const LISTS: usize = 16;
const LONGEST_LIST: usize = 16;

/// Up to 256 things, found by a number that tells them apart well.
pub(crate) struct LossyCache<T>([ArcSwapOption<Vec<Arc<T>>>; LISTS]);

impl<T> LossyCache<T> {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| ArcSwapOption::empty()))
    }

    #[inline]
    fn list(&self, number: u64) -> &ArcSwapOption<Vec<Arc<T>>> {
        // Fibonacci hashing (Knuth 6.4): the upper bits depend on all bits of the number.
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        &self.0[usize::try_from(hash).unwrap_or(0) % LISTS]
    }

    /// Calls `see` with the first thing of this number that `is_it` accepts.
    #[inline]
    pub(crate) fn find<R>(&self, number: u64, is_it: impl Fn(&T) -> bool, see: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        let list = self.list(number).load();
        list.as_ref()?.iter().find(|thing| is_it(thing)).map(see)
    }

    /// The first thing of any number that `is_it` accepts.
    pub(crate) fn find_anywhere<R>(&self, mut see: impl FnMut(&T) -> Option<R>) -> Option<R> {
        self.0.iter().find_map(|list| list.load().as_ref()?.iter().find_map(|thing| see(thing)))
    }

    /// Keeps a thing, and of those of the same number only what `stays`.
    pub(crate) fn keep(&self, number: u64, thing: &Arc<T>, stays: impl Fn(&T) -> bool) {
        self.list(number).rcu(|kept| {
            let mut list: Vec<_> =
                kept.iter().flat_map(|list| list.iter()).filter(|kept| stays(kept)).cloned().collect();
            if list.len() >= LONGEST_LIST {
                list.clear();
            }
            list.push(Arc::clone(thing));
            Some(Arc::new(list))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(kept: &LossyCache<u64>, number: u64) -> bool {
        kept.find(number, |thing| *thing == number, |_| ()).is_some()
    }

    #[test]
    fn what_was_kept_is_found_and_the_last_always_is() {
        let kept = LossyCache::new();
        for number in 0..10_000 {
            assert!(!has(&kept, number));
            kept.keep(number, &Arc::new(number), |_| true);
            assert!(has(&kept, number));
        }
        let found = (0..10_000).filter(|number| has(&kept, *number)).count();
        assert!((LISTS..=LISTS * LONGEST_LIST).contains(&found), "{found}");
    }

    #[test]
    fn numbers_in_a_row_fill_all_lists_alike() {
        let kept = LossyCache::new();
        (0..200).for_each(|number| kept.keep(number, &Arc::new(number), |_| true));
        assert_eq!((0..200).filter(|number| has(&kept, *number)).count(), 200);
        assert_eq!(kept.find_anywhere(|thing| (*thing == 7).then_some(*thing)), Some(7));
    }

    #[test]
    fn what_does_not_stay_makes_room() {
        let kept = LossyCache::new();
        for number in 0..1000 {
            kept.keep(1, &Arc::new(number), |thing| thing + 3 > number);
        }
        assert_eq!(kept.find(1, |thing| *thing == 996, |_| ()), None);
        assert_eq!(kept.find(1, |thing| *thing == 997, |thing| **thing), Some(997));
    }
}
