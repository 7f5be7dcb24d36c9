//! The calls of one loop that have not ended: found by token when their answers come, by future when a task is cancelled.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use pyo3::{Bound, Py, PyAny, PyTraverseError, PyVisit};
use quorate::{
    Level,
    bridge::{Ended, Ticket},
};

use super::lookout::Habit;
use crate::{answer::Absence, bucket::AsyncBucket};

/// A call that has not ended.
pub(super) struct Open {
    pub(super) future: Py<PyAny>,
    pub(super) purpose: Purpose,
}

/// What an answer is for.
pub(super) enum Purpose {
    Call { caller: Py<AsyncBucket>, ticket: Ticket, absence: Absence },
    Connection { level: Option<Level> },
}

/// The open calls of one loop.
#[derive(Default)]
pub(super) struct Calls {
    last_token: u64,
    by_token: HashMap<u64, Open, Quick>,
    /// The tokens by the address of the future, which its entry above keeps alive.
    tokens: HashMap<u64, u64, Quick>,
    /// Kept for its capacity.
    buffer: Vec<Ended>,
    pub(super) habit: Habit,
}

/// Tokens count and addresses differ; neither is chosen by anybody who means harm.
type Quick = BuildHasherDefault<Multiplied>;

#[derive(Default)]
struct Multiplied(u64);

impl Calls {
    /// A token that no call had before.
    pub(super) fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    pub(super) fn insert(&mut self, token: u64, open: Open) {
        self.tokens.insert(address(&open.future), token);
        self.by_token.insert(token, open);
        if self.by_token.len() == 1 {
            self.habit.asked();
        }
    }

    /// Whether the only call there is will be answered so soon that the loop had better look for the answer than sleep.
    pub(super) fn is_worth_looking(&self) -> bool {
        self.by_token.len() == 1 && self.habit.looking_pays()
    }

    /// Answers have come.
    pub(super) fn note_answers(&mut self) {
        self.habit.answered();
    }

    /// How many calls have not ended.
    pub(super) fn count(&self) -> usize {
        self.by_token.len()
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Open> {
        let open = self.by_token.remove(&token)?;
        self.tokens.remove(&address(&open.future));
        Some(open)
    }

    pub(super) fn remove_future(&mut self, future: &Bound<'_, PyAny>) -> Option<Open> {
        let token = self.tokens.remove(&(future.as_ptr() as u64))?;
        self.by_token.remove(&token)
    }

    pub(super) fn take_buffer(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.buffer)
    }

    pub(super) fn return_buffer(&mut self, buffer: Vec<Ended>) {
        self.buffer = buffer;
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for open in self.by_token.values() {
            visit.call(&open.future)?;
            match &open.purpose {
                Purpose::Call { caller, .. } => visit.call(caller)?,
                Purpose::Connection { .. } => {}
            }
        }
        Ok(())
    }
}

impl Hasher for Multiplied {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((self.0 << 8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio spreads numbers that differ in few bits; the rotation brings the best bits to both ends.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

fn address(object: &Py<PyAny>) -> u64 {
    object.as_ptr() as u64
}
