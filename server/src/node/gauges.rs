//! How other nodes look from each worker, for `status`: written by the worker's own traffic, read by anyone.

use std::{
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// How one worker sees one node.
#[derive(Debug, Default)]
pub(crate) struct PeerGauge {
    state: AtomicU8,
    round_trip_micros: AtomicU32,
    heard: Notify,
    doubted: Notify,
}

/// What can be seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Visible {
    /// Nothing yet.
    Unknown = 0,
    /// It answers.
    Up = 1,
    /// Its last call timed out.
    Suspect = 2,
    /// There is no connection to it.
    Down = 3,
}

impl PeerGauge {
    /// What was seen last.
    pub(crate) fn visible(&self) -> Visible {
        match self.state.load(Ordering::Relaxed) {
            1 => Visible::Up,
            2 => Visible::Suspect,
            3 => Visible::Down,
            _ => Visible::Unknown,
        }
    }

    /// A smoothed round trip; 0 before the first.
    pub(crate) fn round_trip_micros(&self) -> u32 {
        self.round_trip_micros.load(Ordering::Relaxed)
    }

    /// Notes a connection that came or went.
    pub(crate) fn set(&self, visible: Visible) {
        self.state.store(visible as u8, Ordering::Relaxed);
    }

    /// Notes that the node has called: it is alive, whatever was seen last.
    pub(crate) fn heard(&self) {
        self.heard.notify_one();
    }

    /// Waits until the node has called.
    pub(crate) async fn was_heard(&self) {
        self.heard.notified().await;
    }

    /// Notes that others say the node is down, or back: a worker that has a connection shall see for itself.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until others have said something of the node.
    pub(crate) async fn was_doubted(&self) {
        self.doubted.notified().await;
    }

    /// Notes whether calls time out on a connection that stands.
    pub(crate) fn suspect(&self, is_suspect: bool) {
        match (self.visible(), is_suspect) {
            (Visible::Up, true) => self.set(Visible::Suspect),
            (Visible::Suspect, false) => self.set(Visible::Up),
            (Visible::Unknown | Visible::Up | Visible::Suspect | Visible::Down, _) => {}
        }
    }

    /// Notes a round trip: an eighth of each new one enters, so one slow call does not hide the usual.
    pub(crate) fn answered_after(&self, round_trip: Duration) {
        let new = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        let old = self.round_trip_micros();
        let smoothed = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.round_trip_micros.store(smoothed, Ordering::Relaxed);
    }
}

impl Visible {
    /// The word for it in a status.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}
