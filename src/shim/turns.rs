//! The turns that a shim was given: which runs, which wait, which were seen.

use std::collections::{HashSet, VecDeque};

use crate::link::shim::Turn;
use crate::wire::TurnId;

/// Turns that may wait. The daemon gives one at a time.
const WAITING_MAX: usize = 64;
/// Ids that are remembered, so that a turn given twice runs once.
const SEEN_MAX: usize = 10_000;

/// The turns. At most one is current.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: VecDeque<Turn>,
    current: Option<Current>,
    seen: HashSet<TurnId>,
    order: VecDeque<TurnId>,
}

/// The turn that runs or is about to.
#[derive(Debug)]
pub struct Current {
    /// The turn.
    pub turn: Turn,
    /// Whether the runtime has it.
    pub begun: bool,
}

/// What became of a turn that was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// It waits.
    Waits,
    /// It was seen before, and is not over.
    Seen,
    /// It was seen before, and is over.
    Over,
    /// Too many wait.
    TooMany,
}

impl Turns {
    /// Takes a turn.
    pub fn give(&mut self, turn: Turn) -> Given {
        if !self.seen.insert(turn.id) {
            let is_current = self.current.as_ref().is_some_and(|current| current.turn.id == turn.id);
            let is_open = is_current || self.waiting.iter().any(|waiting| waiting.id == turn.id);
            return if is_open { Given::Seen } else { Given::Over };
        }
        self.order.push_back(turn.id);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Given::TooMany;
        }
        self.waiting.push_back(turn);
        Given::Waits
    }

    /// The turn that runs or is about to; with none, the next that waits becomes it.
    pub fn current(&mut self) -> Option<&mut Current> {
        if self.current.is_none() {
            self.current = self.waiting.pop_front().map(|turn| Current { turn, begun: false });
        }
        self.current.as_mut()
    }

    /// The turn that runs or is about to, without making another one it.
    pub const fn peek(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    /// The current turn is over, if it is this one.
    pub fn over(&mut self, id: TurnId) {
        self.current.take_if(|current| current.turn.id == id);
    }

    /// The current turn has to begin anew.
    pub fn rewind(&mut self) {
        if let Some(current) = &mut self.current {
            current.begun = false;
        }
    }

    /// Takes a turn away that waits. False if it does not.
    pub fn cancel(&mut self, id: TurnId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|turn| turn.id != id);
        self.waiting.len() < before
    }

    /// Takes away all that wait.
    pub fn cancel_all(&mut self) -> Vec<TurnId> {
        self.waiting.drain(..).map(|turn| turn.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::TurnOptions;

    fn turn() -> Turn {
        let content = serde_json::value::to_raw_value("hello").expect("raw");
        Turn { id: TurnId::new(), content, options: TurnOptions::default() }
    }

    #[test]
    fn turns_run_one_after_the_other_and_once() {
        let mut turns = Turns::default();
        let [a, b, c] = [turn(), turn(), turn()];
        for turn in [&a, &b, &c] {
            assert_eq!(turns.give(turn.clone()), Given::Waits);
        }
        assert_eq!(turns.give(a.clone()), Given::Seen);
        assert!(turns.peek().is_none());
        assert_eq!(turns.current().map(|current| current.turn.id), Some(a.id));
        turns.over(b.id);
        assert_eq!(turns.current().map(|current| current.turn.id), Some(a.id));
        turns.over(a.id);
        assert!(turns.cancel(b.id) && !turns.cancel(b.id));
        assert_eq!(turns.current().map(|current| current.turn.id), Some(c.id));
        assert_eq!(turns.give(c), Given::Seen);
        assert_eq!(turns.give(a), Given::Over, "it does not run again");
        assert_eq!(turns.give(b), Given::Over, "nor does one that was taken away");
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut turns = Turns::default();
        let first = turn();
        turns.give(first.clone());
        while turns.give(turn()) == Given::Waits {}
        assert_eq!(turns.cancel_all().len(), WAITING_MAX);
        for _ in 0..SEEN_MAX {
            turns.give(turn());
            turns.cancel_all();
        }
        assert_eq!((turns.seen.len(), turns.order.len()), (SEEN_MAX, SEEN_MAX));
        assert_eq!(turns.give(first), Given::Waits);
    }
}
