//! One process per data directory. LMDB trusts its users to follow that rule; this lock makes them.
//!
//! The lock is the kernel's (`flock`), so it ends with its holder, however that dies. What the file says is only for the
//! people who read the refusal.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

use super::error::OpenError;

/// The name of the lock file inside a data directory.
pub(super) const LOCK_FILE: &str = "LOCK";

/// Far longer than the end of a process takes, and short enough for whoever waits to be told.
const PATIENCE: Duration = Duration::from_millis(500);

/// The lock on a data directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory, or says who has it.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io(&path, "could not open the lock file"))?;
        match take_patiently(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // What can't be read is left out: the refusal stands either way.
                let _ = file.read_to_string(&mut owner);
                let owner = owner.lines().next().unwrap_or_default().trim();
                let owner = if owner.is_empty() { "(unknown)".to_owned() } else { owner.to_owned() };
                return Err(OpenError::Locked { path: directory.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Io { path, action: "could not take the lock", source });
            }
        }
        let text = format!("{} (boot {})\n", process::id(), boot_id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(OpenError::io(&path, "could not write the lock file"))?;
        Ok(Self { _file: file })
    }
}

/// Tries for a moment: the holder may be about to end, or a child of its may hold a copy between its fork and its exec.
fn take_patiently(file: &File) -> Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => thread::sleep(PATIENCE / 50),
            result => return result,
        }
    }
}

/// Tells whether a process number in a lock file can still mean anything: they start again at every boot.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
