//! What became of model calls, beside the tokens that they took.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Response, StatusCode};

use crate::wire::usage::ModelCalls;

/// Marks answers that the gateway gave by itself.
#[derive(Debug, Clone, Copy)]
pub struct Own;

/// Calls that are on no bill yet.
#[derive(Debug, Default)]
pub struct Tally(Mutex<ModelCalls>);

impl Tally {
    /// Notes a call's answer, whose head came after such a time.
    pub fn note<B>(&self, answer: &Response<B>, took: Duration) {
        let mut calls = self.calls();
        let count = match (answer.extensions().get::<Own>(), answer.status()) {
            (Some(Own), status) if status != StatusCode::BAD_GATEWAY => &mut calls.refused,
            (_, status) if status.is_success() => &mut calls.answered,
            (_, status) if status.is_client_error() => &mut calls.rejected,
            _ => &mut calls.failed,
        };
        *count += 1;
        calls.wait_ms = calls.wait_ms.saturating_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Takes what was noted since it was taken last.
    pub fn take(&self) -> ModelCalls {
        std::mem::take(&mut *self.calls())
    }

    fn calls(&self) -> MutexGuard<'_, ModelCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_counts_as_what_it_is_and_once() {
        let tally = Tally::default();
        for (status, is_own) in
            [(200, false), (200, false), (400, false), (429, false), (529, false), (502, true), (400, true), (401, true)]
        {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            if is_own {
                answer.extensions_mut().insert(Own);
            }
            tally.note(&answer, Duration::from_millis(10));
        }
        assert_eq!(tally.take(), ModelCalls { answered: 2, rejected: 2, failed: 2, refused: 2, wait_ms: 80 });
        assert_eq!(tally.take(), ModelCalls::default());
    }
}
