//! What the bridge costs without a language behind it: gets of one node by threads that wait, and by a loop over an outbox. Prints a line of
//! JSON for each, for `bench/sdk/costs`, which sets them beside the same gets from Python and Node.
//!
//! ```text
//! cargo run --release -p quorate --example bridge_costs 127.0.0.1:7601 [SECONDS]
//! ```

use std::{
    env, fs,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate::{
    Client, Error, Lookup,
    bridge::{self, Answer, Ask, CallOptions, Ended, Outbox, PutEntry, Waiter},
};

/// Threads that wait, and calls under way in a loop, as in the comparison with other clients.
const THREADS: [usize; 2] = [1, 8];
const IN_FLIGHT: [usize; 3] = [1, 64, 512];

const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 100;

/// How long each figure is measured when nobody says.
const SECONDS: f64 = 2.0;

/// Longer than any call may take: what waits for it has gone wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kernel counts the time of a process in hundredths of a second.
const TICK_US: f64 = 10_000.0;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let endpoint = arguments.next().ok_or("usage: bridge_costs ENDPOINT [SECONDS]")?;
    let seconds = Duration::from_secs_f64(arguments.next().map_or(Ok(SECONDS), |text| text.parse())?);
    let client = connect(&endpoint)?;
    let keys: Vec<Bytes> = (0..KEYS).map(|number| Bytes::from(format!("bridge-{number:07}"))).collect();
    load(&client, &keys)?;
    for threads in THREADS {
        let before = processor_us();
        let (count, took) = wait(&client, &keys, threads, seconds)?;
        print("threads", threads, count, took, before);
    }
    for in_flight in IN_FLIGHT {
        let before = processor_us();
        let (count, took) = drain(&client, &keys, in_flight, seconds)?;
        print("in flight", in_flight, count, took, before);
    }
    Ok(())
}

fn connect(endpoint: &str) -> Result<Client, Failure> {
    let waiter = Waiter::new();
    bridge::connect(Client::builder().endpoints(endpoint), 0, &waiter)?;
    match answer(&waiter)? {
        Answer::Connected(client) => Ok(client),
        other => Err(format!("instead of a client there was {other:?}").into()),
    }
}

fn load(client: &Client, keys: &[Bytes]) -> Result<(), Failure> {
    let waiter = Waiter::new();
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let put = |key: &Bytes| PutEntry { key: key.clone(), value: value.clone(), context: None, ttl: None };
    for part in keys.chunks(1000) {
        let entries = part.iter().map(put).collect();
        client.default_bucket().ask(Ask::PutMany { entries }, &CallOptions::default(), 0, &waiter)?;
        let Answer::Writes(results) = answer(&waiter)? else { return Err("no results".into()) };
        results.into_iter().collect::<Result<Vec<_>, Error>>()?;
    }
    Ok(())
}

/// Each thread asks, and waits for the answer.
fn wait(client: &Client, keys: &[Bytes], threads: usize, seconds: Duration) -> Result<(usize, Duration), Failure> {
    let began = Instant::now();
    let one = |thread: usize| -> Result<usize, Failure> {
        let waiter = Waiter::new();
        let mut count = 0;
        while began.elapsed() < seconds {
            get(client, keys, count * threads + thread, &waiter)?;
            check(&answer(&waiter)?)?;
            count += 1;
        }
        Ok(count)
    };
    let counts: Result<Vec<usize>, Failure> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
    });
    Ok((counts?.iter().sum(), began.elapsed()))
}

/// One thread keeps so many calls under way, and is woken when answers are there.
fn drain(client: &Client, keys: &[Bytes], in_flight: usize, seconds: Duration) -> Result<(usize, Duration), Failure> {
    let (wake, woken) = mpsc::channel();
    let outbox = Outbox::new(move || _ = wake.send(()));
    let (began, mut asked, mut count) = (Instant::now(), 0, 0);
    let mut ended: Vec<Ended> = Vec::new();
    while began.elapsed() < seconds || count < asked {
        while asked - count < in_flight && began.elapsed() < seconds {
            get(client, keys, asked, &outbox)?;
            asked += 1;
        }
        if count < asked {
            woken.recv_timeout(PATIENCE)?;
        }
        outbox.drain(&mut ended);
        for one in ended.drain(..) {
            check(&one.result?)?;
            count += 1;
        }
    }
    Ok((count, began.elapsed()))
}

fn get<S: bridge::Sink + 'static>(client: &Client, keys: &[Bytes], number: usize, sink: &Arc<S>) -> Result<(), Error> {
    let ask = Ask::Get { key: keys[number % keys.len()].clone(), without_values: false };
    client.default_bucket().ask(ask, &CallOptions::default(), number as u64, sink).map(drop)
}

fn answer(waiter: &Waiter) -> Result<Answer, Failure> {
    Ok(waiter.wait(Instant::now() + PATIENCE).ok_or("there was no answer")??)
}

fn check(answer: &Answer) -> Result<(), Failure> {
    match answer {
        Answer::Read(Lookup::Found(found)) if found.value()?.len() == VALUE_BYTES => Ok(()),
        other => Err(format!("instead of the value there was {other:?}").into()),
    }
}

fn print(how: &str, many: usize, count: usize, took: Duration, before: Option<[f64; 2]>) {
    let rate = count as f64 / took.as_secs_f64();
    let [io_thread, process] = match (before, processor_us()) {
        (Some(before), Some(after)) => [0, 1].map(|at| (after[at] - before[at]) / count as f64),
        _ => [f64::NAN; 2],
    };
    println!(
        "{{\"how\": \"{how}\", \"many\": {many}, \"per_second\": {rate:.0}, \"io_thread_us\": {io_thread:.2}, \"process_us\": {process:.2}}}",
    );
}

/// What the I/O threads, and the process with threads that have ended, have had of the processors, in microseconds.
fn processor_us() -> Option<[f64; 2]> {
    let mut io_threads = 0.0;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        if fs::read_to_string(task.path().join("comm")).ok()?.starts_with("quorate-io") {
            let schedule = fs::read_to_string(task.path().join("schedstat")).ok()?;
            io_threads += schedule.split(' ').next()?.parse::<f64>().ok()? / 1000.0;
        }
    }
    let status = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold spaces: user and system time are the 12th and 13th field.
    let fields: Vec<f64> =
        status.rsplit(") ").next()?.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
    Some([io_threads, (fields.get(11)? + fields.get(12)?) * TICK_US])
}
