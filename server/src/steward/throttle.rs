//! How much of its full speed background work has (paper, section 6.5): halved whenever clients wait longer than they should,
//! given back step by step when they don't, and never less than the floor.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use dynamo::steward::Input;

use super::{Driver, pulse::Counted};

/// How often the share is decided.
const EVERY: Duration = Duration::from_millis(500);

/// Calls are looked at over so many decisions: seconds, so that one hiccup weighs little and yet a burst is noticed.
const WINDOW: usize = 4;

/// The least share, in thousandths: repair that starves ends with data lost.
pub(super) const FLOOR_PERMILLE: u32 = 20;

/// What is given back at once, in thousandths: from the floor to full speed in ten seconds.
const STEP_PERMILLE: u32 = 50;

/// Between this part of the target and the target nothing changes.
const CALM_PERCENT: u32 = 80;

/// The controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    target: Duration,
    share_permille: u32,
}

impl Throttle {
    /// At full speed, for clients whose calls shall take no longer than `target`, 99 of 100 of them.
    pub(super) fn new(target: Duration) -> Self {
        Self { target, share_permille: 1_000 }
    }

    /// Decides the share, in thousandths, from what 99 of 100 calls took lately; `None` if there were next to none.
    pub(super) fn decide(&mut self, p99: Option<Duration>) -> u32 {
        let share = self.share_permille;
        self.share_permille = match p99 {
            Some(p99) if p99 > self.target => (share / 2).max(FLOOR_PERMILLE),
            Some(p99) if p99 > self.target * CALM_PERCENT / 100 => share,
            Some(_) | None => (share + STEP_PERMILLE).min(1_000),
        };
        self.share_permille
    }
}

/// Decides, for ever.
pub(super) async fn control(driver: Rc<Driver>) {
    let target = Duration::from_millis(u64::from(driver.node.config.background.target_ms));
    let mut throttle = Throttle::new(target);
    let mut window = VecDeque::from([Counted::of(driver.node.pulses.iter())]);
    let mut before = 1_000;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Counted::of(driver.node.pulses.iter());
        let share = throttle.decide(window.front().and_then(|earlier| now.p99_since(earlier)));
        window.push_back(now);
        if window.len() > WINDOW {
            window.pop_front();
        }
        if share != before {
            before = share;
            driver.share.set(share);
            driver.tell([Input::Share { permille: share }]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FLOOR_PERMILLE, Throttle};

    const TARGET: Duration = Duration::from_millis(50);
    const SLOW: Option<Duration> = Some(Duration::from_millis(51));
    const NEAR: Option<Duration> = Some(Duration::from_millis(45));
    const FAST: Option<Duration> = Some(Duration::from_millis(5));

    #[test]
    fn slow_clients_halve_it_down_to_the_floor_and_not_below() {
        let mut throttle = Throttle::new(TARGET);
        let shares: Vec<u32> = (0..8).map(|_| throttle.decide(SLOW)).collect();
        assert_eq!(shares[..3], [500, 250, 125]);
        assert_eq!(shares[7], FLOOR_PERMILLE);
    }

    #[test]
    fn it_comes_back_step_by_step_when_clients_are_fast_or_gone_and_rests_near_the_target() {
        let mut throttle = Throttle::new(TARGET);
        assert_eq!((0..8).map(|_| throttle.decide(SLOW)).last(), Some(FLOOR_PERMILLE));
        assert_eq!(throttle.decide(NEAR), FLOOR_PERMILLE);
        assert_eq!(throttle.decide(FAST), FLOOR_PERMILLE + 50);
        assert_eq!((0..20).map(|_| throttle.decide(None)).last(), Some(1_000));
    }
}
