//! A bucket: a name under which keys live, with defaults for the requests made through it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynamo::{
    ident::BUCKET_DEFAULT,
    layout::Level,
    operation::{Action, Address, Basis, Operation, Reply},
};

use crate::{
    Batch, Delete, DeleteEntry, Error, Exists, Explanation, Found, Get, IntoBytes, Lookup, Put, PutEntry, Scan, Stored,
    client::Handle,
    request::{self, Defaults, Request},
    update::Update,
};

/// A bucket. Made by [`crate::Client::bucket`]; cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    handle: Arc<Handle>,
    name: Bytes,
    defaults: Defaults,
}

impl Bucket {
    pub(crate) fn new(handle: Arc<Handle>, name: &str, defaults: Defaults) -> Self {
        Self { handle, name: name_bytes(name), defaults }
    }

    pub(crate) fn named(&self, name: &str) -> Self {
        Self { name: name_bytes(name), ..self.clone() }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn name_bytes(&self) -> &Bytes {
        &self.name
    }

    pub(crate) fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        // Made of one by `Client::bucket`.
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    /// The same bucket, whose requests have this level unless they say otherwise.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.defaults.consistency.level = Some(level);
        self
    }

    /// The same bucket, whose reads wait for `r` replicas and whose writes for `w`; 0 leaves it to the level.
    #[must_use]
    pub fn replicas(mut self, r: u8, w: u8) -> Self {
        self.defaults.consistency.r = r;
        self.defaults.consistency.w = w;
        self
    }

    /// The same bucket, whose requests have this much time unless they say otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.defaults.timeout = timeout;
        self
    }

    /// Reads a key: `None` when it has no values.
    pub fn get(&self, key: impl IntoBytes) -> Get {
        Get::new(self.request(key, Action::Get { without_values: false }))
    }

    /// Writes a value. Without a context it replaces what its coordinator holds at that moment.
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Put {
        Put::new(self.request(key, request::put(value.into_bytes(), Basis::Local)))
    }

    /// Deletes a key. Without a context it deletes what a read at its level sees.
    pub fn delete(&self, key: impl IntoBytes) -> Delete {
        Delete::new(self.request(key, request::delete(Basis::Local)))
    }

    /// Whether a key has values; moves none.
    pub fn exists(&self, key: impl IntoBytes) -> Exists {
        Exists::new(self.request(key, Action::Get { without_values: true }))
    }

    /// Reads many keys, with a result for each.
    pub fn get_many<K: IntoBytes>(&self, keys: impl IntoIterator<Item = K>) -> Batch<Option<Found>> {
        let get = |key: K| Ok(self.operation(key, Action::Get { without_values: false }));
        self.batch(keys.into_iter().map(get), |reply| Lookup::from_reply(reply).map(Lookup::found))
    }

    /// Writes many values, with a result for each: pairs of key and value, or [`PutEntry`]s with options of their own.
    ///
    /// ```no_run
    /// # use quorate::{Bucket, PutEntry};
    /// # async fn example(carts: Bucket) -> Result<(), quorate::Error> {
    /// let seen = carts.get("ann").lookup().await?;
    /// let entries = [PutEntry::new("ann", "milk, bread").context(seen.context()), PutEntry::new("bob", "tea")];
    /// for stored in carts.put_many(entries).await {
    ///     stored?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_many<E: Into<PutEntry>>(&self, entries: impl IntoIterator<Item = E>) -> Batch<Stored> {
        let put = |entry: E| self.put_operation(entry.into());
        self.batch(entries.into_iter().map(put), Stored::from_reply)
    }

    /// Deletes many keys, with a result for each: keys, or [`DeleteEntry`]s with contexts of their own.
    pub fn delete_many<E: Into<DeleteEntry>>(&self, entries: impl IntoIterator<Item = E>) -> Batch<Stored> {
        let delete = |entry: E| self.delete_operation(entry.into());
        self.batch(entries.into_iter().map(delete), Stored::from_reply)
    }

    /// Reads a key, merges its values (none when it is absent, several when writes were concurrent), and writes the result in
    /// their place. When another writer was quicker, its value stands beside the merged one: then both are read and merged
    /// again, a few times. So `merge` may be called more than once and must give the same for the same values.
    ///
    /// If others are quicker every time, the last merged value is stored all the same and `siblings` of the answer says how
    /// many versions there are: nothing is lost, and the next reader merges. The bucket's timeout is for all rounds together,
    /// with the time that `merge` takes.
    pub async fn update<V: IntoBytes>(
        &self,
        key: impl IntoBytes,
        mut merge: impl FnMut(&[Bytes]) -> V,
    ) -> Result<Stored, Error> {
        let update = Update::new(self.clone(), key.into_bytes(), self.defaults);
        loop {
            let read = self.carry_out(update.read(), update.deadline()).await;
            let values = update.values(read.and_then(Lookup::from_reply))?;
            let written = self.carry_out(update.write(merge(&values).into_bytes())?, update.deadline()).await;
            if let Some(stored) = update.judge(written.and_then(Stored::from_reply))? {
                return Ok(stored);
            }
        }
    }

    /// The keys of this bucket, partition by partition.
    pub fn scan(&self) -> Scan {
        Scan::new(self.clone())
    }

    /// Where a key lives, and who would coordinate it now.
    pub async fn explain(&self, key: impl IntoBytes) -> Result<Explanation, Error> {
        let address = Address::new(self.name.clone(), key.into_bytes());
        crate::view::explain(&self.handle.shared, address).await
    }

    /// Carries out one operation by a deadline.
    pub(crate) async fn carry_out(&self, operation: Operation, deadline: Instant) -> Result<Reply, Error> {
        Request::of(Arc::clone(&self.handle), operation, deadline).await
    }

    pub(crate) fn operation(&self, key: impl IntoBytes, action: Action) -> Operation {
        let address = Address::new(self.name.clone(), key.into_bytes());
        Operation { address, consistency: self.defaults.consistency, action }
    }

    pub(crate) fn put_operation(&self, entry: PutEntry) -> Result<Operation, Error> {
        let mut action = request::put(entry.value, Basis::Local);
        entry.ttl.into_iter().for_each(|ttl| request::expire(&mut action, ttl));
        if let Some(context) = entry.context {
            request::write_under(&mut action, context)?;
        }
        Ok(self.operation(entry.key, action))
    }

    pub(crate) fn delete_operation(&self, entry: DeleteEntry) -> Result<Operation, Error> {
        let mut action = request::delete(Basis::Local);
        if let Some(context) = entry.context {
            request::write_under(&mut action, context)?;
        }
        Ok(self.operation(entry.key, action))
    }

    pub(crate) fn batch<T>(
        &self,
        operations: impl Iterator<Item = Result<Operation, Error>>,
        read: fn(Reply) -> Result<T, Error>,
    ) -> Batch<T> {
        Batch::new(Arc::clone(&self.handle), self.defaults.timeout, operations.collect(), read)
    }

    fn request(&self, key: impl IntoBytes, action: Action) -> Request {
        let address = Address::new(self.name.clone(), key.into_bytes());
        Request::new(Arc::clone(&self.handle), self.defaults, address, action)
    }
}

/// Whether it may name a bucket is checked with each operation, which then has the error.
fn name_bytes(name: &str) -> Bytes {
    match name {
        BUCKET_DEFAULT => Bytes::from_static(BUCKET_DEFAULT.as_bytes()),
        name => Bytes::copy_from_slice(name.as_bytes()),
    }
}
