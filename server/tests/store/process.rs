//! Parts of tests that run in a process of their own, to be killed or to die there: this binary again, in a role.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Which part a child process plays; unset in the test's own process.
const ROLE: &str = "QUORATE_STORE_TEST_ROLE";
const DIRECTORY: &str = "QUORATE_STORE_TEST_DIRECTORY";

/// A process that runs the test `name` of this binary again, in a role. Its standard output is a pipe.
pub(crate) fn command(name: &str, role: &str, directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role).env(DIRECTORY, directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// The role of this process and its directory, if it is a child.
pub(crate) fn role() -> Option<(String, PathBuf)> {
    Some((env::var(ROLE).ok()?, env::var_os(DIRECTORY)?.into()))
}

/// A child that is killed and waited for when the test is done with it, also when it fails.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says a line to the test that started this process, past the test harness's own output.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{SAID}{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What a child says, without what the test harness says. Ends when the child does.
pub(crate) fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
    // A line that a killed child did not finish is no line.
    lines.map_while(Result::ok).filter_map(|line| line.split_once(SAID).map(|(_, said)| said.to_owned()))
}

const SAID: &str = "said: ";

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
