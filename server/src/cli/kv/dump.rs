//! `quorate kv dump`: every key and value as JSON lines that `kv load` takes, resumable.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use dynamo::{
    ident::{BUCKET_DEFAULT, StoreKey},
    layout::Layout,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::signal::ctrl_c;

use super::{
    pipeline::{Stop, Verdict},
    retry::Patience,
    state::StateFile,
};
use crate::cli::{
    arguments::{self, Cluster, Replicas},
    client::{self, Failure, ScanOptions, ScannedKey, Session},
    exit::{CommandError, Exit},
    jsonl::Record,
    notation::{self, Notation},
    output,
    progress::{Progress, Unit},
};

/// What the name of a state file ends in.
const STATE_SUFFIX: &str = ".dump-state";

/// Write every key and value as JSON lines.
#[derive(Debug, Args)]
#[command(
    after_help = "What is written can be loaded with `quorate kv load`. A key is one line; concurrent values share it, under \
\"values\". As many owners as a read waits for are asked which keys there are, and each key is read at that level.

Examples:
  quorate kv dump --to all.jsonl
  quorate kv dump --bucket carts | gzip > carts.jsonl.gz"
)]
pub(super) struct Dump {
    /// The file to write; standard output if none is named.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Only this bucket; all of them if none is named.
    #[arg(long, short, value_name = "NAME", value_parser = arguments::bucket)]
    bucket: Option<String>,

    /// Go on where an earlier dump to this file was cut off.
    #[arg(long, requires = "to")]
    resume: bool,

    /// How long to try again when too few nodes answer, before giving up.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = arguments::duration)]
    patience: Duration,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

/// How often the state for resumption is saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How far a dump has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DumpState {
    /// The store key of the last key that was written, in hexadecimal digits; empty before the first. Keys come in the
    /// order of store keys, whatever the ring looks like.
    last: String,
    /// How long the file was then. What stands behind is cut off and written again.
    bytes: u64,
    /// Keys written so far.
    records: u64,
}

impl Dump {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(self.dump())
    }

    async fn dump(self) -> Result<Exit, CommandError> {
        let session = Session::connect(&self.cluster).await?;
        let layout = session.layout();
        let state_file = self.to.as_ref().map(|path| StateFile::beside(path, STATE_SUFFIX));
        let start = self.start(state_file.as_ref())?;
        let mut dumper = Dumper {
            out: self.output(&start)?,
            state_file,
            last: start.last()?,
            saved: Instant::now(),
            records_before: start.records,
            done: 0,
        };
        let first = dumper.last.map_or(0, |key| layout.partition(&key.id()));
        let partitions = u64::from(layout.partitions());
        let mut progress = Progress::new("dumping", Unit::Partitions, Some(partitions), u64::from(first));
        let ended = tokio::select! {
            ended = self.transfer(&session, &layout, &mut dumper, &mut progress) => ended,
            _ = ctrl_c() => Err(CommandError::new(Exit::Interrupted, "interrupted before the end")),
        };
        progress.finish();
        if let Err(mut error) = ended {
            // A reader that has gone ends it quietly; whatever else failed, the state stays.
            if let (Some(path), true) = (&self.to, dumper.save().is_ok()) {
                error.next = Some(format!("quorate kv dump --to {} --resume", path.display()));
            }
            return Err(error);
        }
        dumper.out.flush()?;
        dumper.state_file.as_ref().map_or(Ok(()), StateFile::remove)?;
        session.close().await;
        let seconds = progress.elapsed().as_secs_f64().max(1e-9);
        eprintln!(
            "{} keys ({}) dumped in {seconds:.1} s: {} keys/s",
            output::grouped(dumper.records_before + dumper.done),
            output::bytes(dumper.out.bytes),
            output::grouped((dumper.done as f64 / seconds) as u64),
        );
        Ok(Exit::Done)
    }

    /// Writes every key after the last one; begins anew behind it when a scan fails and may be repeated.
    async fn transfer(
        &self,
        session: &Session,
        layout: &Layout,
        dumper: &mut Dumper,
        progress: &mut Progress,
    ) -> Result<(), CommandError> {
        let mut patience = Patience::new(self.patience);
        loop {
            let began_after = dumper.last;
            let Err(failure) = self.scan(session, layout, dumper, progress).await? else { return Ok(()) };
            if dumper.last != began_after {
                // It went on, so the patience begins again.
                patience = Patience::new(self.patience);
            }
            match patience.after(failure.clone(), &Stop::never()).await {
                Ok(()) => {}
                // A dump that leaves out what can't be read would look complete.
                Err(Verdict::Stop(_) | Verdict::Refused(_) | Verdict::Done) => return Err(failure.into()),
            }
        }
    }

    /// One scan. The outer error ends the command, the inner one may be worth another scan.
    async fn scan(
        &self,
        session: &Session,
        layout: &Layout,
        dumper: &mut Dumper,
        progress: &mut Progress,
    ) -> Result<Result<(), Failure>, CommandError> {
        let mut keys = std::pin::pin!(session.scan(&ScanOptions {
            bucket: self.bucket.as_deref(),
            values: true,
            first_partition: dumper.last.map_or(0, |key| layout.partition(&key.id())),
            consistency: self.replicas.consistency(),
        }));
        while let Some(key) = keys.next().await {
            let key = match key {
                Ok(key) => key,
                Err(failure) => return Ok(Err(failure)),
            };
            if dumper.last.is_some_and(|last| key.address.store_key <= last) {
                continue;
            }
            let partition = layout.partition(&key.address.store_key.id());
            dumper.write(key)?;
            progress.show(u64::from(partition), dumper.done);
        }
        Ok(Ok(()))
    }

    fn start(&self, state_file: Option<&StateFile>) -> Result<DumpState, CommandError> {
        let Some(file) = state_file.filter(|_| self.resume) else { return Ok(DumpState::default()) };
        let state = file.read::<DumpState>()?;
        if state.is_none() {
            eprintln!("nothing to resume ({} is not there): dumping from the beginning", file.path().display());
        }
        Ok(state.unwrap_or_default())
    }

    fn output(&self, start: &DumpState) -> Result<Output, CommandError> {
        let Some(path) = &self.to else {
            return Ok(Output { out: BufWriter::new(Box::new(io::stdout())), bytes: 0 });
        };
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).truncate(start.bytes == 0).write(true).open(path)?;
            if file.metadata()?.len() < start.bytes {
                return Err(io::Error::other(
                    "it is shorter than when the dump was cut off; begin again without --resume",
                ));
            }
            // What stands behind the place of resumption may end in half a line.
            file.set_len(start.bytes)?;
            file.seek(SeekFrom::Start(start.bytes))?;
            Ok(file)
        };
        let file = open().map_err(|error| CommandError::file("write", path, &error))?;
        Ok(Output { out: BufWriter::new(Box::new(file)), bytes: start.bytes })
    }
}

/// The writing side.
struct Dumper {
    out: Output,
    state_file: Option<StateFile>,
    /// The last key that was written.
    last: Option<StoreKey>,
    saved: Instant,
    /// Keys that earlier runs wrote.
    records_before: u64,
    /// Keys that this run wrote.
    done: u64,
}

impl Dumper {
    fn write(&mut self, key: ScannedKey) -> Result<(), CommandError> {
        let bucket = (key.bucket != BUCKET_DEFAULT).then_some(key.bucket);
        // A key that was deleted while it was listed has no values and no line.
        if !key.values.is_empty() {
            Record { bucket, key: key.address.key, values: key.values }.write(&mut self.out)?;
            self.done += 1;
        }
        self.last = Some(key.address.store_key);
        if self.saved.elapsed() >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), CommandError> {
        self.saved = Instant::now();
        self.out.flush()?;
        let state = DumpState {
            last: self.last.map_or(String::new(), |key| format!("{key:?}")),
            bytes: self.out.bytes,
            records: self.records_before + self.done,
        };
        self.state_file.as_ref().map_or(Ok(()), |file| file.write(&state))
    }
}

impl DumpState {
    fn last(&self) -> Result<Option<StoreKey>, CommandError> {
        if self.last.is_empty() {
            return Ok(None);
        }
        let digits = notation::parse("last key of the state", &self.last, Notation::Hex)?;
        let key: Result<[u8; 32], _> = digits.as_ref().try_into();
        key.map(|key| Some(StoreKey(key))).map_err(|_| {
            CommandError::new(Exit::Failed, "the state of the dump is damaged: begin again without --resume")
        })
    }
}

/// Where lines go, with their length.
struct Output {
    out: BufWriter<Box<dyn Write>>,
    bytes: u64,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use dynamo::ident::StoreKey;

    use super::DumpState;

    #[test]
    fn the_last_key_survives_its_text() {
        let key = StoreKey::of(b"default", b"ann");
        let state = DumpState { last: format!("{key:?}"), ..DumpState::default() };
        assert_eq!(state.last().unwrap(), Some(key));
        assert_eq!(DumpState::default().last().unwrap(), None);
        assert!(DumpState { last: "abcd".into(), ..DumpState::default() }.last().is_err());
    }
}
