//! A link to one node: whether there is a connection, what waits for it, and the breaker.
//!
//! Breaker and connection are one thing. A link that fails is down: routing avoids it, and in the background it is connected
//! anew after a pause that doubles. Only a connection that was greeted properly makes it usable again, so no operation is
//! spent on finding out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use dynamo::{ident::NodeId, layout::NodeIndex};

use crate::{engine::table::Ticket, random::Random};

/// So many calls lost in a row break a link.
const LOST_IN_A_ROW: u32 = 5;

/// Or half of so many within the window.
const LOST_OF: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// First and longest pause before a node that refused or closed a connection is tried again.
const RECONNECT_BASE: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// The same for a node that stopped answering.
const BROKEN_BASE: Duration = Duration::from_secs(1);
const BROKEN_MAX: Duration = Duration::from_secs(30);

/// Weight of a new measurement in the moving average.
const LATENCY_WEIGHT: f32 = 0.2;

/// Names a link for the life of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) usize);

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nothing was ever sent there.
    Idle,
    /// Being opened. `down` says that it was found down before, so operations do not count on it.
    Connecting { down: bool },
    /// There is one.
    Up,
    /// There is none, and until then none is tried without need.
    Down { until: Instant },
}

/// A link.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) state: LinkState,
    /// Its place in the layout; `None` once it has left.
    pub(super) member: Option<NodeIndex>,
    pub(super) gathered: VecDeque<Ticket>,
    pub(super) gathered_bytes: usize,
    pub(super) calls: u32,
    pub(super) calls_max: u32,
    /// Bytes of large operations under way.
    pub(super) large_bytes: usize,
    /// What its answers to reads have in the mean.
    pub(super) answer_bytes: f32,
    pub(super) last_sent: Instant,
    /// The node asked to be left alone until then.
    pub(super) avoid_until: Option<Instant>,
    pub(super) dirty: bool,
    /// The connection leads to an address that the node has given up: it is replaced as soon as nothing is under way on it.
    pub(super) is_outdated: bool,
    lost_in_a_row: u32,
    window_start: Instant,
    window_calls: u32,
    window_lost: u32,
    /// Connections that failed one after another.
    failures: u32,
}

impl Link {
    pub(super) fn new(node: NodeId, now: Instant) -> Self {
        Self {
            node,
            name: String::new(),
            addresses: Vec::new(),
            state: LinkState::Idle,
            member: None,
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            calls: 0,
            calls_max: u32::MAX,
            large_bytes: 0,
            answer_bytes: 0.0,
            last_sent: now,
            avoid_until: None,
            dirty: false,
            is_outdated: false,
            lost_in_a_row: 0,
            window_start: now,
            window_calls: 0,
            window_lost: 0,
            failures: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// Whether the last try to reach the node failed.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, LinkState::Down { .. })
    }

    /// Whether routing may count on it.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let sound = match self.state {
            LinkState::Idle | LinkState::Up | LinkState::Connecting { down: false } => true,
            LinkState::Connecting { down: true } | LinkState::Down { .. } => false,
        };
        sound && !self.is_outdated && self.avoid_until.is_none_or(|until| now >= until)
    }

    /// Whether an operation that was just put here must have a connection opened.
    pub(super) fn needs_connection(&self) -> bool {
        match self.state {
            LinkState::Idle | LinkState::Down { .. } => true,
            LinkState::Connecting { .. } | LinkState::Up => false,
        }
    }

    /// The node is to be reached elsewhere from now on. Whether it is down is to be found out again, and at once.
    pub(super) fn moved(&mut self, addresses: &[String], now: Instant) {
        let before = std::mem::replace(&mut self.addresses, addresses.to_vec());
        if before.is_empty() || before == addresses {
            return;
        }
        self.failures = 0;
        match &mut self.state {
            LinkState::Idle => {}
            LinkState::Down { until } => *until = now,
            // One that is being opened may lead to where the node was. If it opens, it is the node's all the same.
            LinkState::Connecting { .. } | LinkState::Up => self.is_outdated = true,
        }
    }

    /// Whether its connection can be closed, because nobody wants it and nothing is under way on it.
    pub(super) fn is_to_be_closed(&self) -> bool {
        self.is_up() && self.calls == 0 && (self.is_outdated || self.member.is_none())
    }

    pub(super) fn connecting(&mut self, now: Instant) {
        self.is_outdated = false;
        let down = !self.is_usable(now);
        self.state = LinkState::Connecting { down };
    }

    pub(super) fn connected(&mut self, calls_max: u32) {
        self.state = LinkState::Up;
        (self.calls, self.large_bytes) = (0, 0);
        self.calls_max = calls_max.max(1);
        self.avoid_until = None;
        self.lost_in_a_row = 0;
    }

    /// The connection is gone or was not to be had.
    pub(super) fn disconnected(&mut self, now: Instant, random: &mut Random) -> Instant {
        self.down(now, RECONNECT_BASE, RECONNECT_MAX, random)
    }

    /// The node has stopped answering.
    pub(super) fn broken(&mut self, now: Instant, random: &mut Random) -> Instant {
        self.down(now, BROKEN_BASE, BROKEN_MAX, random)
    }

    /// A call is not under way any more, however it ended.
    pub(super) fn call_ended(&mut self, large_bytes: usize) {
        self.calls = self.calls.saturating_sub(1);
        self.large_bytes = self.large_bytes.saturating_sub(large_bytes);
    }

    /// A call was answered.
    pub(super) fn call_answered(&mut self, now: Instant) {
        self.failures = 0;
        self.lost_in_a_row = 0;
        self.count(now, false);
    }

    /// A call was not answered in time. Says whether that breaks the link.
    pub(super) fn call_lost(&mut self, now: Instant) -> bool {
        self.lost_in_a_row += 1;
        self.count(now, true);
        let half = self.window_calls >= LOST_OF && self.window_lost * 2 >= self.window_calls;
        self.lost_in_a_row >= LOST_IN_A_ROW || half
    }

    fn count(&mut self, now: Instant, lost: bool) {
        if now.saturating_duration_since(self.window_start) > WINDOW {
            (self.window_start, self.window_calls, self.window_lost) = (now, 0, 0);
        }
        self.window_calls += 1;
        self.window_lost += u32::from(lost);
    }

    fn down(&mut self, now: Instant, base: Duration, longest: Duration, random: &mut Random) -> Instant {
        let pause = base.saturating_mul(1 << self.failures.min(10)).min(longest);
        // Half of the pause is certain, half is drawn: nodes that fell together are not all asked in the same instant.
        let half = pause.as_micros() as u64 / 2;
        let until = now + Duration::from_micros(half + random.below(half + 1));
        self.failures += 1;
        (self.calls, self.large_bytes) = (0, 0);
        (self.window_calls, self.window_lost, self.lost_in_a_row) = (0, 0, 0);
        self.state = LinkState::Down { until };
        until
    }
}

/// Folds a measurement into a moving average.
pub(super) fn average(average_micros: f32, latency: Duration) -> f32 {
    let latency_micros = latency.as_secs_f32() * 1e6;
    if average_micros == 0.0 {
        return latency_micros;
    }
    average_micros + (latency_micros - average_micros) * LATENCY_WEIGHT
}
