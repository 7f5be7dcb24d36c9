//! One coordinator among replicas whose views move while it works. The replicas keep the rule of the design and nothing else: a view that
//! is older at either end is refused, a newer one is adopted first. Everything may be late, lost or out of order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dynamo::{
    coordinator::{CallId, Coordinator, CoordinatorConfig, Effect, ForwardFailed, Input, PeerCall, RequestId},
    hint::HintOperation,
    ident::{OpId, StoreKey},
    layout::{Level, NodeIndex, View},
    operation::{Action, Address, Basis, Consistency, ErrorCode, Failure, Operation, Outcome, Receipt, Reply},
    peer::{PeerAction, PeerOperation, PeerResult},
    replica::{Minted, WriteOperation, WriteOutcome},
    tick::Tick,
    token::TokenKey,
    version::{Actor, Dot},
};

use crate::{
    judging::Asked,
    layouts::{Chain, NODES},
    random::Random,
    sometimes::Sometimes,
};

const OPERATIONS_MAX: u64 = 12;
const BUDGET_MS: u64 = 1_000;

/// What a replica durably knows.
#[derive(Clone, Copy)]
struct Row {
    /// The newest layout it has.
    epoch: u64,
    lo: u64,
    hi: u64,
}

/// What is on its way.
enum Letter {
    /// To a replica; whether it wants an answer.
    Ask { to: u16, call: Option<CallId>, operation: PeerOperation },
    /// To this node's own replica: a write.
    Write { call: Option<CallId>, operation: WriteOperation },
    /// To this node's own hints.
    Hint { call: Option<CallId>, operation: HintOperation },
    /// To a node that is to do the whole operation.
    Forward { call: CallId, to: u16 },
    /// Back to the coordinator, about an operation; whether it was a write that was certainly not done.
    Back { request: u64, call: CallId, input: Input, is_refused: bool },
}

pub(crate) struct World {
    random: Random,
    chain: Chain,
    me: Option<u16>,
    known: u64,
    coordinator: Coordinator,
    rows: Vec<Row>,
    now: Tick,
    letters: Vec<Letter>,
    asked: BTreeMap<u64, Asked>,
    keys: BTreeMap<StoreKey, u64>,
    begun: u64,
    pub(crate) sometimes: Sometimes,
}

/// Plays one schedule to its end.
pub(crate) fn run(seed: u64) -> Result<Sometimes, String> {
    let mut world = World::new(seed);
    for _ in 0..300 {
        world.step()?;
    }
    world.now = world.now.after(2 * BUDGET_MS);
    world.input(Input::Deadline)?;
    if world.coordinator.in_flight() > 0 || !world.asked.is_empty() {
        return Err(format!("{} operations never ended", world.asked.len()));
    }
    let counters = world.coordinator.counters();
    world.sometimes.parked = counters.parked;
    world.sometimes.renewed = counters.renewals;
    world.sometimes.forwarded = counters.forwarded;
    world.sometimes.stood_in = counters.stood_in;
    Ok(world.sometimes)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let chain = Chain::new(&mut random);
        let me = (!random.chance(60)).then(|| random.below(usize::from(NODES)) as u16);
        let me = me.map(|me| if random.chance(700) { *chain.configurations[&1].first().unwrap_or(&me) } else { me });
        let config = CoordinatorConfig {
            hedge_after_ms: if random.chance(300) { 20 } else { 0 },
            ..CoordinatorConfig::new(me.map(NodeIndex), chain.ring(1), TokenKey([1; 32]))
        };
        Self {
            rows: vec![Row { epoch: 1, lo: 1, hi: 1 }; usize::from(NODES)],
            random,
            chain,
            me,
            known: 1,
            coordinator: Coordinator::new(config),
            now: Tick(1_000),
            letters: Vec::new(),
            asked: BTreeMap::new(),
            keys: BTreeMap::new(),
            begun: 0,
            sometimes: Sometimes::default(),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now = self.now.after(self.random.below(3) as u64);
        if self.coordinator.next_deadline().is_some_and(|due| due <= self.now) {
            self.input(Input::Deadline)?;
        }
        match self.random.below(100) {
            0..12 if self.begun < OPERATIONS_MAX => self.ask(),
            0..76 => self.deliver(),
            76..88 => self.raise(),
            88..94 if self.known < self.chain.newest() => self.learn(),
            94..97 => self.input_of_own_row(),
            97..99 => {
                let (node, reachable) = (NodeIndex(self.random.below(8) as u16), self.random.chance(700));
                self.input(Input::PeerState { node, reachable })
            }
            _ => Ok(()),
        }
    }

    /// A replica comes to know more: of a new configuration, or that old ones are retired.
    fn raise(&mut self) -> Result<(), String> {
        let at = self.random.below(self.rows.len());
        let newest = self.chain.newest();
        let row = &mut self.rows[at];
        row.epoch = row.epoch.max(1 + self.random.below(newest as usize) as u64);
        let names = self.chain.names(row.hi, self.chain.name(row.epoch));
        if let Some(last) = names.len().checked_sub(1) {
            row.hi = names[self.random.below(last + 1)];
        }
        let names = self.chain.names(row.lo, row.hi);
        let least = names.len().saturating_sub(4);
        if least > 0 || self.random.chance(300) {
            row.lo = names[least + self.random.below(names.len() - least)];
        }
        Ok(())
    }

    fn input_of_own_row(&mut self) -> Result<(), String> {
        let Some(me) = self.me else { return Ok(()) };
        let row = self.rows[usize::from(me)];
        let bits = self.chain.layout(row.epoch).partition_bits;
        let views = (0..1 << (bits - 1)).map(|prefix| View { prefix, bits, lo: row.lo, hi: row.hi });
        views.collect::<Vec<_>>().into_iter().try_for_each(|view| self.input(Input::View { view }))
    }

    /// The coordinator's ring gets one layout more, or several.
    fn learn(&mut self) -> Result<(), String> {
        self.known += 1 + self.random.below((self.chain.newest() - self.known) as usize) as u64;
        let (ring, mut effects) = (self.chain.ring(self.known), Vec::new());
        self.coordinator.set_ring(self.now, self.me.map(NodeIndex), ring, &mut effects);
        self.see_to(effects)
    }

    fn ask(&mut self) -> Result<(), String> {
        self.begun += 1;
        // Only keys of the half that moves.
        let address =
            (0..).map(|at| Address::new(Bytes::from_static(b"b"), Bytes::from(format!("{}-{at}", self.begun))));
        let address =
            address.into_iter().find(|address| address.store_key.id().prefix(1) == 0).expect("every other is");
        let sequence = if self.random.chance(900) { self.begun } else { 0 };
        let op_id = OpId { client: sequence.min(1), sequence };
        let value = Bytes::from_static(b"v");
        let action = match self.random.below(5) {
            0 | 1 => Action::Get { without_values: false },
            2 | 3 => Action::Put { value, hash: None, basis: Basis::Local, op_id, seen_clock: 0, ttl_ms: 0 },
            _ => Action::Delete { basis: Basis::Local, op_id, seen_clock: 0 },
        };
        let level = *self.random.pick(&[Level::One, Level::Quorum, Level::Quorum, Level::All, Level::Available]);
        let replicas = self.chain.layout(self.known).replicas;
        let in_use = if self.random.chance(150) { 1 + self.random.below(usize::from(replicas)) as u8 } else { 0 };
        let hops = u8::from(self.random.chance(250));
        let asked = Asked {
            level,
            in_use,
            replicas,
            action: action.clone(),
            hops,
            epoch: self.known,
            read: BTreeMap::new(),
            written: BTreeMap::new(),
            unrefused: 0,
            is_forwarded: false,
            views: BTreeSet::new(),
        };
        self.asked.insert(self.begun, asked);
        self.keys.insert(address.store_key, self.begun);
        let consistency = Consistency { level: Some(level), n: in_use, ..Consistency::default() };
        let (request, deadline) = (RequestId(self.begun), self.now.after(BUDGET_MS));
        let operation = Operation { address, consistency, action };
        self.input(Input::Client { request, operation, hops, deadline, now_wall_ms: 1_700_000_000_000 })
    }

    fn input(&mut self, input: Input) -> Result<(), String> {
        let mut effects = Vec::new();
        self.coordinator.step(self.now, input, &mut effects);
        self.see_to(effects)
    }

    fn see_to(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        for effect in effects {
            match effect {
                Effect::LocalRead { call, operation } => {
                    let to = self.me.ok_or("a node without a place reads its own replica")?;
                    self.letters.push(Letter::Ask { to, call: Some(call), operation });
                }
                Effect::LocalWrite { call, operation } => {
                    self.sent(call, operation.store_key());
                    self.letters.push(Letter::Write { call, operation });
                }
                Effect::LocalHint { call, operation } => {
                    self.sent(call, *operation.store_key());
                    self.letters.push(Letter::Hint { call, operation });
                }
                Effect::Peer { to, call, operation } => {
                    if Some(to.0) == self.me {
                        return Err("it is its own peer".into());
                    }
                    if !matches!(operation.action, PeerAction::Read | PeerAction::Digest | PeerAction::ReadHint) {
                        self.sent(call, operation.store_key);
                    }
                    self.letters.push(Letter::Ask { to: to.0, call, operation });
                }
                Effect::Forward { call, to, operation, .. } => {
                    let request = self.keys[&operation.address.store_key];
                    let asked = self.asked.get_mut(&request).ok_or("it forwards what has ended")?;
                    if asked.hops > 0 || Some(to.0) == self.me {
                        return Err(format!("it forwards {request} to {to:?} after {} hops", asked.hops));
                    }
                    asked.is_forwarded = true;
                    self.letters.push(Letter::Forward { call, to: to.0 });
                }
                Effect::WantLayout { epoch } if epoch <= self.known || epoch > self.chain.newest() => {
                    return Err(format!("it wants the layout of epoch {epoch}, knowing {}", self.known));
                }
                Effect::WantLayout { .. } => {}
                Effect::Reply { request, reply } => self.judge(request.0, &reply)?,
            }
        }
        Ok(())
    }

    /// A write left the coordinator, which waits for its answer.
    fn sent(&mut self, call: Option<CallId>, key: StoreKey) {
        if let Some(asked) = self.asked.get_mut(&self.keys[&key]).filter(|_| call.is_some()) {
            asked.unrefused += 1;
        }
    }

    fn judge(&mut self, request: u64, reply: &Reply) -> Result<(), String> {
        let asked = self.asked.remove(&request).ok_or_else(|| format!("{request} is answered twice"))?;
        let why = |why| format!("operation {request}: {why}");
        let view = asked.judge(reply, &self.chain, self.known).map_err(why)?;
        self.sometimes.failed += u64::from(matches!(reply.outcome, Outcome::Failed(_)));
        if let Some(view) = view {
            let names = self.chain.names(view.lo, view.hi);
            let sizes: BTreeSet<usize> = names.iter().map(|name| self.chain.configurations[name].len()).collect();
            let lost = self.chain.lost(self.known);
            let has_lost = names.iter().any(|name| !self.chain.configurations[name].is_disjoint(&lost));
            let met = &mut self.sometimes;
            met.succeeded += 1;
            met.succeeded_in_several_configurations += u64::from(names.len() > 1);
            met.succeeded_after_starting_again += u64::from(asked.views.len() > 1);
            met.succeeded_without_the_lost += u64::from(has_lost);
            met.succeeded_after_a_doubling += u64::from(asked.views.iter().any(|other| other.bits < view.bits));
            met.succeeded_across_a_change_of_n += u64::from(sizes.len() > 1);
        }
        Ok(())
    }

    /// One letter arrives, or is lost.
    fn deliver(&mut self) -> Result<(), String> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.letters.len());
        match self.letters.swap_remove(at) {
            Letter::Back { request, call, input, is_refused } => {
                // An answer to what was asked under a view before finds nobody, so nobody learns of the refusal.
                let is_heard = self.coordinator.deadline(call).is_some();
                if let Some(asked) = self.asked.get_mut(&request).filter(|_| is_refused && is_heard) {
                    asked.unrefused -= 1;
                }
                self.input(input)
            }
            Letter::Ask { to, call, operation } => {
                self.answer(to, call, &operation);
                Ok(())
            }
            Letter::Write { call, operation } => self.write(call, &operation),
            Letter::Hint { call, operation } => {
                let request = self.keys[operation.store_key()];
                let outcome = match operation {
                    HintOperation::Mint { .. } => WriteOutcome::Minted(minted()),
                    HintOperation::Keep { .. } | HintOperation::Drop { .. } => WriteOutcome::Stored,
                };
                self.letters.extend(call.map(|call| {
                    let input = Input::LocalWrite { call, outcome };
                    Letter::Back { request, call, input, is_refused: false }
                }));
                Ok(())
            }
            Letter::Forward { call, to } => {
                let owner = NodeIndex(self.random.below(usize::from(NODES)) as u16);
                let (code, owners) = (ErrorCode::StaleView, vec![owner, NodeIndex(to)]);
                let refusal = Failure { owners, ..Failure::new(code, "not mine") };
                let outcome = match self.random.below(3) {
                    0 => Outcome::Failed(refusal),
                    _ => Outcome::Stored { context: None, siblings: 1, clock: 1 },
                };
                let epoch = self.chain.newest();
                let reply = Reply { outcome, receipt: Receipt { epoch, ..Receipt::default() } };
                let result = if self.random.chance(200) {
                    Err(ForwardFailed { sent: self.random.chance(500) })
                } else {
                    Ok(reply)
                };
                self.input(Input::Forwarded { call, result })
            }
        }
    }

    /// A replica answers under its row, or the network does not deliver.
    fn answer(&mut self, to: u16, call: Option<CallId>, operation: &PeerOperation) {
        let request = self.keys[&operation.store_key];
        let is_local = Some(to) == self.me;
        let result = if !is_local && self.random.chance(60) {
            if self.random.chance(500) { PeerCall::Lost } else { PeerCall::NotSent }
        } else {
            PeerCall::Answered(self.serve(to, request, operation))
        };
        let is_write = matches!(operation.action, PeerAction::Merge(_) | PeerAction::Hint { .. });
        let is_refused = is_write && matches!(result, PeerCall::NotSent | PeerCall::Answered(PeerResult::Stale(_)));
        self.letters.extend(call.map(|call| {
            let input = match result {
                PeerCall::Answered(result) if is_local => Input::LocalRead { call, result },
                result => Input::Peer { call, result },
            };
            Letter::Back { request, call, input, is_refused }
        }));
    }

    fn serve(&mut self, to: u16, request: u64, operation: &PeerOperation) -> PeerResult {
        match operation.action {
            PeerAction::ReadHint => return PeerResult::Absent,
            PeerAction::Hint { .. } => return PeerResult::Stored,
            PeerAction::Read | PeerAction::Digest | PeerAction::Merge(_) => {}
        }
        if let Some(view) = self.compare(to, &operation.view, &operation.store_key) {
            return PeerResult::Stale(view);
        }
        let (view, asked) = (operation.view, self.asked.get_mut(&request));
        match operation.action {
            PeerAction::Merge(_) => {
                asked.into_iter().for_each(|asked| note(&mut asked.written, view, to));
                PeerResult::Stored
            }
            PeerAction::Read => {
                asked.into_iter().for_each(|asked| note(&mut asked.read, view, to));
                PeerResult::Absent
            }
            PeerAction::Digest | PeerAction::ReadHint | PeerAction::Hint { .. } => PeerResult::Absent,
        }
    }

    /// This node's own replica writes; a mint may be told before it is committed.
    fn write(&mut self, call: Option<CallId>, operation: &WriteOperation) -> Result<(), String> {
        let me = self.me.ok_or("a node without a place writes to its own replica")?;
        let key = operation.store_key();
        let request = self.keys[&key];
        let (view, is_mint) = match operation {
            WriteOperation::Mint { view, .. } => (*view, true),
            WriteOperation::Merge { view, .. } => (*view, false),
            WriteOperation::Rebuild { .. } | WriteOperation::Reap { .. } | WriteOperation::Move(_) => {
                return Err(format!("no coordinator asks for {operation:?}"));
            }
        };
        let outcome = match self.compare(me, &view, &key) {
            Some(newer) => WriteOutcome::Stale(newer),
            None => {
                let asked = self.asked.get_mut(&request);
                asked.into_iter().for_each(|asked| note(&mut asked.written, view, me));
                if is_mint { WriteOutcome::Minted(minted()) } else { WriteOutcome::Stored }
            }
        };
        let is_told_early = matches!(outcome, WriteOutcome::Minted(_)) && self.random.chance(500);
        let is_refused = matches!(outcome, WriteOutcome::Stale(_));
        self.letters.extend(call.map(|call| {
            let input = Input::LocalWrite { call, outcome };
            Letter::Back { request, call, input, is_refused }
        }));
        match call.filter(|_| is_told_early) {
            Some(call) => self.input(Input::Minted { call, minted: minted() }),
            None => Ok(()),
        }
    }

    /// Compares an operation's view with a replica's row, which adopts what is newer. The row's view if that is newer at either end.
    fn compare(&mut self, at: u16, view: &View, key: &StoreKey) -> Option<View> {
        let row = &mut self.rows[usize::from(at)];
        let introduced = |bits: u8| (1..).find(|&epoch| self.chain.layout(epoch).partition_bits >= bits).unwrap_or(1);
        row.epoch = row.epoch.max(introduced(view.bits)).max(view.hi);
        let bits = self.chain.layout(row.epoch).partition_bits;
        if bits > view.bits || row.hi > view.hi || row.lo > view.lo {
            let prefix = key.id().prefix(bits);
            return Some(View { prefix, bits, lo: row.lo, hi: row.hi });
        }
        (row.lo, row.hi) = (view.lo, view.hi);
        if let Some(asked) = self.asked.get_mut(&self.keys[key]) {
            asked.views.insert(*view);
        }
        None
    }
}

fn note(done: &mut BTreeMap<View, BTreeSet<u16>>, view: View, node: u16) {
    done.entry(view).or_default().insert(node);
}

fn minted() -> Minted {
    Minted {
        record: Bytes::from_static(b"record"),
        dot: Some(Dot { actor: Actor(1), seq: 1 }),
        retried: false,
        clock: 1,
        siblings: 1,
        seen: None,
    }
}
