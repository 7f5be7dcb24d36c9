//! A read (paper, section 4.5): R records, digests of the rest, the merge of what differs, and read repair of whoever is
//! behind, before or after the reply. At level `available` (section 4.6) what stand-ins keep is read when owners do not
//! suffice; owners always come first, for a stand-in knows no more than what they missed.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

use super::{
    Effect, PeerCall,
    call::Ask,
    failing::{Shortfall, Trouble, reason},
    flight::{Flow, Head, Shared, Stage},
    route::Route,
};
use crate::{
    bug::{self, Bug},
    hlc,
    ident::OpId,
    layout::ConflictRule,
    operation::{Address, ErrorCode, Failure, Outcome, Sibling},
    peer::{PeerAction, PeerOperation, PeerResult},
    quorum::{
        Place, Places, Verdict,
        get::{Answer, Get},
    },
    record::{self, RecordError},
    replica::{MintBasis, Write, WriteOperation},
    token,
    version::{
        Content, Object,
        put::{Recognition, Seen},
    },
};

/// A read in progress.
#[derive(Debug)]
pub(super) struct Reading {
    purpose: Purpose,
    tally: Get,
    /// Calls that are out.
    records_pending: Places,
    digests_pending: Places,
    /// All records that came, merged; `None` while every replica that answered holds nothing.
    merged: Option<Merged>,
    trouble: Trouble,
}

/// What is read for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To show it to a client.
    Get {
        /// Show everything but the values.
        without_values: bool,
        /// How concurrent values are shown.
        rule: ConflictRule,
    },
    /// To delete it.
    Delete {
        /// Names the delete across retries.
        op_id: OpId,
        /// The highest clock its client has seen.
        seen_clock: u64,
    },
}

/// What the records that came say together.
#[derive(Debug)]
struct Merged {
    object: Object,
    /// The object as a record, and that record's digest. `None` after a merge, until someone needs it: in the best case
    /// all records agree, and the first one is it.
    encoded: Option<(Bytes, u128)>,
}

impl Reading {
    /// Asks R owners for their record and, for a get, the others in use for a digest.
    pub(super) fn begin(
        purpose: Purpose,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Result<Stage, Failure> {
        shared.hedges.earn();
        let unreachable = shared.unreachable(&head.route);
        let tally = Get::new(head.route.read_quorums(&head.demand)?, unreachable);
        let (records_pending, digests_pending) = (Places::NONE, Places::NONE);
        let trouble = Trouble::default();
        let mut reading = Self { purpose, tally, records_pending, digests_pending, merged: None, trouble };
        if reading.verdict(head, shared) == Verdict::Lost {
            let (need, _) = reading.tally.quorums().need_and_got(Places::NONE);
            let reachable = reading.tally.quorums().places().without(unreachable).len();
            let need_and_got = (need, reachable);
            return Err(Shortfall {
                need_and_got,
                trouble,
                maybe_applied: reading.maybe_applied(head),
                route: &head.route,
            }
            .lost());
        }
        let readers = reading.tally.next_readers();
        readers.iter().for_each(|place| reading.ask(place, Ask::Whole, head, shared, effects));
        if let Purpose::Get { .. } = reading.purpose {
            let others = head.route.owners().without(readers).without(unreachable);
            others.iter().for_each(|place| reading.ask(place, Ask::Digest, head, shared, effects));
        }
        Ok(Stage::Reading(reading))
    }

    /// Whether it may be worth while to ask one more node later: someone else is slow, or may be.
    pub(super) fn may_hedge(&self, head: &Head) -> bool {
        let mut mine = Places::NONE;
        if head.route.is_mine() {
            mine.insert(Place::FIRST);
        }
        let has_others = head.demand.is_sloppy || self.records_pending != head.route.places();
        !self.records_pending.without(mine).is_empty() && has_others
    }

    /// Bytes of the record it keeps.
    pub(super) fn record_bytes(&self) -> usize {
        let encoded = self.merged.as_ref().and_then(|merged| merged.encoded.as_ref());
        encoded.map_or(0, |(bytes, _)| bytes.len())
    }

    /// Takes what became of a call.
    pub(super) fn on_answer(
        &mut self,
        (place, ask): (Place, Ask),
        result: PeerCall,
        head: &mut Head,
        shared: &mut Shared,
        effects: &mut Vec<Effect>,
    ) -> Flow {
        let pending = match ask {
            Ask::Whole => &mut self.records_pending,
            Ask::Digest => &mut self.digests_pending,
        };
        if !pending.contains(place) {
            return Flow::Unclaimed;
        }
        pending.remove(place);
        if let PeerCall::Answered(PeerResult::Stale(told)) = &result
            && !bug::is_on(Bug::CountOtherView)
            && shared.hear(told, head, effects)
            && !head.is_answered
        {
            return Flow::Renew;
        }
        let answer = self.understand(ask, result, &head.operation.address, shared);
        self.tally.on_reply(place, head.route.view, answer);
        if head.is_answered {
            return self.go_on_repairing(head, shared, effects);
        }
        match self.verdict(head, shared) {
            Verdict::Reached => self.finish(head, shared, effects),
            // Other owners would read as much again for an answer that does not fit either.
            Verdict::Pending if self.trouble.is_too_large() => {
                let failure = self.shortfall(head).lost();
                self.fail(failure, head, effects)
            }
            Verdict::Pending => {
                for place in self.tally.next_readers().iter() {
                    shared.counters.upgrades += 1;
                    self.ask(place, Ask::Whole, head, shared, effects);
                }
                Flow::Wait
            }
            Verdict::Lost if head.is_behind() => Flow::Renew,
            Verdict::Lost => {
                let failure = self.shortfall(head).lost();
                self.fail(failure, head, effects)
            }
        }
    }

    /// The readers are slow: asks one more.
    pub(super) fn on_hedge(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if head.is_answered || !self.may_hedge(head) {
            return Flow::Wait;
        }
        if !shared.hedges.spend() {
            shared.counters.hedges_withheld += 1;
            return Flow::Wait;
        }
        let next = self.tally.next_hedge().or_else(|| {
            self.recruit(head, shared);
            self.tally.next_hedge()
        });
        if let Some(place) = next {
            shared.counters.hedges += 1;
            self.ask(place, Ask::Whole, head, shared, effects);
        }
        Flow::Wait
    }

    /// Time is up: fails, or ends the wait for late answers.
    pub(super) fn on_deadline(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        if head.is_answered {
            self.repair(head, shared, effects);
            return Flow::End;
        }
        shared.counters.timeouts += 1;
        let failure = self.shortfall(head).timeout();
        self.fail(failure, head, effects)
    }

    /// How the read stands, when as many stand-ins as it lacks have been found for it.
    fn verdict(&mut self, head: &mut Head, shared: &mut Shared) -> Verdict {
        loop {
            let verdict = self.tally.verdict();
            if verdict != Verdict::Lost || !self.recruit(head, shared) {
                return verdict;
            }
        }
    }

    /// Lets one more stand-in count, if the level allows it and there is one.
    fn recruit(&mut self, head: &mut Head, shared: &mut Shared) -> bool {
        let stand_in = if head.demand.is_sloppy { head.route.recruit(shared) } else { None };
        stand_in.into_iter().for_each(|place| self.tally.admit(place));
        stand_in.is_some()
    }

    /// What an answer means to the tally; records are verified, and merged, on the way.
    fn understand(&mut self, ask: Ask, result: PeerCall, address: &Address, shared: &mut Shared) -> Answer {
        let result = match result {
            PeerCall::Answered(result) => result,
            PeerCall::NotSent | PeerCall::Lost => {
                self.trouble.add(ErrorCode::Unavailable);
                let is_absent = ask == Ask::Whole && bug::is_on(Bug::ErrorReadAsAbsent);
                return if is_absent { Answer::Record(None) } else { Answer::Failed };
            }
        };
        match (ask, result) {
            (Ask::Whole, PeerResult::Absent) => Answer::Record(None),
            (Ask::Whole, PeerResult::Record(bytes)) => match self.merge(bytes, address) {
                Ok(digest) => Answer::Record(Some(digest)),
                Err(error) => {
                    let code = error.failure().code;
                    shared.counters.corrupt += u64::from(code == ErrorCode::Corrupt);
                    self.trouble.add(code);
                    Answer::Failed
                }
            },
            (Ask::Digest, PeerResult::Absent) => Answer::Digest(None),
            (Ask::Digest, PeerResult::Digest(digest)) => Answer::Digest(Some(digest)),
            (Ask::Whole, PeerResult::Failed(_)) if bug::is_on(Bug::ErrorReadAsAbsent) => Answer::Record(None),
            (Ask::Whole, PeerResult::Stale(_)) if bug::is_on(Bug::CountOtherView) => Answer::Record(None),
            (Ask::Whole | Ask::Digest, useless) => {
                shared.counters.corrupt += u64::from(useless == PeerResult::Corrupt);
                self.trouble.add(reason(&useless));
                Answer::Failed
            }
        }
    }

    /// Verifies a record and merges it; its digest. The same bytes are not decoded twice.
    fn merge(&mut self, bytes: Bytes, address: &Address) -> Result<u128, RecordError> {
        let Some(merged) = &mut self.merged else {
            let (object, digest) = record::read(address, &bytes)?;
            self.merged = Some(Merged { object, encoded: Some((bytes, digest)) });
            return Ok(digest);
        };
        let digest = record::verify(&address.store_key, &bytes)?;
        if !self.tally.has_read(digest) {
            let (other, _) = record::read(address, &bytes)?;
            merged.object.merge(&other);
            if !bug::is_on(Bug::RepairWithFirst) {
                merged.encoded = None;
            }
        }
        Ok(digest)
    }

    fn finish(&mut self, head: &mut Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        let (without_values, rule) = match self.purpose {
            Purpose::Get { without_values, rule } => (without_values, rule),
            Purpose::Delete { op_id, seen_clock } => {
                return Flow::Write(Box::new(self.tombstone(op_id, seen_clock, head)));
            }
        };
        let mut receipt = head.receipt(self.tally.read(), self.tally.quorums().need());
        receipt.repaired = self.is_someone_behind(shared.may_linger(), head);
        let store_key = &head.operation.address.store_key;
        let outcome = match &self.merged {
            Some(merged) => {
                let context = token::seal_object(&shared.config.token_key, store_key, &merged.object);
                let now = hlc::clock_of(head.now_wall_ms);
                show(&merged.object, rule, now, without_values, context)
            }
            None => Outcome::NotFound { context: token::seal(&shared.config.token_key, store_key, &Seen::default()) },
        };
        let is_repaired = receipt.repaired;
        head.reply(outcome, receipt, effects);
        if !is_repaired && self.records_pending.is_empty() && self.digests_pending.is_empty() {
            return Flow::End;
        }
        if !shared.may_linger() {
            shared.counters.unlingered += 1;
            self.repair(head, shared, effects);
            return Flow::End;
        }
        match self.go_on_repairing(head, shared, effects) {
            Flow::End => Flow::End,
            Flow::Wait | Flow::Linger | Flow::Write(_) | Flow::StandIn | Flow::Renew | Flow::Unclaimed => Flow::Linger,
        }
    }

    /// After the reply: reads what is known only by its digest, then repairs, then waits for who has not answered.
    fn go_on_repairing(&mut self, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) -> Flow {
        for place in self.tally.next_fetches().iter() {
            shared.counters.fetches += 1;
            self.ask(place, Ask::Whole, head, shared, effects);
        }
        // What a fetch brings changes what is to be sent, so it is waited for; digests may never come, and are not.
        if self.records_pending.is_empty() || !self.tally.has_unread() {
            self.repair(head, shared, effects);
        }
        let is_over = self.records_pending.is_empty() && self.digests_pending.is_empty();
        if is_over { Flow::End } else { Flow::Wait }
    }

    /// Sends the merge to every owner that is known to be behind it.
    fn repair(&mut self, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        let Some(merged) = &mut self.merged else { return };
        if !self.tally.is_divided() {
            return;
        }
        let address = &head.operation.address;
        let (record, digest) = merged.encoded(address);
        let behind = self.tally.repairs(Some(digest));
        for place in behind.iter() {
            shared.counters.repairs += 1;
            let (view, store_key, record) = (head.route.view, address.store_key, record.clone());
            effects.push(if head.route.is_me(place) {
                Effect::LocalWrite { call: None, operation: WriteOperation::Merge { view, store_key, record } }
            } else {
                let operation = PeerOperation { view, store_key, action: PeerAction::Merge(record) };
                Effect::Peer { to: head.route.node(place), call: None, operation }
            });
        }
        self.tally.on_repaired(behind, digest);
    }

    /// Whether repairs are due: now, or after a fetch if there may be one.
    fn is_someone_behind(&mut self, may_fetch: bool, head: &Head) -> bool {
        if !self.tally.is_divided() {
            return false;
        }
        let digest = self.merged.as_mut().map(|merged| merged.encoded(&head.operation.address).1);
        (may_fetch && self.tally.has_unread()) || !self.tally.repairs(digest).is_empty()
    }

    /// The delete of everything that was read; of nothing if this is the retry of a delete that somebody has overwritten
    /// since. What was read then came after the delete. The replica that mints may not know that it is a retry, and merging
    /// will drop its version, but what that version replaced would be gone.
    fn tombstone(&self, op_id: OpId, seen_clock: u64, head: &Head) -> (Address, Write) {
        let basis = match &self.merged {
            None => MintBasis::Context(Seen::default()),
            Some(_) if bug::is_on(Bug::DeleteCoversNothing) => MintBasis::Beside,
            Some(Merged { object, .. }) => match object.recognise(&op_id, &Content::Tombstone) {
                Recognition::Spent => MintBasis::Beside,
                Recognition::New | Recognition::Standing(_) | Recognition::Contradicted => {
                    MintBasis::Context(object.seen())
                }
            },
        };
        let write =
            Write { content: Content::Tombstone, basis, op_id, seen_clock, wall_ms: head.now_wall_ms, expires: 0 };
        (head.operation.address.clone(), write)
    }

    fn ask(&mut self, place: Place, ask: Ask, head: &Head, shared: &mut Shared, effects: &mut Vec<Effect>) {
        match ask {
            Ask::Whole => self.records_pending.insert(place),
            Ask::Digest => self.digests_pending.insert(place),
        }
        let call = head.call(place, ask);
        let operation = head.route.read(head.operation.address.store_key, place, ask);
        shared.counters.hints_read += u64::from(operation.action == PeerAction::ReadHint);
        effects.push(if head.route.is_me(place) {
            Effect::LocalRead { call, operation }
        } else {
            Effect::Peer { to: head.route.node(place), call: Some(call), operation }
        });
    }

    fn fail(&self, failure: Failure, head: &mut Head, effects: &mut Vec<Effect>) -> Flow {
        let receipt = head.receipt(self.tally.read(), self.tally.quorums().need());
        head.reply(Outcome::Failed(failure), receipt, effects);
        Flow::End
    }

    fn shortfall<'r>(&self, head: &'r Head) -> Shortfall<'r> {
        Shortfall {
            need_and_got: self.tally.quorums().need_and_got(self.tally.read()),
            trouble: self.trouble,
            maybe_applied: self.maybe_applied(head),
            route: &head.route,
        }
    }

    /// Nothing has been written yet, unless under a view before; a get will not write at all.
    fn maybe_applied(&self, head: &Head) -> Option<bool> {
        match self.purpose {
            Purpose::Get { .. } => None,
            Purpose::Delete { .. } => Some(head.maybe_applied),
        }
    }

    /// A known mistake: counts what was read under the view before.
    pub(super) fn keep(&mut self, before: Self, way_before: &Route, head: &Head) {
        let contents = before.merged.map(|mut merged| {
            let (_, digest) = merged.encoded(&head.operation.address);
            self.merged = Some(merged);
            digest
        });
        for place in before.tally.read().iter().filter_map(|place| head.route.find(way_before.node(place))) {
            self.tally.on_reply(place, head.route.view, Answer::Record(contents));
        }
    }
}

impl Merged {
    fn encoded(&mut self, address: &Address) -> (Bytes, u128) {
        let encoded = self.encoded.get_or_insert_with(|| {
            let bytes = Bytes::from(record::encode(address, &self.object));
            let digest = record::digest(&bytes);
            (bytes, digest)
        });
        encoded.clone()
    }
}

/// What a reader is shown of an object.
fn show(object: &Object, rule: ConflictRule, now: u64, without_values: bool, context: Bytes) -> Outcome {
    let mut shown = object.present(rule, now).peekable();
    if shown.peek().is_none() {
        return Outcome::NotFound { context };
    }
    // Nearly always there is one value, so the count is made before there is a list to grow.
    let mut siblings = Vec::with_capacity(shown.clone().count());
    for version in shown {
        let Content::Value { bytes, hash } = &version.content else { continue };
        let value = if without_values { Bytes::new() } else { bytes.clone() };
        siblings.push(Sibling { value, value_bytes: bytes.len() as u32, clock: version.clock, hash: *hash });
    }
    Outcome::Found { siblings, context }
}
