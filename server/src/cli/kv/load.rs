//! `quorate kv load`: many records from JSON lines into the cluster, resumable, with a reason for every record left out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use dynamo::operation::{Basis, Consistency};
use serde_json::json;

use super::{
    pipeline::{self, Counts, End, Observer, Rejects, Stop, Verdict, Work},
    retry::Patience,
    source::{Source, describe},
    state::{LoadState, StateFile},
};
use crate::cli::{
    arguments::{self, Bucket, Cluster, Replicas},
    client::{self, Key, Session},
    exit::{CommandError, Exit},
    jsonl::{Place, Record},
    output::{self, Output},
    progress::{Progress, Unit},
};

/// What the name of a state file ends in.
const STATE_SUFFIX: &str = ".load-state";

/// Load records from JSON lines: {"key":…,"value":…}, also key_base64, value_base64, bucket.
#[derive(Debug, Args)]
#[command(
    after_help = "A line is one key: {\"key\":\"ann\",\"value\":\"text\"}. Bytes that are not UTF-8 stand in key_base64 and \
value_base64; \"bucket\" names another bucket; \"values\" (or values_base64) is a list of concurrent values.
Lines of one key are written in their order: the last one wins. Every key is read first, so that its line replaces what the \
cluster holds and not only what one node knows of; so loading a file twice changes nothing. --blind leaves that out.
A load that was cut off goes on with --resume; at most the last second is done again.

Examples:
  quorate kv load index.jsonl
  quorate kv load index.jsonl --level all --rejects refused.jsonl
  zcat dump.jsonl.gz | quorate kv load -"
)]
pub(super) struct Load {
    /// The file of JSON lines; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    bucket: Bucket,

    /// Go on where an earlier load of this file was cut off.
    #[arg(long)]
    resume: bool,

    /// Where to keep what --resume needs; FILE.load-state if not named, nowhere for standard input.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Do not read keys before they are written: faster, and right for keys that are new. A key that is not, and whose last
    /// write one of its nodes has missed, may then keep its old value beside the new one.
    #[arg(long)]
    blind: bool,

    #[command(flatten)]
    bulk: Bulk,

    #[command(flatten)]
    replicas: Replicas,

    #[command(flatten)]
    cluster: Cluster,
}

/// Arguments of commands that work on many records.
#[derive(Debug, Args)]
pub(super) struct Bulk {
    /// Records under way at once.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = clap::value_parser!(u16).range(1..=16384))]
    pub(super) in_flight: u16,

    /// How long to try again when too few nodes answer, before giving up.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = arguments::duration)]
    pub(super) patience: Duration,

    /// Write each refused record's line number and reason to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(super) rejects: Option<PathBuf>,
}

impl Load {
    /// Carries out the command.
    pub(super) fn run(self) -> Result<Exit, CommandError> {
        client::block_on(self.load())
    }

    async fn load(self) -> Result<Exit, CommandError> {
        let state_file = match &self.state {
            Some(path) => Some(StateFile::at(path)),
            None => (self.file != Path::new("-")).then(|| StateFile::beside(&self.file, STATE_SUFFIX)),
        };
        let earlier = self.earlier(state_file.as_ref())?;
        let start = earlier.as_ref().map_or(Ok(Place::default()), |state| state.place(&self.file))?;
        let (source, length) = Source::open(&self.file, start)?;
        let session = Session::connect(&self.cluster).await?;
        let work = Writer {
            session: &session,
            bucket: &self.bucket.bucket,
            consistency: self.replicas.consistency(),
            patience: self.bulk.patience,
            blind: self.blind,
        };
        let observer = Saver {
            input: &self.file,
            state_file: state_file.as_ref(),
            rejects: Rejects::open(self.bulk.rejects.as_deref(), self.resume)?,
            refused_before: earlier.map_or(0, |state| state.refused),
        };
        let mut progress = Progress::new("loading", Unit::Bytes, length, start.end_offset);
        let in_flight = usize::from(self.bulk.in_flight);
        let (end, counts) = pipeline::run(&source, &work, in_flight, start, observer, &mut progress).await?;
        session.close().await;
        self.conclude(end, counts, progress.elapsed(), state_file.as_ref())
    }

    /// What an earlier load left, if this one is to go on from there.
    fn earlier(&self, state_file: Option<&StateFile>) -> Result<Option<LoadState>, CommandError> {
        let Some(state_file) = state_file else {
            return match self.resume {
                true => {
                    Err(CommandError::usage("standard input has no state beside it").next("--state FILE, both times"))
                }
                false => Ok(None),
            };
        };
        let state = state_file.read::<LoadState>();
        match (self.resume, state) {
            (true, Ok(None)) => {
                eprintln!(
                    "nothing to resume ({} is not there): loading from the beginning",
                    state_file.path().display()
                );
                Ok(None)
            }
            (true, state) => state,
            (false, Ok(Some(state))) => {
                eprintln!("note: an earlier load ended at line {}; --resume would go on from there", state.line);
                Ok(None)
            }
            (false, Ok(None) | Err(_)) => Ok(None),
        }
    }

    fn conclude(
        &self,
        end: End,
        counts: Counts,
        took: Duration,
        state_file: Option<&StateFile>,
    ) -> Result<Exit, CommandError> {
        let resume = state_file.map(|_| {
            let state = self.state.as_ref().map_or(String::new(), |path| format!(" --state {}", path.display()));
            format!("quorate kv load {} --resume{state}", self.file.display())
        });
        let seconds = took.as_secs_f64().max(1e-9);
        match self.cluster.form.output {
            Output::Table => output::print_line(format_args!(
                "{} records ({}) loaded from {} in {:.1} s: {} records/s, {}/s; {} refused",
                output::grouped(counts.done),
                output::bytes(counts.bytes),
                describe(&self.file).display(),
                seconds,
                output::grouped((counts.done as f64 / seconds) as u64),
                output::bytes((counts.bytes as f64 / seconds) as u64),
                output::grouped(counts.refused),
            ))?,
            Output::Json => output::print_json(&json!({
                "loaded": counts.done,
                "refused": counts.refused,
                "bytes": counts.bytes,
                "seconds": seconds,
                "records_per_second": counts.done as f64 / seconds,
                "complete": matches!(end, End::Complete),
            }))?,
        }
        match end {
            End::Complete => {
                state_file.map_or(Ok(()), StateFile::remove)?;
                Ok(if counts.refused == 0 { Exit::Done } else { Exit::Different })
            }
            End::Interrupted => {
                let error = CommandError::new(Exit::Interrupted, "interrupted before the end");
                Err(resume.map_or_else(|| CommandError::new(Exit::Interrupted, "interrupted"), |next| error.next(next)))
            }
            End::Stopped(mut error) => {
                error.next = resume.or(error.next);
                Err(error)
            }
        }
    }
}

/// Writes records.
struct Writer<'a> {
    session: &'a Session,
    bucket: &'a str,
    consistency: Consistency,
    patience: Duration,
    blind: bool,
}

impl Work for Writer<'_> {
    async fn one(&self, record: Record, stop: &Stop) -> Verdict {
        let bucket = record.bucket.as_deref().unwrap_or(self.bucket);
        let key = Key { bucket, key: &record.key };
        let mut patience = Patience::new(self.patience);
        let mut blind = self.blind;
        loop {
            let basis = match blind {
                true => Basis::Local,
                false => match self.basis(key, &mut patience, stop).await {
                    Ok(basis) => basis,
                    Err(verdict) => return verdict,
                },
            };
            let failure = match self.write(key, &record, basis).await {
                Ok(()) => return Verdict::Done,
                Err(failure) => failure,
            };
            // What may have been written must not stay beside what is written now.
            blind &= !failure.maybe_applied && record.values.len() == 1;
            if let Err(verdict) = patience.after(failure, stop).await {
                return verdict;
            }
        }
    }
}

impl Writer<'_> {
    /// What a line replaces: what stands under its key now.
    async fn basis(&self, key: Key<'_>, patience: &mut Patience, stop: &Stop) -> Result<Basis, Verdict> {
        loop {
            match self.session.basis(key, self.consistency).await {
                Ok(basis) => return Ok(basis),
                Err(failure) => patience.after(failure, stop).await?,
            }
        }
    }

    /// Writes the first value over what is there and the others beside it.
    async fn write(&self, key: Key<'_>, record: &Record, basis: Basis) -> Result<(), client::Failure> {
        let mut basis = basis;
        for value in &record.values {
            self.session.put(key, value.clone(), basis, self.consistency).await?;
            basis = Basis::Beside;
        }
        Ok(())
    }
}

/// Keeps the state for a resumed load.
struct Saver<'a> {
    input: &'a Path,
    state_file: Option<&'a StateFile>,
    rejects: Rejects,
    refused_before: u64,
}

impl Observer for Saver<'_> {
    fn refused(&mut self, place: Place, reason: &str) -> Result<(), CommandError> {
        self.rejects.report(place, reason)
    }

    fn save(&mut self, done: Place, counts: &Counts) -> Result<(), CommandError> {
        // First the reports, then the state that says they are made.
        self.rejects.flush()?;
        if let Some(file) = self.state_file {
            file.write(&LoadState::new(self.input, done, self.refused_before + counts.refused)?)?;
        }
        Ok(())
    }
}
