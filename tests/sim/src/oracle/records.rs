//! What a record must hold: looked at once, when its bytes are first seen.

use std::{collections::BTreeSet, rc::Rc};

use bytes::Bytes;
use dynamo::{
    record,
    version::{CausalContext, Dot, Object, SPENT_MAX, Version},
};

use super::{Dots, KeyNumber, OpNumber, Oracle};
use crate::invariant::Invariant;

/// What is entitled to stand among some dots.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// These stand.
    pub(super) must: Dots,
    /// These are twins of something that was replaced: they may have been dropped, or not yet.
    pub(super) may: Dots,
    /// These were replaced.
    pub(super) gone: Dots,
}

impl Oracle {
    /// What a record of this key knows, judged when its bytes are new. `None` if they do not verify.
    pub fn understand(&mut self, key: KeyNumber, bytes: &Bytes) -> Option<Rc<Dots>> {
        let truth = &self.keys[key];
        let digest = record::verify(&truth.address.store_key, bytes).ok()?;
        if let Some(known) = truth.records.get(&digest) {
            return Some(Rc::clone(known));
        }
        let object = match record::decode_of(&truth.address, bytes) {
            Ok(object) => object,
            Err(error) => {
                self.broken(Invariant::I2, || format!("a record of key {key} verifies and can't be read: {error:?}"));
                return None;
            }
        };
        let known = Rc::new(self.claims(key, &object.context, "a record"));
        self.check_versions(key, &object, &known);
        self.seen.records += 1;
        self.keys[key].records.insert(digest, Rc::clone(&known));
        Some(known)
    }

    /// The dots below a context. Every entry must name a dot that was minted for this key, or it claims something nobody made.
    pub(super) fn claims(&mut self, key: KeyNumber, context: &CausalContext, whose: &str) -> Dots {
        let mut unknown = None;
        let truth = &mut self.keys[key];
        for (actor, seq) in context.iter() {
            let claimed = truth.claimed.entry(actor).or_insert(0);
            *claimed = (*claimed).max(seq);
            if !truth.numbers.contains_key(&Dot { actor, seq }) {
                unknown = Some((actor, seq));
            }
        }
        let below = truth.minted.iter().enumerate().filter(|(_, minting)| context.covers(minting.dot));
        let dots = below.map(|(number, _)| number).collect();
        if let Some(claim) = unknown {
            self.broken(Invariant::I6, || format!("{whose} of key {key} claims {claim:?}, which is no dot of it"));
        }
        dots
    }

    /// What stands among these dots.
    pub(super) fn expected(&self, key: KeyNumber, known: &Dots) -> Expected {
        let truth = &self.keys[key];
        let mut gone = truth.reaped.clone();
        known.iter().for_each(|number| gone.unite(&truth.minted[number].removes));
        let mut must = known.clone();
        must.subtract(&gone);
        let mut may = Dots::default();
        for number in must.clone().iter() {
            let op = truth.minted[number].op;
            if self.ops[op].dots.iter().nth(1).is_none() {
                continue;
            }
            let is_other = |by: &usize| truth.minted[*by].op != op;
            if known.iter().filter(is_other).any(|by| truth.minted[by].removes.meets(&self.ops[op].dots)) {
                may.insert(number);
            }
        }
        must.subtract(&may);
        Expected { must, may, gone }
    }

    fn check_versions(&mut self, key: KeyNumber, object: &Object, known: &Dots) {
        let mut stands = Dots::default();
        for version in &object.versions {
            if let Some(number) = self.check_origin(key, version) {
                stands.insert(number);
            }
        }
        if !known.includes(&stands) {
            self.broken(Invariant::I4, || format!("a record of key {key} holds versions above its own context"));
        }
        let expected = self.expected(key, known);
        let returned = stands.iter().find(|number| expected.gone.contains(*number));
        let missing = expected.must.iter().find(|number| !stands.contains(*number));
        let describe = |oracle: &Self, number: usize| oracle.text(oracle.keys[key].minted[number].op);
        if let Some(number) = returned {
            let text = describe(self, number);
            self.broken(Invariant::I3, || format!("{text} was replaced, and stands in a record that knows it"));
        }
        if let Some(number) = missing {
            let text = describe(self, number);
            self.broken(Invariant::I4, || format!("{text} is missing from a record that knows it and nothing newer"));
        }
    }

    /// A version must be what was minted under its dot.
    fn check_origin(&mut self, key: KeyNumber, version: &Version) -> Option<usize> {
        let truth = &self.keys[key];
        let number = truth.numbers.get(&version.dot).copied();
        let is_sound = number.is_some_and(|number| {
            let minting = &truth.minted[number];
            let op = &self.ops[minting.op];
            op.value.as_ref() == version.content.bytes()
                && (minting.clock, minting.expires) == (version.clock, version.expires)
        });
        if !is_sound {
            self.broken(Invariant::I2, || format!("a record of key {key} holds {version:?}, which nobody minted so"));
        }
        number
    }

    /// After all owners were brought level: what one of them knows to be replaced, all do, and no twin of it may stand any more. Before
    /// that a context may bring the news that an operation was replaced to a replica that does not know its twin for one.
    pub fn check_twins(&mut self, key: KeyNumber, record: &Bytes) {
        let Some(known) = self.understand(key, record) else { return };
        let Ok(object) = record::decode_of(&self.keys[key].address, record) else { return };
        let may = self.expected(key, &known).may;
        let stands = object.versions.iter().filter_map(|version| self.keys[key].numbers.get(&version.dot).copied());
        let twin =
            stands.filter(|number| may.contains(*number)).find(|number| self.must_be_spent(key, &known, *number));
        if let Some(number) = twin {
            let text = self.text(self.keys[key].minted[number].op);
            self.broken(Invariant::I3, || format!("{text} was replaced, and a twin of it stands at the end"));
        }
    }

    /// Whether a twin can't be there any more: its operation was replaced while it stood, and so few were that nobody may have
    /// forgotten.
    fn must_be_spent(&self, key: KeyNumber, known: &Dots, number: usize) -> bool {
        let truth = &self.keys[key];
        let op = truth.minted[number].op;
        let mut replaced: BTreeSet<OpNumber> = BTreeSet::new();
        let mut while_standing = false;
        for by in known.iter() {
            let removes = &truth.minted[by].removes;
            replaced.extend(removes.iter().map(|removed| truth.minted[removed].op));
            if truth.minted[by].op == op {
                continue;
            }
            let mut stood = removes.clone();
            removes.iter().for_each(|removed| stood.subtract(&truth.minted[removed].removes));
            while_standing |= stood.meets(&self.ops[op].dots);
        }
        while_standing && replaced.len() <= SPENT_MAX
    }
}
