//! Many runs: each in one thread, several threads beside each other.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    figures::{Figures, Sometimes},
    options::Options,
    plan::Fault,
    runs::{self, Run},
};

/// A branch must be taken by one seed in so many.
const SEEDS_PER_BRANCH: u64 = 100;

/// A branch that few runs of thousands take; one of them is a test of its own.
const RARE_BRANCH: &str = "unchangeable";

/// Branches that only a ring that changes can take.
const RING_BRANCHES: [&str; 14] = [
    "layouts_decided",
    "layouts_learned",
    "clients_refreshed",
    "conflicts",
    "undecided",
    "plans_refused",
    "given_up",
    "given_up_alive",
    "losses_refused",
    "bereft",
    "forsaken",
    "abandoned",
    "caught_up",
    "held",
];

/// With fewer seeds than this, chance alone may miss a branch.
const SEEDS_TO_JUDGE: u64 = 500;

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// How many seeds were run.
    pub seeds: u64,
    /// All figures added up.
    pub total: Figures,
    /// How many seeds took each branch.
    pub branches: Vec<(&'static str, u64)>,
    /// Seeds that broke an invariant, lowest first.
    pub failures: Vec<(u64, Run)>,
    /// How long it took.
    pub took: Duration,
    /// The time all threads worked, added up.
    pub worked: Duration,
    /// Threads.
    pub jobs: usize,
}

/// Runs all seeds.
pub fn run(seeds: Range<u64>, options: &Options) -> Campaign {
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let campaign = Mutex::new(Campaign { jobs: options.jobs, ..Campaign::default() });
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                let mut mine = Campaign::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    mine.add(seed, runs::run(options.plan(seed), false));
                }
                mine.worked = time_on_core();
                campaign.lock().unwrap_or_else(PoisonError::into_inner).absorb(mine);
            });
        }
    });
    let mut campaign = campaign.into_inner().unwrap_or_else(PoisonError::into_inner);
    campaign.failures.sort_by_key(|(seed, _)| *seed);
    campaign.took = started.elapsed();
    campaign
}

impl Campaign {
    fn add(&mut self, seed: u64, run: Run) {
        let named = run.figures.sometimes.named();
        let met = named.into_iter().map(|(name, count)| (name, u64::from(count > 0))).collect();
        let is_broken = run.violation.is_some();
        self.absorb(Self { seeds: 1, total: run.figures.clone(), branches: met, ..Self::default() });
        if is_broken {
            self.failures.push((seed, run));
        }
    }

    fn absorb(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.worked += other.worked;
        self.failures.extend(other.failures);
        if self.branches.is_empty() {
            self.branches = other.branches;
        } else {
            self.branches.iter_mut().zip(other.branches).for_each(|(ours, theirs)| ours.1 += theirs.1);
        }
        let (total, more) = (&mut self.total, other.total);
        total.operations += more.operations;
        total.succeeded += more.succeeded;
        total.unclear += more.unclear;
        total.acknowledged += more.acknowledged;
        total.faults += more.faults;
        total.struck.iter_mut().zip(more.struck).for_each(|(ours, theirs)| *ours += theirs);
        total.messages_cut += more.messages_cut;
        total.messages_lost += more.messages_lost;
        total.messages_doubled += more.messages_doubled;
        total.messages_damaged += more.messages_damaged;
        total.events += more.events;
        total.simulated_us += more.simulated_us;
        total.judged += more.judged;
        total.sometimes += more.sometimes;
    }

    /// Branches that too few seeds took; none if there were too few seeds to say.
    pub fn branches_missed(&self) -> Vec<&'static str> {
        if self.seeds < SEEDS_TO_JUDGE {
            return Vec::new();
        }
        let changes_ring = Fault::RING.into_iter().any(|fault| self.total.struck[fault as usize] > 0);
        let is_possible = |name: &str| name != RARE_BRANCH && (changes_ring || !RING_BRANCHES.contains(&name));
        let branches = self.branches.iter().filter(|(name, _)| is_possible(name));
        let few = branches.filter(|(_, seeds)| seeds * SEEDS_PER_BRANCH < self.seeds);
        few.map(|(name, _)| *name).collect()
    }

    /// Simulated time over the time one core took for it.
    pub fn speed(&self) -> f64 {
        self.total.simulated_us as f64 / 1e6 / self.worked.as_secs_f64().max(1e-9)
    }

    /// How often each branch was taken.
    pub fn sometimes(&self) -> &Sometimes {
        &self.total.sometimes
    }

    /// Faults by kind.
    pub fn struck(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().map(|fault| (fault, self.total.struck[fault as usize]))
    }
}

/// The time this thread had a core: what others do on the machine must not look like this one's slowness.
fn time_on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0))
}
