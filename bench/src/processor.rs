//! Processor time, as the kernel accounts for it: what an operation costs, however busy the machine is otherwise.

use std::{fs, time::Duration};

/// The kernel's unit for processor time in /proc; it has been a hundredth of a second for as long as there was such a file.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that a process has taken, all threads together; `None` where there is no /proc or no such process.
pub fn time_of(process: u32) -> Option<Duration> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks(&status).map(|ticks| TICK * ticks)
}

/// User and system time: the 14th and 15th field. The second one is a name in parentheses that may hold anything.
fn ticks(status: &str) -> Option<u32> {
    let after_name = &status[status.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::{ticks, time_of};

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let status = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3";
        assert_eq!(ticks(status), Some(300));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_a_time() {
        assert!(time_of(std::process::id()).is_some());
        assert!(time_of(u32::MAX).is_none());
    }
}
