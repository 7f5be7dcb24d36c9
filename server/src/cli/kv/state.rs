//! What a bulk command leaves behind so that it can go on where it was cut off: a small file, replaced atomically.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use dynamo::ident::Id;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cli::{
    exit::{CommandError, Exit},
    jsonl::Place,
};

/// How many bytes before the place of resumption are compared with what was there.
const FINGERPRINT_BYTES: u64 = 64 << 10;

/// A file that holds the state of a command between runs.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The state beside a file of data: `index.jsonl` has `index.jsonl.load-state`.
    pub(super) fn beside(data: &Path, suffix: &str) -> Self {
        let mut name = data.as_os_str().to_owned();
        name.push(suffix);
        Self { path: name.into() }
    }

    /// The state in a file somebody chose.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state, if there is one.
    pub(super) fn read<S: DeserializeOwned>(&self) -> Result<Option<S>, CommandError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CommandError::file("read", &self.path, &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            CommandError::new(Exit::Failed, format!("{} is no state of this command: {error}", self.path.display()))
                .next(format!("rm {}, and begin again without --resume", self.path.display()))
        })
    }

    /// Replaces the state. A crash leaves the old or the new one.
    pub(super) fn write(&self, state: &impl Serialize) -> Result<(), CommandError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let written = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, state)?;
            file.write_all(b"\n")?;
            fs::rename(&new, &self.path)
        };
        written().map_err(|error| {
            CommandError::file("write the state for --resume to", &self.path, &error).next("--state FILE elsewhere")
        })
    }

    /// Removes the state: the command is done.
    pub(super) fn remove(&self) -> Result<(), CommandError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CommandError::file("remove", &self.path, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// How far a load has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadState {
    /// Everything before this byte is done.
    pub(super) offset: u64,
    /// How many lines that is.
    pub(super) line: u64,
    /// A digest of the bytes before `offset`, to notice another file; empty for standard input.
    pub(super) fingerprint: String,
    /// Records that were refused so far.
    pub(super) refused: u64,
}

impl LoadState {
    /// The state after everything up to `place` is done.
    pub(super) fn new(input: &Path, place: Place, refused: u64) -> io::Result<Self> {
        Ok(Self {
            offset: place.end_offset,
            line: place.line,
            fingerprint: fingerprint(input, place.end_offset)?,
            refused,
        })
    }

    /// The place to go on from, if the input is still what it was.
    pub(super) fn place(&self, input: &Path) -> Result<Place, CommandError> {
        let now = fingerprint(input, self.offset).map_err(|error| CommandError::file("read", input, &error))?;
        if now != self.fingerprint {
            let message = format!("{} is not the file that was being loaded", input.display());
            return Err(CommandError::usage(message).next("load it from its beginning, without --resume"));
        }
        Ok(Place { line: self.line, end_offset: self.offset })
    }
}

/// A digest of what stands before an offset of a file; empty for anything that is not a file.
fn fingerprint(input: &Path, offset: u64) -> io::Result<String> {
    if input == Path::new("-") || !fs::metadata(input)?.is_file() {
        return Ok(String::new());
    }
    let mut file = File::open(input)?;
    let from = offset.saturating_sub(FINGERPRINT_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(offset - from).read_to_end(&mut bytes)?;
    Ok(Id::of(offset.to_string().as_bytes(), &bytes).to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LoadState, StateFile};
    use crate::cli::jsonl::Place;

    #[test]
    fn a_state_is_found_again_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::beside(&folder.path().join("data.jsonl"), ".load-state");
        assert_eq!(file.read::<LoadState>().unwrap(), None);
        let state = LoadState { offset: 7, line: 1, fingerprint: "f".into(), refused: 2 };
        file.write(&state).unwrap();
        assert_eq!(file.read().unwrap(), Some(state));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_changed_is_not_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        fs::write(&data, "one\ntwo\n").unwrap();
        let place = Place { line: 1, end_offset: 4 };
        let state = LoadState::new(&data, place, 0).unwrap();
        // What comes after the place may be written later.
        fs::write(&data, "one\ntwo\nthree\n").unwrap();
        assert_eq!(state.place(&data).unwrap(), place);
        for changed in ["ONE\ntwo\n", "one", ""] {
            fs::write(&data, changed).unwrap();
            assert!(state.place(&data).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn nonsense_is_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::at(&folder.path().join("state"));
        fs::write(file.path(), "{}").unwrap();
        assert!(file.read::<LoadState>().is_err());
    }
}
