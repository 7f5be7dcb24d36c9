//! What happens to writes: asked for, minted, merged, committed, acknowledged, denied.

use std::rc::Rc;

use bytes::Bytes;
use dynamo::{
    ident::OpId,
    operation::{Action, Basis, Operation},
    record,
    replica::{MintBasis, Minted, Write},
    version::put::Seen as TokenContent,
};

use super::{Dots, Entitled, KeyNumber, Minting, OpNumber, Oracle, Standing, Written, records::Expected};
use crate::invariant::Invariant;

/// What a client was told in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is stored.
    Stored,
    /// It failed, and may be stored all the same.
    Unclear,
    /// It failed, and nothing was stored.
    Denied,
}

impl Oracle {
    /// A client asks for a write, or for the same one again.
    pub fn asked(&mut self, operation: &Operation) {
        let (Action::Put { op_id, .. } | Action::Delete { op_id, .. }) = &operation.action else {
            return;
        };
        if let Some(&op) = self.by_op_id.get(op_id) {
            let standing = &mut self.ops[op].standing;
            *standing = if *standing == Standing::Denied { Standing::Open } else { *standing };
            return;
        }
        let key = self.number(&operation.address.store_key);
        let (value, basis) = match &operation.action {
            Action::Put { value, basis, .. } => (Some(value.clone()), basis),
            Action::Delete { basis, .. } => (None, basis),
            Action::Get { .. } => return,
        };
        let entitled = match (basis, &value) {
            (Basis::Local, Some(_)) => Entitled::Local,
            (Basis::Local, None) => Entitled::Found,
            (Basis::Beside, _) => Entitled::Nothing,
            (Basis::Context(token), _) => Entitled::Context(token.clone()),
        };
        let demand = self.demand(&operation.consistency);
        let op = self.ops.len();
        self.by_op_id.insert(*op_id, op);
        if let Some(value) = &value {
            self.by_value.insert(value.clone(), op);
        }
        self.keys[key].writes.push(op);
        self.ops.push(Written {
            key,
            value,
            entitled,
            demand,
            began_us: self.now_us,
            dots: Dots::default(),
            standing: Standing::Open,
            acknowledged: false,
        });
    }

    /// A client's machine ended a write.
    pub fn told(&mut self, op_id: &OpId, told: Told) {
        let Some(&op) = self.by_op_id.get(op_id) else { return };
        match (told, self.ops[op].standing) {
            // Whatever was told of an earlier call under the same id stays true.
            (Told::Stored | Told::Unclear, _) => return self.ops[op].standing = Standing::Unclear,
            (Told::Denied, Standing::Unclear) => return,
            (Told::Denied, Standing::Open | Standing::Denied) => self.ops[op].standing = Standing::Denied,
        }
        let key = self.ops[op].key;
        let is_there =
            |number: usize| self.keys[key].minted[number].durable | self.keys[key].minted[number].hinted != 0;
        if self.ops[op].dots.iter().any(is_there) {
            let text = self.text(op);
            self.broken(Invariant::I2, || {
                format!("{text} is on a disk, and its client is told that nothing was applied")
            });
        }
    }

    /// A replica minted a version on the record `before`, or a stand-in on all hints it keeps of the key. What comes of the transaction is not known yet, but the dot is spent.
    pub fn minted(&mut self, key: KeyNumber, write: &Write, before: &[Bytes], minted: &Minted) {
        let Some(&op) = self.by_op_id.get(&write.op_id) else {
            return self.broken(Invariant::I2, || format!("{:?} was minted and nobody asked for it", write.op_id));
        };
        let Some(dot) = minted.dot.filter(|_| !minted.retried) else {
            self.seen.recognised += 1;
            self.understand(key, &minted.record);
            return;
        };
        if self.dots.contains_key(&dot) {
            self.broken(Invariant::I5, || format!("{dot:?} was minted twice"));
            return;
        }
        if self.keys[key].claimed.get(&dot.actor).is_some_and(|&claimed| claimed >= dot.seq) {
            self.broken(Invariant::I6, || {
                format!("{dot:?} of key {key} was claimed by a context before it was minted")
            });
        }
        let mut known = Dots::default();
        for record in before {
            known.unite(&self.understand(key, record).unwrap_or_default());
        }
        let before = known;
        let stands = self.expected(key, &before).must;
        if stands.meets(&self.ops[op].dots) {
            let text = self.text(op);
            self.broken(Invariant::I4, || format!("{text} was minted again, although it stands where its retry came"));
        }
        let removes = self.removes(op, key, write, &before);
        let number = self.keys[key].minted.len();
        self.dots.insert(dot, (key, number));
        self.seen.twins += u64::from(!self.ops[op].dots.is_empty());
        self.ops[op].dots.insert(number);
        let (clock, expires) = (minted.clock, write.expires);
        let truth = &mut self.keys[key];
        truth.numbers.insert(dot, number);
        truth.minted.push(Minting { dot, op, removes: removes.clone(), clock, expires, durable: 0, hinted: 0 });
        let mut expected = before;
        expected.unite(&removes);
        expected.insert(number);
        self.check_knowledge(key, &minted.record, &expected, "a mint");
    }

    /// A replica merged a record into what it had.
    pub fn merged(&mut self, key: KeyNumber, before: Option<&Bytes>, incoming: &Bytes, after: Option<&Bytes>) {
        let Some(incoming) = self.understand(key, incoming) else {
            return self.broken(Invariant::I10, || format!("a record of key {key} that does not verify was merged"));
        };
        let mut expected = (*incoming).clone();
        if let Some(before) = before.and_then(|before| self.understand(key, before)) {
            expected.unite(&before);
        }
        match after {
            Some(after) => self.check_knowledge(key, after, &expected, "a merge"),
            None => self.broken(Invariant::I1, || format!("key {key} is gone after a merge")),
        }
    }

    /// A record is on a node's disk now.
    pub fn committed(&mut self, node: usize, key: KeyNumber, record: Option<&Bytes>) {
        let known = record.and_then(|record| self.understand(key, record)).unwrap_or_default();
        let held = Rc::clone(&self.keys[key].held[node]);
        for number in known.iter().filter(|number| !held.contains(*number)) {
            self.is_on_disk(key, number);
            self.keys[key].minted[number].durable |= 1 << node;
        }
        self.keys[key].held[node] = known;
        if record.is_none() {
            // It was handed over, or reaped: this node answers for nothing of it any more.
            self.keys[key].acknowledgements.iter_mut().for_each(|known| known.owners &= !(1 << node));
        }
    }

    /// A hint is on a node's disk now.
    pub fn hinted(&mut self, node: usize, key: KeyNumber, record: &Bytes) {
        let known = self.understand(key, record).unwrap_or_default();
        for number in known.iter() {
            self.is_on_disk(key, number);
            self.keys[key].minted[number].hinted |= 1 << node;
        }
    }

    /// A hint is gone: its target must have had all of it on disk, or one of the other owners if those were changed.
    pub fn dropped(&mut self, key: KeyNumber, record: &Bytes, target: usize) {
        let known = self.understand(key, record).unwrap_or_default();
        let holders = self.keys[key].ownership.holders();
        // Where owners change, hints go to the new ones.
        let mask = match self.keys[key].ownership.has_changed() {
            false => 1 << target,
            true => holders.iter().fold(1 << target, |mask, holder| mask | 1 << holder),
        };
        let is_missing = |number: &usize| self.keys[key].minted[*number].durable & mask == 0;
        if let Some(number) = known.iter().find(is_missing) {
            let text = self.text(self.keys[key].minted[number].op);
            self.broken(Invariant::I1, || format!("a hint for n{target} was deleted, which never had {text}"));
        }
    }

    /// Whether all that a hint knows stands in sound records of owners.
    pub fn is_held(&mut self, key: KeyNumber, record: &Bytes, is_sound: impl Fn(usize) -> bool) -> bool {
        let known = self.understand(key, record).unwrap_or_default();
        let truth = &self.keys[key];
        let owners: Vec<usize> = truth.ownership.holders().into_iter().filter(|&owner| is_sound(owner)).collect();
        known.iter().all(|number| owners.iter().any(|&owner| truth.held[owner].contains(number)))
    }

    /// A node's record was destroyed, in a way that the node notices.
    pub fn destroyed(&mut self, node: usize, key: KeyNumber) {
        self.unfence(node, key);
        self.keys[key].held[node] = Rc::default();
        self.keys[key].acknowledgements.iter_mut().for_each(|known| known.owners &= !(1 << node));
    }

    /// Whether something acknowledged stood in a record that was damaged, and is in none any more of those who count.
    pub fn is_beyond_repair(&self, key: KeyNumber, counts: impl Fn(usize) -> bool) -> bool {
        let truth = &self.keys[key];
        truth.writes.iter().any(|op| {
            let Written { dots, acknowledged, .. } = &self.ops[*op];
            let is_held = (0..truth.held.len()).any(|node| counts(node) && truth.held[node].meets(dots));
            *acknowledged && !is_held && !truth.abandoned.meets(dots) && truth.ownership.was_damaged(dots)
        })
    }

    /// Whether a node's record may be destroyed: whatever was acknowledged or still may be is held by another owner whose record
    /// is sound. Then every loss is a bug.
    pub fn may_destroy(&self, node: usize, key: KeyNumber, is_sound: impl Fn(usize) -> bool) -> bool {
        let truth = &self.keys[key];
        let holders = truth.ownership.holders();
        let others: Vec<usize> = holders.into_iter().filter(|&owner| owner != node && is_sound(owner)).collect();
        let is_elsewhere = |number: usize| {
            let Written { dots, standing, acknowledged, .. } = &self.ops[truth.minted[number].op];
            // What failed for its client, and may be stored or not, may be lost as well.
            if *standing == Standing::Unclear && !acknowledged {
                return true;
            }
            others.iter().any(|&owner| truth.held[owner].meets(dots))
        };
        truth.held[node].iter().all(is_elsewhere)
    }

    /// What a node's record knows.
    pub fn held(&self, node: usize, key: KeyNumber) -> &Dots {
        &self.keys[key].held[node]
    }

    /// An operator removed a key for good, everywhere: what it held may never be seen again.
    pub fn reaped(&mut self, key: KeyNumber, record: &Bytes) {
        let Some(known) = self.understand(key, record) else { return };
        let Expected { must, may, gone } = self.expected(key, &known);
        let truth = &mut self.keys[key];
        truth.forgotten.unite(&known);
        // Its tombstones may still be met until every owner has removed it; what they replaced may not.
        truth.reaped.unite(&gone);
        truth.reaped.subtract(&must);
        truth.reaped.subtract(&may);
    }

    /// Whether a reader would be shown nothing of a record, whatever the time.
    pub fn is_deleted(&mut self, key: KeyNumber, record: &Bytes) -> bool {
        let address = &self.keys[key].address;
        record::decode_of(address, record).is_ok_and(|object| object.live().next().is_none())
    }

    fn is_on_disk(&mut self, key: KeyNumber, number: usize) {
        let op = self.keys[key].minted[number].op;
        if self.ops[op].standing == Standing::Denied {
            let text = self.text(op);
            self.broken(Invariant::I2, || {
                format!("{text} reached a disk after its client was told it was not applied")
            });
        }
    }

    /// The dots a write is entitled to replace.
    fn removes(&mut self, op: OpNumber, key: KeyNumber, write: &Write, before: &Dots) -> Dots {
        match self.ops[op].entitled.clone() {
            Entitled::Local => before.clone(),
            Entitled::Nothing => Dots::default(),
            Entitled::Context(token) => match self.keys[key].tokens.get(&token) {
                Some(known) => (**known).clone(),
                None => {
                    let text = self.text(op);
                    self.broken(Invariant::I6, || {
                        format!("{text} was minted under a context never given out for its key")
                    });
                    Dots::default()
                }
            },
            Entitled::Found => {
                let nothing = TokenContent::default();
                let seen = match &write.basis {
                    MintBasis::Context(seen) => seen,
                    // The retry of a delete that somebody has overwritten since deletes nothing.
                    MintBasis::Local | MintBasis::Beside => &nothing,
                };
                let found = self.claims(key, &seen.context, "the basis of a delete");
                let is_retry = matches!(write.basis, MintBasis::Beside) && !self.ops[op].dots.is_empty();
                if !is_retry {
                    self.check_delete(op, &found);
                }
                found
            }
        }
    }

    /// A delete without a context covers what was acknowledged before it began, as a read at its level would.
    fn check_delete(&mut self, op: OpNumber, found: &Dots) {
        let (key, began_us, demand) = (self.ops[op].key, self.ops[op].began_us, self.ops[op].demand);
        let missed = self.keys[key].acknowledgements.iter().find(|known| {
            let dots = &self.ops[known.op].dots;
            // What it has read of whom can't be told here: it may have been a read that is held to nothing.
            !self.keys[key].was_bereft
                && !self.keys[key].forgotten.meets(dots)
                && known.at_us < began_us
                && self.keys[key].ownership.must_meet(&known.demand, &demand)
                && !found.meets(&self.ops[known.op].dots)
        });
        if let Some(missed) = missed.copied() {
            let (text, other) = (self.text(op), self.text(missed.op));
            self.broken(Invariant::I3, || format!("{text} does not cover {other}, which was acknowledged before"));
        }
    }

    pub(super) fn check_knowledge(&mut self, key: KeyNumber, record: &Bytes, expected: &Dots, what: &str) {
        let Some(known) = self.understand(key, record) else {
            return self.broken(Invariant::I10, || format!("{what} of key {key} made a record that does not verify"));
        };
        if let Some(number) = expected.iter().find(|number| !known.contains(*number)) {
            let text = self.text(self.keys[key].minted[number].op);
            self.broken(Invariant::I1, || format!("{what} forgot {text}"));
        }
        if let Some(number) = known.iter().find(|number| !expected.contains(*number)) {
            let text = self.text(self.keys[key].minted[number].op);
            self.broken(Invariant::I6, || format!("{what} claims {text}, which its replica never had"));
        }
    }
}
