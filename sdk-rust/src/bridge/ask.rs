//! From a question to operations. A single one goes straight into the core with the sink as its completer: no allocation, no task.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use dynamo::operation::{Action, Operation, Reply};

use super::{
    Answer, Ask, CallOptions, DeleteEntry, Pinged, PutEntry, ScanOptions, ScanPages, Sink, Ticket, aside, batch,
};
use crate::{
    Bucket, Client, Completer, Error, Lookup, Stored,
    request::{self, Defaults},
    update::Update,
};

impl Bucket {
    /// Puts a question. `sink` is told the answer under `token`, once; an error means that nothing was done and it will not be told. For
    /// clients in other languages: see [`bridge`](crate::bridge).
    ///
    /// The options of an update or a scan are those it was begun with.
    pub fn ask<S: Sink + 'static>(
        &self,
        ask: Ask,
        options: &CallOptions,
        token: u64,
        sink: &Arc<S>,
    ) -> Result<Ticket, Error> {
        let defaults = self.defaults().with(options);
        let call = Asking { bucket: self, defaults, deadline: request::deadline(defaults.timeout), token, sink };
        match ask {
            Ask::Get { key, without_values } => call.one(call.operation(key, Action::Get { without_values })),
            Ask::Exists { key } => call
                .translated(call.operation(key, Action::Get { without_values: true }), |reply| {
                    Ok(Answer::Exists(matches!(Lookup::from_reply(reply?)?, Lookup::Found(_))))
                }),
            Ask::Put(entry) => call.one(call.put(entry)?),
            Ask::Delete(entry) => call.one(call.delete(entry)?),
            Ask::GetMany { keys } => {
                let get = |key| Ok(call.operation(key, Action::Get { without_values: false }));
                batch::begin(&call, keys.into_iter().map(get), false, |replies| {
                    Answer::Reads(replies.map(|reply| reply.and_then(Lookup::from_reply)).collect())
                })
            }
            Ask::PutMany { entries } => {
                batch::begin(&call, entries.into_iter().map(|entry| call.put(entry)), true, writes)
            }
            Ask::DeleteMany { entries } => {
                batch::begin(&call, entries.into_iter().map(|entry| call.delete(entry)), true, writes)
            }
            Ask::UpdateRead(update) => {
                let (operation, call) = (update.read(), call.until(update.deadline()));
                call.translated(operation, move |reply| {
                    update.values(reply.and_then(Lookup::from_reply)).map(Answer::Values)
                })
            }
            Ask::UpdateWrite(update, merged) => {
                let (operation, call) = (update.write(merged)?, call.until(update.deadline()));
                call.translated(operation, move |reply| {
                    update.judge(reply.and_then(Stored::from_reply)).map(Answer::Updated)
                })
            }
            Ask::ScanPage(pages) => {
                let call = call.until(request::deadline(pages.timeout()));
                aside::begin(&call, move |_| async move { pages.next().await.map(Answer::Page) })
            }
            Ask::Explain { key } => aside::begin(&call, |bucket| async move {
                bucket.explain(key).await.map(|explanation| Answer::Explanation(Box::new(explanation)))
            }),
            Ask::Stats => aside::begin(&call, |bucket| async move {
                crate::view::stats(&bucket.handle().shared).await.map(|stats| Answer::Stats(Box::new(stats)))
            }),
            Ask::Ping => aside::begin(&call, move |bucket| ping(bucket, defaults)),
            Ask::Close => Ok(aside::close(&call)),
        }
    }

    /// An update for clients in other languages: [`Ask::UpdateRead`], merge, [`Ask::UpdateWrite`] with the merged value, and the same again
    /// while the answer to that is `None`. The timeout is for all of it, merging included.
    pub fn begin_update(&self, key: Bytes, options: &CallOptions) -> Arc<Update> {
        Arc::new(Update::new(self.clone(), key, self.defaults().with(options)))
    }

    /// A scan for clients in other languages: [`Ask::ScanPage`] until a page is empty. The timeout is for each page.
    pub fn scan_pages(&self, options: &ScanOptions) -> Arc<ScanPages> {
        Arc::new(ScanPages::new(self, options))
    }
}

impl Client {
    /// The bucket that a client's own requests use.
    pub fn default_bucket(&self) -> &Bucket {
        self.own_bucket()
    }

    /// Ends a call that was made by [`Bucket::ask`], if it has not ended: its sink is not told any more, unless it is being told at this
    /// moment. A write that was sent may still be carried out.
    pub fn withdraw(&self, ticket: Ticket) {
        let shared = self.shared();
        if !shared.calls.withdraw(ticket.call) {
            shared.cancel(dynamo::ident::OpId { client: ticket.client, sequence: ticket.call });
        }
    }
}

impl Defaults {
    /// With the options of one call in the place of those they name.
    fn with(mut self, options: &CallOptions) -> Self {
        let consistency = &mut self.consistency;
        consistency.level = options.level.or(consistency.level);
        for (own, named) in
            [(&mut consistency.r, options.r), (&mut consistency.w, options.w), (&mut consistency.n, options.n)]
        {
            if named > 0 {
                *own = named;
            }
        }
        self.timeout = options.timeout.unwrap_or(self.timeout);
        self
    }
}

/// A question that is being put.
pub(super) struct Asking<'a, S: Sink> {
    pub(super) bucket: &'a Bucket,
    pub(super) defaults: Defaults,
    pub(super) deadline: Instant,
    pub(super) token: u64,
    pub(super) sink: &'a Arc<S>,
}

/// A completer that makes something else of a reply than [`Answer::Read`] and [`Answer::Stored`].
struct Translated<S, F> {
    sink: Arc<S>,
    translate: F,
}

impl<S: Sink + 'static> Asking<'_, S> {
    fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    fn operation(&self, key: Bytes, action: Action) -> Operation {
        Operation { consistency: self.defaults.consistency, ..self.bucket.operation(key, action) }
    }

    fn put(&self, entry: PutEntry) -> Result<Operation, Error> {
        Ok(Operation { consistency: self.defaults.consistency, ..self.bucket.put_operation(entry)? })
    }

    fn delete(&self, entry: DeleteEntry) -> Result<Operation, Error> {
        Ok(Operation { consistency: self.defaults.consistency, ..self.bucket.delete_operation(entry)? })
    }

    fn one(&self, operation: Operation) -> Result<Ticket, Error> {
        self.submit(operation, Arc::clone(self.sink) as Arc<dyn Completer>)
    }

    fn translated<F>(&self, operation: Operation, translate: F) -> Result<Ticket, Error>
    where
        F: Fn(Result<Reply, Error>) -> Result<Answer, Error> + Send + Sync + 'static,
    {
        self.submit(operation, Arc::new(Translated { sink: Arc::clone(self.sink), translate }))
    }

    fn submit(&self, operation: Operation, completer: Arc<dyn Completer>) -> Result<Ticket, Error> {
        let writes = !matches!(operation.action, Action::Get { .. });
        self.sink.expect(self.token, self.deadline, writes);
        let shared = &self.bucket.handle().shared;
        shared.submit(operation, self.deadline, self.token, completer).map(Ticket::from)
    }
}

impl Answer {
    /// What the reply to a single operation is to whoever asked.
    pub(super) fn from_reply(reply: Reply) -> Result<Self, Error> {
        match reply.outcome {
            dynamo::operation::Outcome::Stored { .. } => Stored::from_reply(reply).map(Self::Stored),
            _ => Lookup::from_reply(reply).map(Self::Read),
        }
    }
}

impl<S, F> Completer for Translated<S, F>
where
    S: Sink,
    F: Fn(Result<Reply, Error>) -> Result<Answer, Error> + Send + Sync,
{
    fn complete(&self, token: u64, result: Result<Reply, Error>) {
        self.sink.deliver(token, (self.translate)(result));
    }

    fn flush(&self) {
        self.sink.flush();
    }

    fn is_wanted(&self, token: u64) -> bool {
        self.sink.is_wanted(token)
    }
}

fn writes(replies: batch::Replies) -> Answer {
    Answer::Writes(replies.map(|reply| reply.and_then(Stored::from_reply)).collect())
}

/// Asks every node. A little time is left to tell of those that have not answered.
async fn ping(bucket: Bucket, defaults: Defaults) -> Result<Answer, Error> {
    let patience = defaults.timeout - defaults.timeout / 10;
    let shared = &bucket.handle().shared;
    let layout = shared.layout();
    let ping = |(at, member): (u16, &dynamo::layout::Member)| {
        let (id, name) = (member.id, member.name.clone());
        async move {
            let asked = shared.on_thread(0, move |driver| driver.ping(id, patience)).await;
            Pinged { node: dynamo::layout::NodeIndex(at), name, took: asked.and_then(|took| took) }
        }
    };
    Ok(Answer::Pings(futures_util::future::join_all((0..).zip(&layout.members).map(ping)).await))
}
