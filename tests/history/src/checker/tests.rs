//! The checker against histories that are right, made by a register that can't do wrong, and against the same ones with one
//! thing changed: a checker that accepts everything would be worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::{Basis, Event, Kind, Report, Rules, Stage, ViolationKind, check, parse, print};

const RULES: Rules = Rules { replicas: 3, bytes_equal: true };

/// A store that does everything at once and never wrong, and writes down what it is asked.
#[derive(Default)]
struct Register {
    history: Vec<Event>,
    now: u64,
    next_id: u64,
    live: BTreeMap<String, BTreeSet<u64>>,
    /// The context each process was given last for each key, and what it had shown.
    contexts: BTreeMap<(u32, String), (String, BTreeSet<u64>)>,
}

/// What a process does next, as numbers that mean something only here.
#[derive(Clone, Debug)]
struct Step {
    process: u32,
    key: u8,
    what: u8,
    outcome: u8,
}

impl Register {
    fn event(&mut self, process: u32, op: Kind, key: &str, stage: Stage) -> Event {
        self.now += 10;
        Event { strict: true, ..Event::new(self.now, process, op, key, stage) }
    }

    fn read(&mut self, process: u32, key: &str) {
        let invoke = self.event(process, Kind::Get, key, Stage::Invoke);
        let mut ok = self.event(process, Kind::Get, key, Stage::Ok);
        let values = self.live.entry(key.to_owned()).or_default().clone();
        let context = format!("{key} {values:?} at {}", self.now);
        ok.values = values.iter().copied().collect();
        ok.context = Some(context.clone());
        self.contexts.insert((process, key.to_owned()), (context, values));
        self.history.extend([invoke, ok]);
    }

    fn write(&mut self, process: u32, op: Kind, key: &str, basis: Basis, outcome: Stage, is_done: bool) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let mut invoke = self.event(process, op, key, Stage::Invoke);
        (invoke.id, invoke.basis) = (Some(id), Some(basis.clone()));
        let mut ended = self.event(process, op, key, outcome);
        ended.id = Some(id);
        self.history.extend([invoke, ended]);
        if is_done {
            let live = self.live.entry(key.to_owned()).or_default();
            match basis {
                Basis::Beside => {}
                Basis::Local => live.clear(),
                Basis::Context(_) => {
                    let shown = &self.contexts[&(process, key.to_owned())].1;
                    live.retain(|one| !shown.contains(one));
                }
            }
            if op == Kind::Put {
                live.insert(id);
            }
        }
        id
    }

    fn step(&mut self, step: &Step, may_be_unclear: bool, may_be_blind: bool) {
        let key = format!("k{}", step.key);
        let (outcome, is_done) = match step.outcome {
            0 if may_be_unclear => (Stage::Unclear, true),
            1 if may_be_unclear => (Stage::Unclear, false),
            2 => (Stage::Fail, false),
            _ => (Stage::Ok, true),
        };
        let context =
            self.contexts.get(&(step.process, key.clone())).map(|(context, _)| Basis::Context(context.clone()));
        match (step.what, context) {
            (0..=2, _) => self.read(step.process, &key),
            (3, _) if may_be_blind => drop(self.write(step.process, Kind::Put, &key, Basis::Local, outcome, is_done)),
            (4, Some(context)) => drop(self.write(step.process, Kind::Delete, &key, context, outcome, is_done)),
            (5..=9, Some(context)) => drop(self.write(step.process, Kind::Put, &key, context, outcome, is_done)),
            (_, _) => drop(self.write(step.process, Kind::Put, &key, Basis::Beside, outcome, is_done)),
        }
    }

    fn finish(mut self) -> Vec<Event> {
        self.now += 10;
        for (key, values) in &self.live {
            for replica in 0..3 {
                let mut event = Event::new(self.now, replica, Kind::Get, key, Stage::Final);
                event.values = values.iter().copied().collect();
                event.context = Some(format!("{values:?}"));
                self.history.push(event);
            }
        }
        self.history
    }
}

fn history(steps: &[Step], may_be_unclear: bool, may_be_blind: bool) -> Vec<Event> {
    let mut register = Register::default();
    steps.iter().for_each(|step| register.step(step, may_be_unclear, may_be_blind));
    register.finish()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3_u32, 0..3_u8, 0..12_u8, 0..12_u8);
    prop::collection::vec(step.prop_map(|(process, key, what, outcome)| Step { process, key, what, outcome }), 20..120)
}

fn kinds(report: &Report) -> BTreeSet<ViolationKind> {
    report.violations.iter().map(|violation| violation.kind).collect()
}

/// A history in which one process puts 1, replaces it by 2 under the context of a read, and another one adds 3.
fn small() -> Register {
    let mut register = Register::default();
    register.write(0, Kind::Put, "k", Basis::Beside, Stage::Ok, true);
    register.read(0, "k");
    let context = Basis::Context(register.contexts[&(0, "k".to_owned())].0.clone());
    register.write(0, Kind::Put, "k", context, Stage::Ok, true);
    register.write(1, Kind::Put, "k", Basis::Beside, Stage::Ok, true);
    register.read(0, "k");
    register
}

/// The kinds of violation once `change` has been at the small history.
fn changed(change: impl FnOnce(&mut Vec<Event>)) -> BTreeSet<ViolationKind> {
    let mut history = small().finish();
    assert!(check(&history, &RULES).is_clean(), "{}", check(&history, &RULES));
    change(&mut history);
    kinds(&check(&history, &RULES))
}

fn finals(history: &mut [Event]) -> impl Iterator<Item = &mut Event> {
    history.iter_mut().filter(|event| event.stage == Stage::Final)
}

fn last_read(history: &mut [Event]) -> &mut Event {
    history.iter_mut().rfind(|event| event.op == Kind::Get && event.stage == Stage::Ok).expect("it reads")
}

#[test]
fn a_lost_write_is_found() {
    assert_eq!(
        changed(|history| finals(history).for_each(|it| it.values.retain(|id| *id != 3))),
        [ViolationKind::Lost].into()
    );
    assert_eq!(changed(|history| finals(history).for_each(|it| it.values.clear())), [ViolationKind::Lost].into());
}

#[test]
fn an_invented_value_is_found() {
    assert_eq!(changed(|history| finals(history).for_each(|it| it.values.push(77))), [ViolationKind::Invented].into());
    assert!(changed(|history| last_read(history).values.push(77)).contains(&ViolationKind::Invented));
}

#[test]
fn a_value_of_a_refused_write_is_an_invention() {
    let mut register = small();
    register.write(1, Kind::Put, "k", Basis::Beside, Stage::Fail, true);
    assert_eq!(kinds(&check(&register.finish(), &RULES)), [ViolationKind::Invented].into());
}

#[test]
fn a_replaced_value_that_returns_is_found() {
    assert_eq!(
        changed(|history| finals(history).for_each(|it| it.values.insert(0, 1))),
        [ViolationKind::Returned].into()
    );
    assert_eq!(changed(|history| last_read(history).values.push(1)), [ViolationKind::Returned].into());
}

#[test]
fn a_deleted_value_that_returns_is_found() {
    let mut register = small();
    let context = Basis::Context(register.contexts[&(0, "k".to_owned())].0.clone());
    register.write(0, Kind::Delete, "k", context, Stage::Ok, true);
    let mut history = register.finish();
    assert!(check(&history, &RULES).is_clean());
    finals(&mut history).for_each(|it| it.values.push(2));
    assert_eq!(kinds(&check(&history, &RULES)), [ViolationKind::Returned].into());
}

#[test]
fn a_strict_read_that_misses_a_write_is_found() {
    assert_eq!(
        changed(|history| last_read(history).values.retain(|id| *id != 2)),
        [ViolationKind::OwnWriteMissed].into()
    );
    assert_eq!(changed(|history| last_read(history).values.retain(|id| *id != 3)), [ViolationKind::WriteMissed].into());
    // A read at a level that promises nothing may miss it.
    let missed_at_one = changed(|history| {
        history
            .iter_mut()
            .filter(|event| event.op == Kind::Get && event.stage != Stage::Final)
            .for_each(|it| it.strict = false);
        last_read(history).values.clear();
    });
    assert!(missed_at_one.is_empty());
}

#[test]
fn replicas_that_differ_are_found() {
    let differs =
        |change: fn(&mut Event)| changed(|history| change(finals(history).next().expect("there are replicas")));
    assert_eq!(differs(|it| it.values.retain(|id| *id != 3)), [ViolationKind::Diverged].into());
    assert_eq!(differs(|it| it.context = Some("other bytes".into())), [ViolationKind::Diverged].into());
}

#[test]
fn a_key_that_nobody_looked_at_is_found() {
    assert_eq!(changed(|history| history.retain(|it| it.stage != Stage::Final)), [ViolationKind::NotLookedAt].into());
    let without_one = changed(|history| history.retain(|it| it.stage != Stage::Final || it.process != 1));
    assert_eq!(without_one, [ViolationKind::NotLookedAt].into());
}

#[test]
fn histories_that_cannot_be_are_found() {
    let twice = changed(|history| history.iter_mut().for_each(|it| it.id = it.id.map(|_| 1)));
    assert!(twice.contains(&ViolationKind::Malformed));
    let unasked = changed(|history| drop(history.remove(0)));
    assert!(unasked.contains(&ViolationKind::Malformed));
    let unknown_context = changed(|history| {
        history.iter_mut().filter(|it| it.stage == Stage::Ok).for_each(|it| it.context = None);
    });
    assert!(unknown_context.contains(&ViolationKind::Malformed));
}

#[test]
fn an_unclear_write_may_be_there_or_not_and_replaces_what_it_saw_only_if_it_is_there() {
    for is_done in [true, false] {
        let mut register = small();
        let context = Basis::Context(register.contexts[&(0, "k".to_owned())].0.clone());
        let id = register.write(0, Kind::Put, "k", context, Stage::Unclear, is_done);
        let mut history = register.finish();
        assert!(check(&history, &RULES).is_clean(), "{}", check(&history, &RULES));
        // Once it is seen beside what it replaced, something is wrong.
        finals(&mut history).for_each(|it| it.values = vec![2, 3, id]);
        assert_eq!(kinds(&check(&history, &RULES)), [ViolationKind::Returned].into());
    }
}

#[test]
fn a_history_survives_its_text() {
    let history = small().finish();
    assert_eq!(parse(&print(&history)).unwrap(), history);
    assert_eq!(parse("{}\n").unwrap_err().line, 1);
}

proptest! {
    #[test]
    fn what_a_perfect_register_does_is_accepted(steps in steps()) {
        let report = check(&history(&steps, true, true), &RULES);
        prop_assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn whatever_acknowledged_value_is_taken_away_is_missed(steps in steps(), which in any::<prop::sample::Index>()) {
        let mut history = history(&steps, false, false);
        let there: Vec<(String, u64)> = finals(&mut history)
            .flat_map(|it| it.values.iter().map(|id| (it.key.clone(), *id)).collect::<Vec<_>>()).collect();
        prop_assume!(!there.is_empty());
        let (key, id) = which.get(&there).clone();
        finals(&mut history).filter(|it| it.key == key).for_each(|it| it.values.retain(|one| *one != id));
        prop_assert!(kinds(&check(&history, &RULES)).contains(&ViolationKind::Lost));
    }

    #[test]
    fn whatever_replaced_value_comes_back_is_noticed(steps in steps(), which in any::<prop::sample::Index>()) {
        let mut history = history(&steps, false, false);
        let there: BTreeSet<u64> = finals(&mut history).flat_map(|it| it.values.clone()).collect();
        let written = |it: &&Event| it.op == Kind::Put && it.stage == Stage::Ok && it.id.is_some_and(|id| !there.contains(&id));
        let replaced: Vec<(String, u64)> =
            history.iter().filter(written).filter_map(|it| Some((it.key.clone(), it.id?))).collect();
        prop_assume!(!replaced.is_empty());
        let (key, id) = which.get(&replaced).clone();
        finals(&mut history).filter(|it| it.key == key).for_each(|it| it.values.push(id));
        prop_assert!(kinds(&check(&history, &RULES)).contains(&ViolationKind::Returned));
    }
}
