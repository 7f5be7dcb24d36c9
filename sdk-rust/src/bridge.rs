//! For clients in other languages: every call of this crate in a form that needs no futures, no generics and no borrowed data.
//!
//! A client in another language converts types and wakes its own kind of waiting thread; it decides nothing. It puts a question
//! ([`Ask`]) with [`Bucket::ask`](crate::Bucket::ask) and is told one [`Answer`] or [`Error`](crate::Error) through a [`Sink`]:
//!
//! * an [`Outbox`] collects the answers of any number of calls and wakes its owner once for as many as have gathered: event
//!   loops, promises;
//! * a [`Waiter`] is where one thread waits for one answer.
//!
//! Every call ends: by its answer, by its deadline, or with `ClientClosed` when the client is closed meanwhile. Then its token is told
//! exactly once. After [`Client::withdraw`](crate::Client::withdraw), or once its sink is abandoned, it is not told at all.
//!
//! ```no_run
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use quorate::{Client, bridge::{self, Answer, Ask, CallOptions, Waiter}};
//!
//! # fn example() -> Result<(), quorate::Error> {
//! let waiter = Waiter::new();
//! bridge::connect(Client::builder().endpoints("127.0.0.1:7601"), 0, &waiter)?;
//! let far_away = || Instant::now() + Duration::from_secs(60); // the waiter gives up by itself when the call's time is over
//! let Some(Ok(Answer::Connected(client))) = waiter.wait(far_away()) else { return Ok(()) };
//!
//! let ask = Ask::Get { key: "greeting".into(), without_values: false };
//! client.default_bucket().ask(ask, &CallOptions::default(), 1, &waiter)?;
//! if let Some(answer) = waiter.wait(far_away()) {
//!     println!("{:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```

mod aside;
mod ask;
mod batch;
mod call;
mod events;
pub mod log;
mod outbox;
mod pages;
mod waiter;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::NodeId,
    layout::{Level, NodeIndex},
};

use crate::{Client, Completer, Error, Explanation, Lookup, Scanned, Stats, Stored};

pub use crate::{
    entry::{DeleteEntry, PutEntry},
    update::Update,
};
pub(crate) use call::Calls;
pub use call::{Ticket, connect};
pub(crate) use events::Subscribers;
pub use outbox::Outbox;
pub use pages::{ScanOptions, ScanPages};
pub use waiter::Waiter;

/// Says that this process is a child of `fork`. To be called there, by its only thread, before anything else of this crate: what the
/// parent's threads held or counted in that moment, nobody gives back here. Clients from before belong to the parent and must be neither
/// used nor dropped. Records of the [`log`] that were not drained stay with the parent, and whoever wants to be woken for them has to say
/// so again.
pub fn forked_child() {
    log::forked_child();
    waiter::forked_child();
}

/// The options of one call. What is `None` or 0 is as the bucket has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// How many replicas it waits for, by name.
    pub level: Option<Level>,
    /// Replicas that its reads wait for, whatever the level says.
    pub r: u8,
    /// Replicas that its writes wait for, whatever the level says.
    pub w: u8,
    /// Only the first so many owners of a key are used.
    pub n: u8,
    /// Time for the call as a whole, retries included: it ends within it.
    pub timeout: Option<Duration>,
}

/// A question.
#[derive(Clone)]
pub enum Ask {
    /// Read a key: [`Answer::Read`].
    Get {
        /// The key.
        key: Bytes,
        /// Moves lengths, clocks and the context only.
        without_values: bool,
    },
    /// Whether a key has values: [`Answer::Exists`].
    Exists {
        /// The key.
        key: Bytes,
    },
    /// Write a value: [`Answer::Stored`].
    Put(PutEntry),
    /// Delete a key: [`Answer::Stored`].
    Delete(DeleteEntry),
    /// Read many keys: [`Answer::Reads`].
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Write many values: [`Answer::Writes`].
    PutMany {
        /// What to write.
        entries: Vec<PutEntry>,
    },
    /// Delete many keys: [`Answer::Writes`].
    DeleteMany {
        /// What to delete.
        entries: Vec<DeleteEntry>,
    },
    /// Begin a round of an update: [`Answer::Values`], to be merged.
    UpdateRead(Arc<Update>),
    /// End the round with the merged value: [`Answer::Updated`]. `None` there asks for another round.
    UpdateWrite(Arc<Update>, Bytes),
    /// Go on with a scan: [`Answer::Page`]. One page of a scan at a time.
    ScanPage(Arc<ScanPages>),
    /// Where a key lives: [`Answer::Explanation`].
    Explain {
        /// The key.
        key: Bytes,
    },
    /// What the client has done: [`Answer::Stats`].
    Stats,
    /// How long each node takes to answer: [`Answer::Pings`].
    Ping,
    /// Take nothing more in, let what is under way end, then close the connections: [`Answer::Closed`], after the last answer
    /// of any other call.
    Close,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of [`Ask::Get`].
    Read(Lookup),
    /// Of [`Ask::Exists`].
    Exists(bool),
    /// Of [`Ask::Put`] and [`Ask::Delete`].
    Stored(Stored),
    /// Of [`Ask::GetMany`], a result for each key in their order.
    Reads(Vec<Result<Lookup, Error>>),
    /// Of [`Ask::PutMany`] and [`Ask::DeleteMany`], a result for each entry in their order.
    Writes(Vec<Result<Stored, Error>>),
    /// Of [`Ask::UpdateRead`]: none when the key is absent, several when writes were concurrent.
    Values(Vec<Bytes>),
    /// Of [`Ask::UpdateWrite`]; `None`: another writer was quicker, read and merge again.
    Updated(Option<Stored>),
    /// Of [`Ask::ScanPage`]; empty at the end.
    Page(Vec<Scanned>),
    /// Of [`Ask::Explain`].
    Explanation(Box<Explanation>),
    /// Of [`Ask::Stats`].
    Stats(Box<Stats>),
    /// Of [`Ask::Ping`].
    Pings(Vec<Pinged>),
    /// Of [`Ask::Close`].
    Closed,
    /// Of [`connect`].
    Connected(Client),
    /// Of [`Client::subscribe`](crate::Client::subscribe), any number of times.
    Event(Event),
}

/// How a node answered a ping.
#[derive(Clone, Debug)]
pub struct Pinged {
    /// Its position in the layout.
    pub node: NodeIndex,
    /// What people call it.
    pub name: String,
    /// How long it took.
    pub took: Result<Duration, Error>,
}

/// Something about the cluster has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another layout is followed: nodes came, went, or own other partitions.
    Topology {
        /// Its epoch.
        epoch: u64,
        /// Its generation: how often the cluster was rebuilt from what was left of it.
        generation: u64,
    },
    /// There is a connection to a node to which there was none.
    NodeUp {
        /// What people call it.
        name: String,
        /// Which it is.
        node: NodeId,
    },
    /// A node can't be reached any more, or has stopped answering. It is tried again in the background.
    NodeDown {
        /// What people call it.
        name: String,
        /// Which it is.
        node: NodeId,
    },
}

/// One call that has ended, for whoever drains an outbox.
#[derive(Debug)]
pub struct Ended {
    /// The token it was made with.
    pub token: u64,
    /// How it ended.
    pub result: Result<Answer, Error>,
}

/// Takes the answers of calls. Called on I/O threads, which wait meanwhile: it only notes them. [`Completer::flush`] is called after one
/// or more answers: the place to wake somebody.
pub trait Sink: Completer {
    /// The call that was made with `token` has ended.
    fn deliver(&self, token: u64, result: Result<Answer, Error>);

    /// A call is about to be made with `token`, which will have ended at `deadline`. `writes` says whether it may change data.
    fn expect(&self, token: u64, deadline: Instant, writes: bool) {
        let _ = (token, deadline, writes);
    }
}
