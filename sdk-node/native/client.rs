//! One client: what TypeScript calls, and what wakes it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use napi::{
    Env, Status,
    bindgen_prelude::{BufferSlice, Either, Function, ObjectFinalize},
    threadsafe_function::ThreadsafeFunctionCallMode,
};
use napi_derive::napi;
use quorate::{
    Bucket, Error,
    bridge::{self, Answer, Ask, CallOptions, Ended, Outbox, ScanPages, Sink, Ticket, Update},
};

use crate::{
    failure::Failure,
    reply::Writer,
    request::{self, Want},
    ring::Ring,
    settings::ConnectOptions,
};

/// The token under which events come. No call has it: slots are given out from 0.
const EVENTS: u64 = u32::MAX as u64;

/// A client, and the answers on their way to TypeScript.
#[napi(custom_finalize)]
pub struct Native {
    outbox: Arc<Outbox>,
    settings: Option<ConnectOptions>,
    /// Once connected: the bucket that was used last, and through it the client.
    connected: Option<Connected>,
    /// Of calls that may be withdrawn.
    tickets: HashMap<u64, Ticket>,
    fresh: Vec<Ended>,
    ended: VecDeque<Ended>,
    writer: Writer,
    /// Whether what was written last has found no room yet.
    waits_for_room: bool,
}

struct Connected {
    client: quorate::Client,
    bucket: Bucket,
    bucket_name: Bytes,
}

/// An update of a key under way.
#[napi]
pub struct NativeUpdate(Arc<Update>);

/// A scan under way.
#[napi]
pub struct NativeScan(Arc<ScanPages>);

#[napi]
impl NativeUpdate {
    /// How many milliseconds are left to merge in, or the error with which the update ends because there are none.
    #[napi(catch_unwind)]
    pub fn remaining(&self) -> Either<f64, Failure> {
        let left = self.0.remaining();
        if left.is_zero() { Either::B(self.0.overdue().into()) } else { Either::A(left.as_secs_f64() * 1e3) }
    }
}

#[napi]
impl Native {
    /// A client that is not connected yet. `wake` is called when there is something to drain.
    #[napi(constructor, catch_unwind)]
    pub fn new(settings: ConnectOptions, wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let wake = wake.build_threadsafe_function::<()>().weak::<true>().build()?;
        let outbox = Outbox::new(move || {
            // Refused only once the environment is being torn down, and then nobody waits.
            let _: Status = wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Ok(Self {
            outbox,
            settings: Some(settings),
            connected: None,
            tickets: HashMap::new(),
            fresh: Vec::new(),
            ended: VecDeque::new(),
            writer: Writer::default(),
            waits_for_room: false,
        })
    }

    /// Connects. Once, and before anything else.
    #[napi(catch_unwind)]
    pub fn connect(&mut self, slot: u32, generation: u32) {
        let token = token(slot, generation);
        if let Some(settings) = self.settings.take() {
            let begun = bridge::connect(settings.into_builder(), token, &self.outbox);
            self.refuse(token, begun.err());
        }
    }

    /// Gives up connecting.
    #[napi(catch_unwind)]
    pub fn abandon(&mut self) {
        self.outbox.abandon();
        self.connected = None;
    }

    /// Makes the calls that are written in the first so many bytes.
    #[napi(catch_unwind)]
    pub fn submit(&mut self, requests: &[u8], length: u32) -> napi::Result<()> {
        let mut rest = requests.get(..length as usize).ok_or_else(misused)?;
        while !rest.is_empty() {
            let request = request::read(&mut rest).map_err(|_| misused())?;
            let Want::Answer(ask) = request.want else { return Err(misused()) };
            self.ask(ask, &request.options, &request.bucket, request.token, request.withdrawable)?;
        }
        Ok(())
    }

    /// Moves answers to the buffer, from a place on, and returns how many bytes they take; as -1 minus that, if there are more than found
    /// room.
    #[napi(catch_unwind)]
    pub fn drain(&mut self, mut buffer: BufferSlice<'_>, from: u32) -> i64 {
        let from = from as usize;
        let mut at = from;
        while self.waits_for_room || self.write_next() {
            let bytes = self.writer.bytes();
            let Some(room) = buffer.get_mut(at..at + bytes.len()) else {
                self.waits_for_room = true;
                return -1 - (at - from) as i64;
            };
            room.copy_from_slice(bytes);
            at += bytes.len();
            self.waits_for_room = false;
        }
        (at - from) as i64
    }

    /// TypeScript looks for answers by itself, and is not woken until it rests. Lets other threads run first: an I/O thread may want this
    /// very processor.
    #[napi(catch_unwind)]
    pub fn attend(&self) {
        self.outbox.attend();
        thread::yield_now();
    }

    /// TypeScript does not look any more, and wants to be woken.
    #[napi(catch_unwind)]
    pub fn rest(&self) {
        self.outbox.rest();
    }

    /// How many bytes the answer takes that found no room.
    #[napi(catch_unwind)]
    pub fn room_needed(&self) -> u32 {
        self.writer.bytes().len() as u32
    }

    /// The next so many of the values that stand apart from the answers they are of.
    #[napi(catch_unwind)]
    pub fn take_apart<'env>(&mut self, env: &'env Env, count: u32) -> napi::Result<Vec<BufferSlice<'env>>> {
        self.writer.take_apart(count as usize).map(|value| BufferSlice::copy_from(env, value)).collect()
    }

    /// Ends a call that was made as one that may be withdrawn.
    #[napi(catch_unwind)]
    pub fn withdraw(&mut self, slot: u32, generation: u32) {
        let ticket = self.tickets.remove(&token(slot, generation));
        if let (Some(ticket), Some(connected)) = (ticket, &self.connected) {
            connected.client.withdraw(ticket);
        }
    }

    /// Begins an update.
    #[napi(catch_unwind)]
    pub fn update(&mut self, mut request: &[u8]) -> napi::Result<NativeUpdate> {
        let request = request::read(&mut request).map_err(|_| misused())?;
        let Want::Update(key) = request.want else { return Err(misused()) };
        Ok(NativeUpdate(self.connected()?.bucket(&request.bucket)?.begin_update(key, &request.options)))
    }

    /// Reads what is to be merged.
    #[napi(catch_unwind)]
    pub fn update_read(
        &mut self,
        slot: u32,
        generation: u32,
        withdrawable: bool,
        update: &NativeUpdate,
    ) -> napi::Result<()> {
        let ask = Ask::UpdateRead(Arc::clone(&update.0));
        self.ask_again(ask, token(slot, generation), withdrawable)
    }

    /// Writes what was merged.
    #[napi(catch_unwind)]
    pub fn update_write(
        &mut self,
        slot: u32,
        generation: u32,
        withdrawable: bool,
        update: &NativeUpdate,
        merged: &[u8],
    ) -> napi::Result<()> {
        let ask = Ask::UpdateWrite(Arc::clone(&update.0), Bytes::copy_from_slice(merged));
        self.ask_again(ask, token(slot, generation), withdrawable)
    }

    /// Begins a scan.
    #[napi(catch_unwind)]
    pub fn scan(&mut self, mut request: &[u8]) -> napi::Result<NativeScan> {
        let request = request::read(&mut request).map_err(|_| misused())?;
        let Want::Scan(options) = request.want else { return Err(misused()) };
        Ok(NativeScan(self.connected()?.bucket(&request.bucket)?.scan_pages(&options)))
    }

    /// Asks for the next page of a scan.
    #[napi(catch_unwind)]
    pub fn scan_page(&mut self, slot: u32, generation: u32, withdrawable: bool, scan: &NativeScan) -> napi::Result<()> {
        self.ask_again(Ask::ScanPage(Arc::clone(&scan.0)), token(slot, generation), withdrawable)
    }

    /// The map of the cluster that is followed now.
    #[napi(catch_unwind)]
    pub fn ring(&mut self) -> napi::Result<Ring> {
        Ok(Ring::from(&*self.connected()?.client.ring()))
    }

    /// The names of the nodes by their positions in the ring.
    #[napi(catch_unwind)]
    pub fn node_names(&mut self) -> napi::Result<Vec<String>> {
        Ok(self.connected()?.client.ring().members.iter().map(|member| member.name.clone()).collect())
    }

    /// Makes a call whose bucket and options are those of what it goes on with.
    fn ask_again(&mut self, ask: Ask, token: u64, withdrawable: bool) -> napi::Result<()> {
        let bucket_name = self.connected()?.bucket_name.clone();
        self.ask(ask, &CallOptions::default(), &bucket_name, token, withdrawable)
    }

    fn ask(
        &mut self,
        ask: Ask,
        options: &CallOptions,
        bucket_name: &Bytes,
        token: u64,
        withdrawable: bool,
    ) -> napi::Result<()> {
        let outbox = Arc::clone(&self.outbox);
        match self.connected()?.bucket(bucket_name)?.ask(ask, options, token, &outbox) {
            Ok(ticket) if withdrawable => drop(self.tickets.insert(token, ticket)),
            Ok(_) => {}
            Err(error) => self.refuse(token, Some(error)),
        }
        Ok(())
    }

    /// What was not even begun is answered as everything else is: later, and in one way.
    fn refuse(&self, token: u64, error: Option<Error>) {
        if let Some(error) = error {
            self.outbox.deliver(token, Err(error));
            quorate::Completer::flush(&*self.outbox);
        }
    }

    /// Writes the next answer, if there is one.
    fn write_next(&mut self) -> bool {
        if self.ended.is_empty() {
            self.outbox.drain(&mut self.fresh);
            self.ended.extend(self.fresh.drain(..));
        }
        let Some(Ended { token, result }) = self.ended.pop_front() else { return false };
        self.tickets.remove(&token);
        if let Ok(Answer::Connected(client)) = &result {
            client.subscribe(EVENTS, &self.outbox);
            let bucket = client.default_bucket().clone();
            self.connected = Some(Connected { client: client.clone(), bucket, bucket_name: Bytes::new() });
        }
        self.writer.write(token, result);
        true
    }

    fn connected(&mut self) -> napi::Result<&mut Connected> {
        self.connected.as_mut().ok_or_else(misused)
    }
}

impl Connected {
    fn bucket(&mut self, name: &Bytes) -> napi::Result<&Bucket> {
        if self.bucket_name != name {
            let text = std::str::from_utf8(name).map_err(|_| misused())?;
            self.bucket = self.client.bucket(text);
            self.bucket_name = Bytes::copy_from_slice(name);
        }
        Ok(&self.bucket)
    }
}

impl ObjectFinalize for Native {
    /// Nobody can wait for anything any more: the object was collected, or its environment ends. What is under way is not sent (again), and
    /// dropping the client closes it.
    fn finalize(self, _env: Env) -> napi::Result<()> {
        self.outbox.abandon();
        Ok(())
    }
}

fn token(slot: u32, generation: u32) -> u64 {
    u64::from(slot) | u64::from(generation) << u32::BITS
}

/// Only TypeScript of another version calls the addon in such a way.
fn misused() -> napi::Error {
    napi::Error::from_reason(
        "quorate: the addon and the package around it are of different versions; install both again",
    )
}
