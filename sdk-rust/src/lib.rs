//! The Quorate client.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate::Error> {
//! let db = quorate::Client::connect("127.0.0.1:7601").await?;
//! db.put("greeting", "hello").await?;
//! if let Some(found) = db.get("greeting").await? {
//!     println!("{:?}", found.value()?);           // an error if writes conflicted: found.siblings() has them all
//!     db.put("greeting", "good day").context(found.context()).await?; // replaces exactly what was read
//! }
//! let carts = db.bucket("carts");
//! carts.update("ann", |values| values.concat()).await?; // read, merge, write
//! db.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] finds its cluster from any address, learns which node owns which key, and sends each operation straight to an
//! owner. Operations that are made while a call to a node is under way leave together in the next one, so a thousand
//! concurrent single gets are as fast as a batch. Futures need no particular executor: the I/O threads are the client's own.
//!
//! # Three ways to put
//! * With the context of a read ([`Put::context`]) it replaces exactly what was read.
//! * With none it replaces whatever its coordinator holds at that moment.
//! * Under [`Context::EMPTY`] ([`Put::beside`]) it adds a version beside whatever there is, on purpose.
//!
//! Writes that truly happened at the same time become siblings: [`Found::siblings`] has more than one. Merge them and put the
//! result with the context of that read, or let [`Client::update`] do it.
//!
//! # Errors
//! Absence is not an error. An [`Error`] says whether the call may succeed later ([`Error::retryable`]) and whether a write may
//! have been applied all the same ([`Error::maybe_applied`]). The client has then already retried what may be retried: reads at
//! other nodes; writes under the same operation id, by which nodes recognise them, so that no write is applied twice.
//!
//! # Other languages
//! [`Client::submit`], [`Client::cancel`] and [`Completer`] are the whole core; the futures here are one completer over it.
//! [`bridge`] holds what clients in other languages are made of.

pub mod bridge;
mod bucket;
mod builder;
mod bytes_in;
mod client;
mod context;
mod core;
mod driver;
mod engine;
mod entry;
mod error;
mod found;
#[doc(hidden)]
pub mod machine;
mod many;
mod node;
pub mod operators;
mod random;
mod request;
mod retry;
mod routing;
mod scan;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod update;
mod view;

pub use bucket::Bucket;
pub use builder::Builder;
pub use bytes_in::IntoBytes;
pub use client::Client;
pub use context::Context;
pub use core::Completer;
pub use entry::{DeleteEntry, PutEntry};
pub use error::{Details, Error};
pub use found::{Absent, Found, Lookup, Stored};
pub use many::Batch;
pub use node::{Held, Hint, Inspection, Node};
pub use request::{Delete, Exists, Get, Put};
pub use scan::{Scan, Scanned};
pub use view::{Explanation, NodeStats, Stats};

pub use bytes::Bytes;
pub use dynamo::{
    hlc,
    ident::{Id, NodeId, OpId},
    layout::{Layout, Level, Member, MemberState, NodeIndex, View},
    operation::{Action, Address, Basis, Consistency, Operation, Outcome, Receipt, Reply, Sibling},
    version::{Actor, CausalContext, Content, Dot, Object, Version},
};
pub use schema::convert::{Counter, HintBacklog, PeerStatus, RepairRun, RepairStatus, RepairTask, Status};
