//! What coordinators tell: acknowledgements against the disks, reads against everything acknowledged before, contexts against what was
//! shown with them.

use std::{collections::BTreeSet, rc::Rc};

use bytes::Bytes;
use dynamo::{
    hlc,
    layout::ConflictRule,
    operation::{Action, Operation, Outcome, Receipt, Reply, Sibling},
    token,
};

use super::{
    Acknowledgement, Dots, KeyNumber, OpNumber, Oracle,
    rings::{Counted, Demand, Kind},
};
use crate::invariant::Invariant;

/// A request as its coordinator got it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What was asked.
    pub operation: Operation,
    /// When it arrived.
    pub arrived_us: u64,
    /// The coordinator's wall clock then.
    pub wall_ms: u64,
}

impl Oracle {
    /// A coordinator replies to a request it worked on itself; `answered` are the nodes of its receipt.
    pub fn replied(&mut self, node: usize, request: &Request, reply: &Reply, answered: &BTreeSet<usize>) {
        self.seen.replies += 1;
        let key = self.number(&request.operation.address.store_key);
        let receipt = &reply.receipt;
        match (&request.operation.action, &reply.outcome) {
            (_, Outcome::Failed(_)) => {}
            (Action::Get { without_values }, Outcome::Found { siblings, context }) => {
                let shown = if *without_values { None } else { Some(&siblings[..]) };
                self.judge_read(key, request, receipt, answered, (shown, siblings.len(), context));
            }
            (Action::Get { .. }, Outcome::NotFound { context }) => {
                self.judge_read(key, request, receipt, answered, (Some(&[]), 0, context));
            }
            (Action::Put { op_id, .. } | Action::Delete { op_id, .. }, Outcome::Stored { context, .. }) => {
                let Some(&op) = self.by_op_id.get(op_id) else { return };
                self.judge_acknowledgement(node, op, request, receipt, answered);
                if let Some(context) = context {
                    self.judge_own_context(key, op, context);
                }
            }
            (action, outcome) => {
                self.broken(Invariant::I2, || format!("{action:?} was answered by {outcome:?}"));
            }
        }
    }

    /// An answer counts only under the view it was given under, and an operation ends with its quorum in every configuration of it.
    fn judge_quorums(
        &mut self,
        key: KeyNumber,
        (demand, kind): (&Demand, Kind),
        request: &Request,
        (receipt, answered): (&Receipt, &BTreeSet<usize>),
        fits: impl Fn(&Self, &Counted) -> bool,
    ) -> Option<Counted> {
        // The operation was done under one view and does not say which. With stand-ins several may do, and who is one depends on it.
        let lost = self.losses.known_at(receipt.epoch);
        let mut counted = self.keys[key].ownership.counted(answered, (demand, kind), request.arrived_us, &lost);
        let at = counted.iter().position(|counted| fits(self, counted)).unwrap_or(0);
        let counted = (at < counted.len()).then(|| counted.swap_remove(at));
        let is_single = answered.len() == receipt.answered.len();
        if counted.is_none() || !is_single {
            let invariant = match (self.keys[key].ownership.has_changed(), kind) {
                (true, _) => Invariant::I11,
                (false, Kind::Read) => Invariant::I7,
                (false, Kind::Write) => Invariant::I8,
            };
            let known = self.keys[key].ownership.told(answered, request.arrived_us);
            self.broken(invariant, || {
                format!(
                    "{demand:?} of key {key} has its {kind:?} quorum under no view: {receipt:?}, {answered:?}, {known}"
                )
            });
        }
        counted
    }

    fn judge_acknowledgement(
        &mut self,
        node: usize,
        op: OpNumber,
        request: &Request,
        receipt: &Receipt,
        answered: &BTreeSet<usize>,
    ) {
        let (key, demand) = (self.ops[op].key, self.demand(&request.operation.consistency));
        let text = self.text(op);
        let are_held = |oracle: &Self, counted: &Counted| {
            answered.iter().all(|node| oracle.has_on_disk(op, *node, !counted.strangers.contains(node)))
        };
        let counted = self.judge_quorums(key, (&demand, Kind::Write), request, (receipt, answered), are_held);
        let Some(Counted { strangers, need, view }) = counted else { return };
        if usize::from(receipt.durable) < need {
            self.broken(Invariant::I8, || format!("{text} needs {need} copies and is acknowledged with {receipt:?}"));
        }
        self.seen.stand_ins += u64::from(!strangers.is_empty());
        self.seen.without_own += u64::from(!answered.contains(&node));
        let is_certain = !self.keys[key].ownership.has_changed();
        let is_told = usize::from(receipt.stand_ins) == strangers.len();
        if (demand.is_strict() && receipt.stand_ins > 0) || (is_certain && !is_told) {
            self.broken(Invariant::I8, || format!("{text}: {strangers:?} are stand-ins in {receipt:?}"));
        }
        let mut on_disk = 0_u32;
        for &node in answered {
            let is_owner = !strangers.contains(&node);
            if !self.has_on_disk(op, node, is_owner) {
                self.broken(Invariant::I8, || {
                    format!("{text} is acknowledged, and node {node} does not have it on disk")
                });
            }
            let is_a_copy = self.has_on_disk(op, node, true);
            if is_a_copy && is_owner && self.keys[key].held[node].meets(&self.ops[op].dots) {
                on_disk |= 1 << node;
            }
        }
        self.ops[op].acknowledged = true;
        let at_us = self.now_us;
        let is_forsaken = self.keys[key].ownership.forsakes(view, &self.losses.all(), answered);
        self.seen.forsaken += u64::from(is_forsaken);
        let acknowledgement = Acknowledgement { op, at_us, demand, owners: on_disk, is_forsaken };
        self.keys[key].acknowledgements.push(acknowledgement);
    }

    /// Whether a node has had a write on its disk; as a hint only if it is no owner.
    fn has_on_disk(&self, op: OpNumber, node: usize, is_owner: bool) -> bool {
        let (truth, bit) = (&self.keys[self.ops[op].key], 1_u32 << node);
        let mut minted = self.ops[op].dots.iter().map(|number| &truth.minted[number]);
        minted.any(|minting| minting.durable & bit != 0 || (!is_owner && minting.hinted & bit != 0))
    }

    /// A put's own context may cover no value but the put's.
    fn judge_own_context(&mut self, key: KeyNumber, op: OpNumber, context: &Bytes) {
        let Some(known) = self.open(key, context) else { return };
        let expected = self.expected(key, &known);
        let truth = &self.keys[key];
        let is_other =
            |number: &usize| truth.minted[*number].op != op && self.ops[truth.minted[*number].op].value.is_some();
        let unseen = expected.must.iter().find(is_other);
        if let Some(number) = unseen {
            let (text, other) = (self.text(op), self.text(self.keys[key].minted[number].op));
            self.broken(Invariant::I6, || {
                format!("the context given for {text} covers {other}, which its client was not shown")
            });
        }
    }

    fn judge_read(
        &mut self,
        key: KeyNumber,
        request: &Request,
        receipt: &Receipt,
        answered: &BTreeSet<usize>,
        (shown, count, context): (Option<&[Sibling]>, usize, &Bytes),
    ) {
        let demand = self.demand(&request.operation.consistency);
        let Some(Counted { strangers, view, .. }) =
            self.judge_quorums(key, (&demand, Kind::Read), request, (receipt, answered), |_, _| true)
        else {
            return;
        };
        // A stand-in answers from its hints, whatever it holds as an owner that it was.
        let answered = answered - &strangers;
        let Some(known) = self.open(key, context) else { return };
        let is_forsaken = self.keys[key].ownership.forsakes(view, &self.losses.all(), &answered);
        self.judge_coverage(key, request, (&answered, is_forsaken), demand, &known);
        self.judge_shown(key, request, &known, shown, count);
    }

    /// Everything acknowledged before the read began that it had to meet must be known by what it shows; what nodes given up took with
    /// them it need not meet ([`super::losses`]).
    fn judge_coverage(
        &mut self,
        key: KeyNumber,
        request: &Request,
        (answered, is_forsaken): (&BTreeSet<usize>, bool),
        demand: Demand,
        known: &Dots,
    ) {
        let mask = answered.iter().fold(0_u32, |mask, node| mask | 1 << node);
        let mut bound = 0;
        let mut missed = None;
        for acknowledged in &self.keys[key].acknowledgements {
            let dots = &self.ops[acknowledged.op].dots;
            let must_meet = self.keys[key].ownership.must_meet(&acknowledged.demand, &demand);
            let is_bound = acknowledged.owners & mask != 0 || (must_meet && !acknowledged.is_forsaken && !is_forsaken);
            if acknowledged.at_us >= request.arrived_us || !is_bound || self.keys[key].forgotten.meets(dots) {
                continue;
            }
            bound += 1;
            if !known.meets(dots) {
                missed = Some(acknowledged.op);
            }
        }
        self.seen.bound_reads += u64::from(bound > 0);
        if let Some(op) = missed {
            let text = self.text(op);
            self.broken(Invariant::I7, || format!("a read by {answered:?} that began later misses {text}"));
        }
    }

    fn judge_shown(
        &mut self,
        key: KeyNumber,
        request: &Request,
        known: &Dots,
        shown: Option<&[Sibling]>,
        count: usize,
    ) {
        let expected = self.expected(key, known);
        let truth = &self.keys[key];
        let now = hlc::clock_of(request.wall_ms);
        let value_of = |number: usize| self.ops[truth.minted[number].op].value.as_ref();
        let is_expired = |number: usize| truth.minted[number].expires != 0 && truth.minted[number].expires <= now;
        // Twins are shown as one, and each has its own expiry: once one of them has expired, it depends on which comes first.
        let is_doubtful = |number: usize| self.ops[truth.minted[number].op].dots.iter().any(is_expired);
        let is_shown = |number: &usize| value_of(*number).is_some() && !is_expired(*number);
        let is_certain = |number: &usize| is_shown(number) && !is_doubtful(*number);
        let mut must: BTreeSet<OpNumber> = BTreeSet::new();
        let mut may: BTreeSet<OpNumber> = expected.may.iter().filter(is_shown).map(|at| truth.minted[at].op).collect();
        match truth.rule {
            ConflictRule::Siblings => {
                must.extend(expected.must.iter().filter(is_certain).map(|at| truth.minted[at].op));
                may.extend(expected.must.iter().filter(is_shown).map(|at| truth.minted[at].op));
            }
            ConflictRule::LastWriterWins => {
                let rank = |number: &usize| (truth.minted[*number].clock, truth.minted[*number].dot);
                let winner = expected.must.iter().max_by_key(rank).filter(is_shown).map(|at| truth.minted[at].op);
                let target = if expected.may.is_empty() { &mut must } else { &mut may };
                target.extend(winner);
            }
        }
        let hides_expired = expected.must.iter().any(|number| value_of(number).is_some() && is_expired(number));
        let was_deleted = !known.is_empty() && count == 0;
        self.seen.siblings += u64::from(count > 1);
        self.seen.expired += u64::from(hides_expired);
        self.seen.deleted += u64::from(was_deleted);
        let Some(siblings) = shown else {
            if count < must.len() || count > must.len() + may.len() {
                self.broken(Invariant::I4, || {
                    format!("a read of key {key} counts {count} values, and should {must:?} and perhaps {may:?}")
                });
            }
            return;
        };
        let mut ops = BTreeSet::new();
        for sibling in siblings {
            let op = self.by_value.get(&sibling.value).copied().filter(|op| self.ops[*op].key == key);
            let Some(op) = op else {
                let text = format!("a read of key {key} shows {:?}, which nobody wrote there", sibling.value);
                return self.broken(Invariant::I2, || text);
            };
            if !ops.insert(op) {
                let text = self.text(op);
                self.broken(Invariant::I4, || format!("a read shows {text} twice"));
            }
        }
        if let Some(&missing) = must.iter().find(|op| !ops.contains(op)) {
            let text = self.text(missing);
            self.broken(Invariant::I4, || format!("a read whose context covers {text} does not show it"));
        }
        if let Some(&returned) = ops.iter().find(|op| !must.contains(op) && !may.contains(op)) {
            let text = self.text(returned);
            self.broken(Invariant::I3, || format!("a read shows {text}, which what it knows has replaced"));
        }
    }

    /// What a context that is given out covers.
    fn open(&mut self, key: KeyNumber, context: &Bytes) -> Option<Rc<Dots>> {
        if let Some(known) = self.keys[key].tokens.get(context) {
            return Some(Rc::clone(known));
        }
        let store_key = self.keys[key].address.store_key;
        match token::open(&self.token_key, &store_key, context) {
            Ok(seen) => {
                let known = Rc::new(self.claims(key, &seen.context, "a context"));
                self.keys[key].tokens.insert(context.clone(), Rc::clone(&known));
                Some(known)
            }
            Err(error) => {
                self.broken(Invariant::I6, || format!("a context was given out that can't be opened: {error:?}"));
                None
            }
        }
    }

    /// After everything was healed: these owners must know all that was acknowledged, and nothing that was denied.
    pub fn judge_end(&mut self, key: KeyNumber, owners: &[usize], stranded: &Dots) {
        for at in 0..self.keys[key].writes.len() {
            let op = self.keys[key].writes[at];
            let dots = self.ops[op].dots.clone();
            // What is kept for a node that will not come back is still there, and waits for its replacement.
            let is_abandoned = self.keys[key].abandoned.meets(&dots);
            let is_reaped = self.keys[key].forgotten.meets(&dots) || stranded.meets(&dots) || is_abandoned;
            for &owner in owners {
                let has = self.keys[key].held[owner].meets(&dots);
                if self.ops[op].acknowledged && !has && !is_reaped {
                    let text = self.text(op);
                    self.broken(Invariant::I1, || {
                        format!("{text} was acknowledged, and node {owner} does not have it")
                    });
                }
            }
        }
    }
}
