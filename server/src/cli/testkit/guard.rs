//! What ends a test cluster when `quorate testkit` itself is killed and can do nothing any more: another process of this
//! executable, which waits for the end of a pipe that only the first one holds, ends nodes that are left, paused ones too, and
//! removes the cluster's folder. Nothing is left for it to do when all went well.

use std::{
    env, fs,
    io::{self, ErrorKind},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::exit::{CommandError, Exit};

/// How the names of folders begin that a guard may remove.
pub(super) const FOLDER_PREFIX: &str = "quorate-testkit-";

/// How often it tries to remove a folder in which processes that are just ending may still make files, and the pause between.
const REMOVALS: usize = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// A running guard. Dropping it lets it go.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Sets a guard on the folder of a cluster.
    pub(super) fn start(folder: &Path) -> Result<Self, CommandError> {
        let executable = env::current_exe()?;
        let started = Command::new(&executable)
            .args(["testkit", "--guard"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever kills the group of the first process shall not hit it.
            .process_group(0)
            .spawn();
        started.map(Self).map_err(|error| CommandError::file("start", &executable, &error))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends at once: there is nothing left to do.
        let _ = self.0.wait();
    }
}

/// Is the guard of a folder.
pub(super) fn stand(folder: &Path) -> Result<Exit, CommandError> {
    let is_ours = folder.file_name().is_some_and(|name| name.as_bytes().starts_with(FOLDER_PREFIX.as_bytes()));
    if !is_ours {
        return Err(CommandError::usage(format!("{} is not the folder of a test cluster", folder.display())));
    }
    io::copy(&mut io::stdin(), &mut io::sink())?;
    for _ in 0..REMOVALS {
        end_nodes(folder)?;
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => thread::sleep(REMOVAL_PAUSE),
            _ => return Ok(Exit::Done),
        }
    }
    Err(CommandError::new(Exit::Failed, format!("can't remove {}", folder.display())))
}

/// Kills every process that runs a configuration of this folder.
fn end_nodes(folder: &Path) -> io::Result<()> {
    let wanted = [b"\0--config\0", folder.as_os_str().as_bytes(), b"/"].concat();
    for entry in fs::read_dir("/proc")?.flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // A process that has just ended has no command line.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(process) = process
            && line.windows(wanted.len()).any(|window| window == wanted)
        {
            // It may have ended by itself meanwhile.
            let _ = kill_process(process, Signal::KILL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::stand;

    #[test]
    fn a_folder_that_is_no_test_clusters_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        assert!(stand(folder.path()).unwrap_err().message.contains("not the folder"));
        assert!(folder.path().exists());
    }
}
