//! What keeps something from being written, as its operator hears of it: once a minute however often it is
//! met, until a write succeeds.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use amanat_telemetry::{Gauge, KeyValue};
use tokio::time::Instant;

use crate::metrics::UNWRITABLE;

/// Between two words about the same trouble.
const REMIND: Duration = Duration::from_secs(60);

/// Cheap to clone; all clones are of one thing that is written.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    why: Option<String>,
    /// When it was said last, and what.
    said: Option<(Instant, String)>,
    /// Shows it, with what cannot be written.
    shown: Option<(Gauge<i64>, KeyValue)>,
}

impl Trouble {
    /// With what is written here.
    pub fn with(file: &'static str) -> Self {
        let trouble = Self::default();
        let file = KeyValue::new("file", file);
        trouble.state().shown = Some((UNWRITABLE.gauge(), file));
        trouble.state().show();
        trouble
    }

    /// Why it cannot be written now; `None` if it can, as far as is known.
    pub fn now(&self) -> Option<String> {
        self.state().why.clone()
    }

    pub(crate) fn met(&self, why: String) {
        let mut state = self.state();
        let is_new = state
            .said
            .as_ref()
            .is_none_or(|(at, said)| *said != why || at.elapsed() >= REMIND);
        if is_new {
            tracing::error!("{why}");
            state.said = Some((Instant::now(), why.clone()));
        }
        state.why = Some(why);
        state.show();
    }

    pub(crate) fn over(&self) {
        let mut state = self.state();
        if let Some(why) = state.why.take() {
            state.show();
            tracing::info!("over, and what waits is written: {why}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a word too many.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&self) {
        if let Some((gauge, file)) = &self.shown {
            gauge.record(i64::from(self.why.is_some()), std::slice::from_ref(file));
        }
    }
}
