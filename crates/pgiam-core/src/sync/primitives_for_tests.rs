//! The same names on shuttle, and what the models need besides: a clock that they move, a child of `fork`, planted faults.
//!
//! Each operation is a moment at which shuttle may go on with another thread. An operation of arc_swap is taken to be one
//! step, and memory to be sequentially consistent: how arc_swap and the processor do that is outside of the models.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use arc_swap::{AsRaw, Guard, RefCnt};
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync as shuttled;
pub(crate) use shuttle::sync::atomic::AtomicU32;
use shuttle::thread::JoinHandle;

/// An error in the code that a model must find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// `notify_all` does nothing.
    NotifyForgotten,
    /// A write happens under the lock, but after a moment without it: what was checked before may have changed.
    CheckOutsideTheLock,
    /// `compare_exchange` is a load and a store.
    ExchangeInTwoSteps,
    /// A child of `fork` takes its parent's state for its own.
    ForkUnnoticed,
}

// All threads of a model run on one thread of the system, so that these are what they share.
thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static START: Instant = Instant::now();
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WAITS_MAY_TIME_OUT: Cell<bool> = const { Cell::new(false) };
    static BACKGROUND: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
}

shuttle::thread_local! {
    static PROCESS: Cell<ProcessIdentity> = Cell::new(1);
}

/// Runs a model in `PGIAM_SCHEDULES` orders of its threads, or 2,000: a half each chosen at random and by PCT, which finds
/// what takes few switches at the right moments (Burckhardt and others, 2010). They are the same ones each time, unless
/// `SHUTTLE_RANDOM_SEED` is set.
pub(crate) fn explore(model: impl Fn() + Clone + Send + Sync + 'static) {
    let schedules = std::env::var("PGIAM_SCHEDULES").map_or(2000, |number| number.parse().unwrap());
    let mut config = shuttle::Config::new();
    config.stack_size = 256 * 1024;
    config.silence_warnings = true;
    let run = move || {
        PASSED.set(Duration::ZERO);
        WAITS_MAY_TIME_OUT.set(false);
        BACKGROUND.take();
        fastrand::seed(1);
        model();
        join_background();
    };
    shuttle::Runner::new(RandomScheduler::new_from_seed(1, schedules / 2), config.clone()).run(run.clone());
    shuttle::Runner::new(PctScheduler::new_from_seed(1, 3, schedules / 2), config).run(run);
}

/// Whether a model fails with this fault in the code.
pub(crate) fn finds(fault: Fault, model: impl Fn() + Clone + Send + Sync + 'static) -> bool {
    FAULT.set(fault);
    let found = catch_unwind(AssertUnwindSafe(|| explore(model))).is_err();
    FAULT.set(Fault::None);
    found
}

/// Waits for the threads that the code has started.
pub(crate) fn join_background() {
    while let Some(thread) = BACKGROUND.with_borrow_mut(Vec::pop) {
        thread.join().unwrap();
    }
}

/// A moment at which another thread may run.
pub(crate) fn switch() {
    // It does not sleep: shuttle has no time.
    shuttle::thread::sleep(Duration::ZERO);
}

// --- time ----------------------------------------------------------------------------------------------------------------

pub(crate) fn now() -> Instant {
    START.with(|start| *start) + PASSED.get()
}

/// From now on in this execution a wait may last for all of its time, which passes at once.
pub(crate) fn let_waits_time_out() {
    WAITS_MAY_TIME_OUT.set(true);
}

// --- threads and processes -------------------------------------------------------------------------------------------------

pub(crate) type ProcessIdentity = u32;

pub(crate) fn process_identity() -> ProcessIdentity {
    if FAULT.get() == Fault::ForkUnnoticed { 1 } else { PROCESS.with(Cell::get) }
}

/// Makes this thread one of another process.
pub(crate) fn become_process(identity: ProcessIdentity) {
    PROCESS.with(|process| process.set(identity));
}

pub(crate) fn spawn_without_signals(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let process = PROCESS.with(Cell::get);
    let thread = shuttle::thread::spawn(move || {
        become_process(process);
        work();
    });
    BACKGROUND.with_borrow_mut(|threads| threads.push(thread));
    Ok(())
}

// --- locks -----------------------------------------------------------------------------------------------------------------

pub(crate) struct Mutex<T>(shuttled::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    /// `None` only while the lock is given up.
    guard: Option<shuttled::MutexGuard<'a, T>>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttled::Mutex::new(value))
    }

    fn guard<'a>(&'a self, guard: shuttled::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { guard: Some(guard), mutex: self }
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.guard(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Ok(self.guard(guard)),
            Err(TryLockError::Poisoned(guard)) => Ok(self.guard(guard.into_inner())),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        if FAULT.get() == Fault::CheckOutsideTheLock {
            self.guard = None;
            *self = self.mutex.lock().unwrap();
        }
        self.guard.as_mut().unwrap()
    }
}

pub(crate) struct Condvar(shuttled::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(shuttled::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        if FAULT.get() != Fault::NotifyForgotten {
            self.0.notify_all();
        }
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        let mutex = guard.mutex;
        if WAITS_MAY_TIME_OUT.get() && shuttle::rand::thread_rng().gen_ratio(1, 3) {
            drop(guard);
            PASSED.set(PASSED.get() + time);
            return Ok((mutex.lock().unwrap(), ()));
        }
        let guard = self.0.wait(guard.guard.take().unwrap()).unwrap_or_else(PoisonError::into_inner);
        Ok((mutex.guard(guard), ()))
    }
}

// --- atomics ---------------------------------------------------------------------------------------------------------------

pub(crate) struct AtomicI64(shuttled::atomic::AtomicI64);

impl AtomicI64 {
    pub(crate) fn new(value: i64) -> Self {
        Self(shuttled::atomic::AtomicI64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> i64 {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: i64, order: Ordering) {
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: i64, order: Ordering) -> i64 {
        self.0.swap(value, order)
    }

    pub(crate) fn compare_exchange(&self, from: i64, to: i64, success: Ordering, fail: Ordering) -> Result<i64, i64> {
        if FAULT.get() != Fault::ExchangeInTwoSteps {
            return self.0.compare_exchange(from, to, success, fail);
        }
        let found = self.0.load(fail);
        if found == from {
            self.0.store(to, success);
            Ok(found)
        } else {
            Err(found)
        }
    }
}

pub(crate) struct ArcSwapAny<T: RefCnt>(arc_swap::ArcSwapAny<T>);
pub(crate) type ArcSwap<T> = ArcSwapAny<Arc<T>>;
pub(crate) type ArcSwapOption<T> = ArcSwapAny<Option<Arc<T>>>;

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self(arc_swap::ArcSwap::from_pointee(value))
    }
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self(arc_swap::ArcSwapOption::empty())
    }
}

impl<T: RefCnt> ArcSwapAny<T> {
    pub(crate) fn load(&self) -> Guard<T> {
        switch();
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> T {
        switch();
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: T) {
        switch();
        self.0.store(value);
    }

    pub(crate) fn compare_and_swap(&self, current: impl AsRaw<T::Base>, new: T) -> Guard<T> {
        switch();
        self.0.compare_and_swap(current, new)
    }

    pub(crate) fn rcu<R: Into<T>>(&self, mut change: impl FnMut(&T) -> R) -> T {
        loop {
            let current = self.load();
            let new = change(&current).into();
            let before = self.compare_and_swap(&*current, new);
            if std::ptr::eq(T::as_ptr(&current), T::as_ptr(&before)) {
                return Guard::into_inner(before);
            }
        }
    }
}
