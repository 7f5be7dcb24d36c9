//! Which calls of the peer are unfinished, and how many of our own: the bookkeeping behind the limit of calls in flight.
//!
//! It follows the life of an answer as `rpc.capnp` describes it, by looking at the kind of each message that passes. It
//! does not check the protocol; the RPC layer does that and ends the connection where needed.

use std::collections::HashMap;

use capnp_rpc::rpc_capnp::{message, payload, return_};

/// What a message means for the bookkeeping. Numbers are question ids, chosen by the side that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Call` or `Bootstrap`.
    Ask(u32),
    /// `Return`.
    Answer {
        /// Which question it answers.
        question: u32,
        /// The asker need not and will not send `Finish`.
        is_final: bool,
    },
    /// `Finish`.
    Finish(u32),
    /// Anything else; it opens and ends no call.
    Other,
}

/// The kind of a message, and the number of capabilities it carries.
pub(crate) fn classify(root: message::Reader<'_>) -> capnp::Result<(Kind, u32)> {
    match root.which() {
        Ok(message::Bootstrap(bootstrap)) => Ok((Kind::Ask(bootstrap?.get_question_id()), 0)),
        Ok(message::Call(call)) => {
            let call = call?;
            Ok((Kind::Ask(call.get_question_id()), call.get_params()?.get_cap_table()?.len()))
        }
        Ok(message::Return(answer)) => {
            let answer = answer?;
            let kind = Kind::Answer { question: answer.get_answer_id(), is_final: answer.get_no_finish_needed() };
            match answer.which() {
                Ok(return_::Results(results)) => Ok((kind, results?.get_cap_table()?.len())),
                Ok(_) | Err(capnp::NotInSchema(_)) => Ok((kind, 0)),
            }
        }
        Ok(message::Finish(finish)) => Ok((Kind::Finish(finish?.get_question_id()), 0)),
        Ok(_) | Err(capnp::NotInSchema(_)) => Ok((Kind::Other, 0)),
    }
}

/// The payload of a call or of an answer with results.
pub(crate) fn payload_of(root: message::Reader<'_>) -> capnp::Result<Option<payload::Reader<'_>>> {
    match root.which() {
        Ok(message::Call(call)) => Ok(Some(call?.get_params()?)),
        Ok(message::Return(answer)) => match answer?.which() {
            Ok(return_::Results(results)) => Ok(Some(results?)),
            Ok(_) | Err(capnp::NotInSchema(_)) => Ok(None),
        },
        Ok(_) | Err(capnp::NotInSchema(_)) => Ok(None),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Being carried out.
    Running,
    /// Answered; the peer may still pipeline on the results.
    Answered,
}

/// Unfinished calls in both directions.
///
/// Invariant: `running` is the number of `Running` entries of `answers`.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    answers: HashMap<u32, State>,
    running: usize,
    own: usize,
}

impl Calls {
    /// Calls of the peer that are being carried out.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Calls of the peer that are running or answered but not finished.
    pub(crate) fn unfinished(&self) -> usize {
        self.answers.len()
    }

    /// Calls of this side without an answer.
    pub(crate) fn own(&self) -> usize {
        self.own
    }

    /// Follows a message from the peer.
    pub(crate) fn on_received(&mut self, kind: Kind) {
        match kind {
            Kind::Ask(question) => {
                if self.answers.insert(question, State::Running) != Some(State::Running) {
                    self.running += 1;
                }
            }
            Kind::Answer { .. } => self.own = self.own.saturating_sub(1),
            // Finishing a running call cancels it: its handler is dropped and no answer follows.
            Kind::Finish(question) => self.forget(question),
            Kind::Other => {}
        }
    }

    /// Follows a message to the peer.
    pub(crate) fn on_sent(&mut self, kind: Kind) {
        match kind {
            Kind::Ask(_) => self.own += 1,
            Kind::Answer { question, is_final: true } => self.forget(question),
            Kind::Answer { question, is_final: false } => {
                if let Some(state) = self.answers.get_mut(&question)
                    && *state == State::Running
                {
                    *state = State::Answered;
                    self.running -= 1;
                }
            }
            Kind::Finish(_) | Kind::Other => {}
        }
    }

    fn forget(&mut self, question: u32) {
        if self.answers.remove(&question) == Some(State::Running) {
            self.running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Calls, Kind};

    fn answer(question: u32, is_final: bool) -> Kind {
        Kind::Answer { question, is_final }
    }

    #[test]
    fn a_call_runs_until_its_answer_and_is_unfinished_until_finish() {
        let mut calls = Calls::default();
        calls.on_received(Kind::Ask(7));
        assert_eq!((calls.running(), calls.unfinished()), (1, 1));
        calls.on_sent(answer(7, false));
        assert_eq!((calls.running(), calls.unfinished()), (0, 1));
        calls.on_received(Kind::Finish(7));
        assert_eq!((calls.running(), calls.unfinished()), (0, 0));
    }

    #[test]
    fn a_final_answer_needs_no_finish_and_tolerates_one() {
        let mut calls = Calls::default();
        calls.on_received(Kind::Ask(0));
        calls.on_sent(answer(0, true));
        calls.on_received(Kind::Finish(0));
        assert_eq!((calls.running(), calls.unfinished()), (0, 0));
    }

    #[test]
    fn a_cancelled_call_does_not_run_any_more() {
        let mut calls = Calls::default();
        calls.on_received(Kind::Ask(3));
        calls.on_received(Kind::Finish(3));
        assert_eq!((calls.running(), calls.unfinished()), (0, 0));
        // Should an answer follow all the same, it changes nothing.
        calls.on_sent(answer(3, false));
        assert_eq!((calls.running(), calls.unfinished()), (0, 0));
    }

    #[test]
    fn a_reused_question_is_not_counted_twice() {
        let mut calls = Calls::default();
        calls.on_received(Kind::Ask(1));
        calls.on_received(Kind::Ask(1));
        assert_eq!((calls.running(), calls.unfinished()), (1, 1));
    }

    #[test]
    fn own_calls_are_counted_apart() {
        let mut calls = Calls::default();
        calls.on_sent(Kind::Ask(0));
        calls.on_received(answer(0, true));
        calls.on_received(answer(9, true));
        assert_eq!((calls.own(), calls.running()), (0, 0));
    }
}
