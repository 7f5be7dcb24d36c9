//! Waiting until nothing moves any more, with a line that says how far it is.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use dynamo::layout::{Member, MemberState};

use crate::cli::{
    client::{Answer, Session, Transfers, sleep},
    exit::{CommandError, Exit},
    output,
};

/// How often the nodes are asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a plain line is written where nobody can rewrite one.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Looks in a row at which nothing may move: a node that has just learned of a layout may not have begun.
const QUIET_LOOKS: u32 = 2;

/// How the whole ring stands with what moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Outlook {
    /// The newest epoch any node knows.
    epoch: u64,
    /// Partitions that nodes must still get or fill up.
    coming: u64,
    /// Partitions that nodes must still hand over and delete.
    going: u64,
    /// Copies of partitions of which more than one configuration may be active.
    unsettled: u64,
    /// Bytes received for moves since the nodes started.
    bytes_in: u64,
    bytes_per_second: u64,
    /// Nodes that count and do not answer, or do not know the newest layout.
    behind: Vec<String>,
}

impl Outlook {
    /// Asks all nodes. Those count that own partitions or shall, and of those that leave whoever answers: one that is dead hands
    /// over nothing.
    pub(in crate::cli) async fn look(session: &Session, epoch: u64) -> Self {
        let (nodes, layout) = (session.present(), session.layout());
        let answers = session.transfers(&nodes).await;
        let mut outlook = Self { epoch: epoch.max(layout.epoch), ..Self::default() };
        for transfers in answers.iter().flat_map(|answer| &answer.answer) {
            outlook.epoch = outlook.epoch.max(transfers.epoch);
        }
        for answer in &answers {
            let is_active = layout.member(answer.index).is_some_and(|member| member.state == MemberState::Active);
            match &answer.answer {
                Ok(transfers) => {
                    outlook.coming += u64::from(transfers.coming);
                    outlook.going += u64::from(transfers.going);
                    outlook.unsettled += u64::from(transfers.unsettled);
                    outlook.bytes_in += transfers.bytes_in;
                    outlook.bytes_per_second += transfers.bytes_per_second;
                    if transfers.epoch < outlook.epoch {
                        outlook.behind.push(answer.name.clone());
                    }
                }
                Err(_) if is_active => outlook.behind.push(answer.name.clone()),
                Err(_) => {}
            }
        }
        outlook
    }

    /// Whether nothing moves, as far as is known.
    fn is_quiet(&self) -> bool {
        self.coming + self.going + self.unsettled == 0
    }

    /// What a script may conclude.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match (self.is_quiet(), self.behind.is_empty()) {
            (false, _) => Exit::Different,
            (true, false) => Exit::Unavailable,
            (true, true) => Exit::Done,
        }
    }

    /// The line that says how far it is.
    fn line(&self, bytes_each: u64, bytes_before: u64) -> String {
        let mut line = format!(
            "epoch {}: {} partitions to come, {} to go, {} unsettled; {} received, {}/s",
            self.epoch,
            output::grouped(self.coming),
            output::grouped(self.going),
            output::grouped(self.unsettled),
            output::bytes(self.bytes_in.saturating_sub(bytes_before)),
            output::bytes(self.bytes_per_second),
        );
        if let Some(seconds) = seconds_left(self.coming, bytes_each, self.bytes_per_second) {
            line.push_str(&format!(", about {} remain", output::duration(seconds)));
        }
        if !self.behind.is_empty() {
            line.push_str(&format!("; waiting for {}", self.behind.join(", ")));
        }
        line
    }
}

/// About how long partitions that are of this size will be on their way; `None` when nothing comes, or nobody knows.
pub(super) fn seconds_left(coming: u64, bytes_each: u64, bytes_per_second: u64) -> Option<u64> {
    let seconds = (coming * bytes_each).checked_div(bytes_per_second)?;
    (coming > 0).then_some(seconds.max(1))
}

/// Waits until nothing moves any more under this epoch or a later one, as long as there is patience for.
pub(in crate::cli) async fn wait(session: &Session, epoch: u64, patience: Duration) -> Result<Exit, CommandError> {
    let until = Instant::now() + patience;
    let bytes_each = bytes_of_a_copy(session).await;
    let mut line = Line::default();
    let (mut quiet, mut bytes_before) = (0, None);
    loop {
        let outlook = Outlook::look(session, epoch).await;
        let bytes_before = *bytes_before.get_or_insert(outlook.bytes_in);
        let exit = outlook.exit();
        quiet = if exit == Exit::Done { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            line.finish();
            eprintln!("epoch {}: every partition is where it belongs", outlook.epoch);
            let answers = session.transfers(&session.present()).await;
            parted(session, &answers).await.iter().for_each(|name| eprintln!("{}", farewell(name)));
            return Ok(Exit::Done);
        }
        if Instant::now() >= until {
            line.finish();
            eprintln!("quorate: gave up waiting; the moves go on\n  next: quorate ring transfers");
            return Ok(exit);
        }
        if quiet == 0 {
            line.show(&outlook.line(bytes_each, bytes_before));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The names of the nodes that leave and have handed over everything, partitions and hints.
pub(super) async fn parted(session: &Session, answers: &[Answer<Transfers>]) -> Vec<String> {
    let layout = session.layout();
    let is_leaving = |index| layout.member(index).is_some_and(|member: &Member| member.state == MemberState::Leaving);
    let is_done = |moves: &Transfers| moves.epoch >= layout.epoch && moves.coming + moves.going + moves.unsettled == 0;
    let done = answers.iter().filter(|answer| is_leaving(answer.index) && answer.answer.as_ref().is_ok_and(is_done));
    let done: Vec<_> = done.map(|answer| answer.index).collect();
    let repairs = session.repair_status(&done).await.into_iter();
    let free = repairs.filter(|repair| {
        repair.answer.as_ref().is_ok_and(|status| status.hints.iter().all(|backlog| backlog.objects == 0))
    });
    free.map(|Answer { name, .. }| name).collect()
}

/// What is said of such a node.
pub(super) fn farewell(name: &str) -> String {
    format!("{name} has left the ring, and may be stopped")
}

/// About how many bytes a copy of a partition has; 0 when nobody says.
pub(super) async fn bytes_of_a_copy(session: &Session) -> u64 {
    let layout = session.layout();
    let copies: usize = (0..layout.partitions()).map(|partition| layout.owners(partition).count()).sum();
    let bytes = session.staging().await.map_or(0, |staging| staging.bytes);
    bytes.checked_div(copies as u64).unwrap_or(0)
}

/// A line on standard error: rewritten on a terminal, now and then a new one elsewhere.
#[derive(Debug, Default)]
struct Line {
    written: Option<Instant>,
}

impl Line {
    fn show(&mut self, text: &str) {
        if stderr().is_terminal() {
            // Back to the beginning, and what was there erased.
            eprint!("\r\x1b[K{text}");
            let _ = stderr().flush();
        } else if self.written.is_none_or(|written| written.elapsed() >= LINE_EVERY) {
            eprintln!("{text}");
        } else {
            return;
        }
        self.written = Some(Instant::now());
    }

    fn finish(&self) {
        if stderr().is_terminal() && self.written.is_some() {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Outlook};

    #[test]
    fn the_line_says_how_long_it_will_take() {
        let outlook = Outlook {
            epoch: 2,
            coming: 100,
            unsettled: 300,
            bytes_in: 5 << 20,
            bytes_per_second: 1 << 20,
            ..Outlook::default()
        };
        let line = outlook.line(1 << 20, 1 << 20);
        assert!(line.contains("4.0 MiB received, 1.0 MiB/s, about 1m 40s remain"), "{line}");
        assert!(!Outlook::default().line(1, 0).contains("remain"));
    }

    #[test]
    fn scripts_learn_whether_it_is_over_and_whether_anybody_is_missing() {
        let behind = || vec!["n2".to_owned()];
        assert_eq!(Outlook::default().exit(), Exit::Done);
        assert_eq!(Outlook { behind: behind(), ..Outlook::default() }.exit(), Exit::Unavailable);
        assert_eq!(Outlook { unsettled: 1, behind: behind(), ..Outlook::default() }.exit(), Exit::Different);
    }
}
