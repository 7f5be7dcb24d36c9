//! What clients, and nodes that forward for them, ask of a node's coordinator, and its replies: each is judged before it leaves.

use dynamo::{
    coordinator::{CallId, Input, RequestId},
    operation::{Action, Operation, Outcome, Reply},
    tick::Tick,
};

use super::{
    World,
    queue::{Body, Message, Party},
};
use crate::{invariant::Invariant, oracle::Request, trace::Short};

/// A request at its coordinator.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) asker: Asker,
    pub(super) request: Request,
    pub(super) deadline: Tick,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Client { batch: u64, place: usize },
    Forwarder { node: Party, incarnation: u64, call: CallId },
}

/// A client's call.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) client: Party,
    pub(super) call: u64,
    pub(super) replies: Vec<Option<Reply>>,
    pub(super) missing: usize,
}

impl World {
    /// A client's call arrives.
    pub(super) fn serve_client(
        &mut self,
        node: usize,
        client: Party,
        call: u64,
        operations: Vec<Operation>,
        budget_ms: u64,
    ) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let batch = process.next_batch;
        process.next_batch += 1;
        let missing = operations.len();
        process.batches.insert(batch, Batch { client, call, replies: vec![None; missing], missing });
        for (place, operation) in operations.into_iter().enumerate() {
            self.request(node, Asker::Client { batch, place }, operation, 0, budget_ms);
        }
    }

    /// An operation arrives that another node handed on.
    pub(super) fn serve_forwarded(
        &mut self,
        node: usize,
        (from, incarnation, call): (Party, u64, CallId),
        operation: Operation,
        budget_ms: u64,
    ) {
        self.request(node, Asker::Forwarder { node: from, incarnation, call }, operation, 1, budget_ms);
    }

    fn request(&mut self, node: usize, asker: Asker, operation: Operation, hops: u8, budget_ms: u64) {
        let (tick, wall_ms) = (self.nodes[node].tick(self.now_us), self.nodes[node].wall_ms(self.now_us));
        let deadline = tick.after(budget_ms.max(1));
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let request = RequestId(process.next_request);
        process.next_request += 1;
        let judged = Request { operation: operation.clone(), arrived_us: self.now_us, wall_ms };
        let pending = Pending { asker, request: judged, deadline };
        process.requests.insert(request, pending);
        self.drive(node, Input::Client { request, operation, hops, deadline, now_wall_ms: wall_ms });
        let limits = &self.plan.limits;
        let (waiting, in_flight) = self.nodes[node]
            .process
            .as_ref()
            .map_or((0, 0), |process| (process.coordinator.waiting(), process.coordinator.in_flight()));
        if waiting > limits.operations_max || in_flight > limits.operations_max + limits.lingering_max {
            self.oracle.broken(Invariant::I12, || format!("n{node} holds {waiting} of {in_flight} operations"));
        }
    }

    /// The coordinator replies to a request: it is judged, and passed on to who asked.
    pub(super) fn reply(&mut self, node: usize, request: RequestId, reply: Reply) {
        let tick = self.nodes[node].tick(self.now_us);
        let resumed_tick = self.nodes[node].tick(self.nodes[node].resumed_us);
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let incarnation = process.incarnation;
        let Some(pending) = process.requests.remove(&request) else {
            return self.oracle.broken(Invariant::I12, || format!("n{node} replies twice to {request:?}"));
        };
        if tick > pending.deadline.after(1) && resumed_tick < pending.deadline {
            self.oracle
                .broken(Invariant::I12, || format!("n{node} replies at {tick:?}, due at {:?}", pending.deadline));
        }
        // What another node replied was judged there.
        let is_relayed = process.relayed.take().is_some_and(|relayed| relayed == reply);
        if !is_relayed {
            let answered = reply.receipt.answered.iter().filter_map(|index| self.number_at(node, *index)).collect();
            self.oracle.replied(node, &pending.request, &reply, &answered);
            let key = self.oracle.number(&pending.request.operation.address.store_key);
            self.part(key, reply.receipt.epoch);
        }
        self.trace.line(self.now_us, || format!("n{node} replies {}", outline(&pending.request.operation, &reply)));
        match pending.asker {
            Asker::Client { batch, place } => self.fill(node, batch, place, reply),
            Asker::Forwarder { node: to, incarnation: asked_by, call } => {
                let body = Body::Forwarded { call, result: Box::new(Ok(reply)) };
                let _ = incarnation;
                self.send(Message { from: node, to, incarnation: asked_by, doubled: false, body });
            }
        }
    }

    fn fill(&mut self, node: usize, batch: u64, place: usize, reply: Reply) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let Some(waiting) = process.batches.get_mut(&batch) else { return };
        waiting.replies[place] = Some(reply);
        waiting.missing -= 1;
        if waiting.missing > 0 {
            return;
        }
        let Some(Batch { client, call, replies, .. }) = process.batches.remove(&batch) else { return };
        let epoch = self.nodes[node].ring.epoch();
        let body = Body::Replies { call, replies: replies.into_iter().flatten().collect(), epoch };
        self.send(Message { from: node, to: client, incarnation: 0, doubled: false, body });
    }
}

/// An operation and how it ended, in one line.
fn outline(operation: &Operation, reply: &Reply) -> String {
    let what = match &operation.action {
        Action::Get { .. } => "get".to_owned(),
        Action::Put { value, .. } => format!("put {}", Short(value)),
        Action::Delete { .. } => "delete".to_owned(),
    };
    let outcome = match &reply.outcome {
        Outcome::Found { siblings, .. } => {
            let values: Vec<String> = siblings.iter().map(|one| Short(&one.value).to_string()).collect();
            format!("found {}", values.join(" | "))
        }
        Outcome::NotFound { .. } => "not found".to_owned(),
        Outcome::Stored { siblings, .. } => format!("stored, {siblings} stand"),
        Outcome::Failed(failure) => {
            format!("failed {:?} maybe_applied={} ({})", failure.code, failure.maybe_applied, failure.message)
        }
    };
    let answered: Vec<u16> = reply.receipt.answered.iter().map(|node| node.0).collect();
    let key = String::from_utf8_lossy(&operation.address.key).into_owned();
    format!("to {what} of {key} {:?}: {outcome}, by {answered:?}", operation.consistency.level)
}
