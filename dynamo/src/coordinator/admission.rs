//! What is checked before anything is done for a client's operation, and which stage it begins with.

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_128;

use super::{
    Coordinator, Effect, RequestId,
    demand::Demand,
    failing,
    flight::{Flight, Head, Shared, Stage},
    forwarding::{Forwarding, Handed},
    reading::{Purpose, Reading},
    renewal::set_out,
    route::Route,
    writing::Writing,
};
use crate::{
    hlc,
    ident::{KEY_BYTES_MAX, StoreKey, is_bucket_name},
    layout::BucketProperties,
    operation::{Action, Address, Basis, ErrorCode, Failure, Operation, Outcome, Receipt, Reply},
    replica::{MintBasis, Write},
    tick::Tick,
    token,
    version::Content,
};

/// A client's operation as it arrives, without what it asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) request: RequestId,
    pub(super) hops: u8,
    pub(super) now: Tick,
    pub(super) deadline: Tick,
    pub(super) now_wall_ms: u64,
}

impl Coordinator {
    /// Begins an operation, or refuses it at once.
    pub(super) fn admit(&mut self, arrival: Arrival, operation: Operation, effects: &mut Vec<Effect>) {
        if let Err(failure) = self.begin(arrival, operation, effects) {
            let receipt = Receipt { epoch: self.shared.config.ring.epoch(), ..Receipt::default() };
            let reply = Reply { outcome: Outcome::Failed(failure), receipt };
            effects.push(Effect::Reply { request: arrival.request, reply });
        }
    }

    fn begin(&mut self, arrival: Arrival, operation: Operation, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        let Arrival { request, hops, now, deadline, now_wall_ms } = arrival;
        if deadline <= now {
            return Err(failing::expired());
        }
        if self.flights.len() - self.shared.lingering >= self.shared.config.operations_max {
            self.shared.counters.overloads += 1;
            return Err(failing::overloaded());
        }
        check_names(&operation.address)?;
        let layout = self.shared.layout();
        let bucket = properties(&self.shared, &operation.address);
        let demand = Demand::resolve(&operation.consistency, &bucket, layout.replicas)?;
        let unknown = layout.view(layout.partition(&operation.address.store_key.id()));
        let route = Route::nowhere(layout.epoch, unknown);
        let entry = self.flights.vacant_entry();
        let slot = entry.key();
        let deadline = deadline.min(now.after(self.shared.config.budget_max_ms));
        let calls = self.shared.calls(slot);
        let head = Head {
            calls,
            request,
            begun: now,
            deadline,
            now_wall_ms,
            route,
            demand,
            is_answered: false,
            operation,
            hops,
            heard: None,
            renewals: 0,
            maybe_applied: false,
            lingering_bytes: 0,
        };
        let flight = entry.insert(Flight { head, stage: Stage::Parked(None) });
        match set_out(&mut self.shared, &mut flight.head, effects) {
            Ok(stage) => flight.stage = stage,
            Err(failure) => {
                self.flights.remove(slot);
                return Err(failure);
            }
        }
        self.watch(slot, now);
        self.wake(deadline, calls);
        Ok(())
    }
}

/// Begins the operation at the node that coordinates it.
pub(super) fn first_stage(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Stage, Failure> {
    if head.route.is_mine() {
        return coordinate(shared, head, effects);
    }
    if head.hops == 0 {
        return match Forwarding::begin(head, shared, effects)? {
            Handed::On(forwarding) => Ok(Stage::Forwarding(forwarding)),
            Handed::Here => stand_in(shared, head, effects),
        };
    }
    // Who forwarded it could reach no owner. That this node may be able to changes nothing: one hop is enough.
    if head.demand.is_sloppy && !head.route.is_member {
        return stand_in(shared, head, effects);
    }
    Err(failing::not_an_owner(head))
}

/// Begins an operation that this node coordinates in the owners' place.
pub(super) fn stand_in(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Stage, Failure> {
    let Some(me) = shared.as_stand_in() else { return Err(failing::no_stand_in(head)) };
    shared.counters.stood_in += 1;
    head.route = head.route.standing_in(me);
    coordinate(shared, head, effects)
}

/// Begins an operation that this node coordinates.
fn coordinate(shared: &mut Shared, head: &mut Head, effects: &mut Vec<Effect>) -> Result<Stage, Failure> {
    let Operation { address, consistency: _, action } = &head.operation;
    match *action {
        Action::Get { without_values } => {
            let purpose = Purpose::Get { without_values, rule: properties(shared, address).conflict_rule };
            Reading::begin(purpose, head, shared, effects)
        }
        Action::Put { ref value, hash, ref basis, op_id, seen_clock, ttl_ms } => {
            let hash = check_value(value, hash, shared.config.value_bytes_max)?;
            let content = Content::Value { bytes: value.clone(), hash };
            let basis = open_basis(basis, &address.store_key, shared)?;
            let write = Write {
                content,
                basis,
                op_id,
                seen_clock,
                wall_ms: head.now_wall_ms,
                expires: expiry(head.now_wall_ms, ttl_ms),
            };
            Writing::begin(address.clone(), write, head, shared, effects)
        }
        Action::Delete { basis: Basis::Local, op_id, seen_clock } => {
            let purpose = Purpose::Delete { op_id, seen_clock };
            Reading::begin(purpose, head, shared, effects)
        }
        Action::Delete { basis: Basis::Beside, .. } => Err(Failure::new(
            ErrorCode::InvalidRequest,
            "a delete beside what is there would delete nothing; nothing was done, give a context or none",
        )),
        Action::Delete { basis: ref basis @ Basis::Context(_), op_id, seen_clock } => {
            let basis = open_basis(basis, &address.store_key, shared)?;
            let content = Content::Tombstone;
            let write = Write { content, basis, op_id, seen_clock, wall_ms: head.now_wall_ms, expires: 0 };
            Writing::begin(address.clone(), write, head, shared, effects)
        }
    }
}

/// The clock from which on a value that lives so long is no longer seen; 0 for never.
fn expiry(now_wall_ms: u64, ttl_ms: u64) -> u64 {
    if ttl_ms == 0 { 0 } else { hlc::clock_of(now_wall_ms.saturating_add(ttl_ms)) }
}

/// The properties of the operation's bucket.
fn properties(shared: &Shared, address: &Address) -> BucketProperties {
    let layout = shared.layout();
    if layout.buckets.is_empty() {
        return BucketProperties::default();
    }
    core::str::from_utf8(&address.bucket).map(|name| layout.bucket(name)).unwrap_or_default()
}

/// Names were checked where they came in. What is written under a wrong one could not be read again, so they are looked
/// at here once more.
fn check_names(address: &Address) -> Result<(), Failure> {
    if !is_bucket_name(&address.bucket) {
        let message = "a bucket's name is 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'; nothing was done";
        return Err(Failure::new(ErrorCode::InvalidRequest, message));
    }
    if !(1..=KEY_BYTES_MAX).contains(&address.key.len()) {
        return Err(Failure::new(ErrorCode::InvalidRequest, "a key is 1 to 1,024 bytes long; nothing was done"));
    }
    Ok(())
}

/// Checks a value against its limit and its writer's hash of it; the hash.
fn check_value(value: &[u8], hash: Option<u128>, bytes_max: u64) -> Result<u128, Failure> {
    if value.len() as u64 > bytes_max {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            "the value is longer than this node accepts; nothing was done, keep large data elsewhere and store a link",
        ));
    }
    let found = xxh3_128(value);
    if hash.is_some_and(|expected| expected != found) {
        return Err(Failure::new(
            ErrorCode::InvalidRequest,
            "the value does not have the hash that came with it: it was damaged on its way or its writer computes XXH3-128 \
             differently; nothing was done",
        ));
    }
    Ok(found)
}

fn open_basis(basis: &Basis, store_key: &StoreKey, shared: &Shared) -> Result<MintBasis, Failure> {
    match basis {
        Basis::Local => Ok(MintBasis::Local),
        Basis::Beside => Ok(MintBasis::Beside),
        Basis::Context(sealed) => {
            let seen = token::open(&shared.config.token_key, store_key, sealed).map_err(|error| error.failure())?;
            Ok(MintBasis::Context(seen))
        }
    }
}
