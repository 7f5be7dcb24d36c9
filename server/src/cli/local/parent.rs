//! The node's side of dying with whoever started it: standard input is a pipe that only the parent holds the other end of.

use std::{
    io::{self, Read},
    thread,
};

use rustix::process::{Signal, getpid, kill_process};

/// Takes the end of standard input for SIGTERM: it comes when the parent ends, however it does.
pub(in crate::cli) fn end_when_stdin_closes() -> io::Result<()> {
    let watch = || {
        let mut buffer = [0; 256];
        loop {
            match io::stdin().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                // Nobody has anything to say here.
                Ok(_) => {}
            }
        }
        tracing::info!("standard input has closed: whoever started this node has ended");
        if kill_process(getpid(), Signal::TERM).is_err() {
            std::process::exit(1);
        }
    };
    thread::Builder::new().name("watch-stdin".into()).spawn(watch).map(|_| ())
}
