//! The faults a run may have, each by name, so that a failing run can be tried again without one of them.

use crate::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies; what it had not committed is gone.
    Crash,
    /// A process stands still for a while (SIGSTOP, a long pause of the machine).
    Pause,
    /// Two parties hear nothing of each other.
    Cut,
    /// One hears the other, but not the other way round.
    OneWayCut,
    /// A node hears nobody, and nobody hears it.
    Isolate,
    /// A link holds everything back for a while and then delivers it at once.
    Clog,
    /// Messages are lost.
    Loss,
    /// Messages arrive twice.
    Duplicate,
    /// Messages overtake each other by far.
    Reorder,
    /// Records are damaged on their way between nodes.
    Damage,
    /// A commit fails and nobody knows whether it happened; the node takes no more writes until it is started again.
    CommitFailure,
    /// A disk has no space for a while.
    DiskFull,
    /// A disk is slow for a while.
    SlowDisk,
    /// Bits of a record on disk flip.
    BitRot,
    /// A record's pages can't be read any more.
    Forget,
    /// A data directory is emptied.
    Wipe,
    /// A data directory is replaced by an older copy of itself.
    Restore,
    /// A node's partitions get a newer view than everybody else knows, for a while.
    Fence,
    /// A wall clock jumps.
    ClockJump,
    /// Clocks run at different speeds.
    ClockDrift,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Crash,
        Self::Pause,
        Self::Cut,
        Self::OneWayCut,
        Self::Isolate,
        Self::Clog,
        Self::Loss,
        Self::Duplicate,
        Self::Reorder,
        Self::Damage,
        Self::CommitFailure,
        Self::DiskFull,
        Self::SlowDisk,
        Self::BitRot,
        Self::Forget,
        Self::Wipe,
        Self::Restore,
        Self::Fence,
        Self::ClockJump,
        Self::ClockDrift,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::OneWayCut => "one-way-cut",
            Self::Isolate => "isolate",
            Self::Clog => "clog",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Damage => "damage",
            Self::CommitFailure => "commit-failure",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::BitRot => "bit-rot",
            Self::Forget => "forget",
            Self::Wipe => "wipe",
            Self::Restore => "restore",
            Self::Fence => "fence",
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
        }
    }

    /// The fault with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Whether it strikes from time to time (then its rate is the mean time between two, in milliseconds) or some messages or
    /// transactions (then so many of a thousand).
    pub fn is_episode(self) -> bool {
        match self {
            Self::Crash
            | Self::Pause
            | Self::Cut
            | Self::OneWayCut
            | Self::Isolate
            | Self::Clog
            | Self::DiskFull
            | Self::SlowDisk
            | Self::BitRot
            | Self::Forget
            | Self::Wipe
            | Self::Restore
            | Self::Fence
            | Self::ClockJump => true,
            Self::Loss | Self::Duplicate | Self::Reorder | Self::Damage | Self::CommitFailure | Self::ClockDrift => {
                false
            }
        }
    }

    fn draw(self, random: &mut Random) -> u32 {
        let (low, high) = match self {
            Self::Crash | Self::Pause => (1_500, 12_000),
            Self::Cut | Self::OneWayCut => (700, 6_000),
            Self::Isolate => (2_000, 15_000),
            Self::Clog => (1_000, 8_000),
            Self::Loss | Self::Duplicate | Self::Reorder => (2, 60),
            Self::Damage => (1, 15),
            Self::CommitFailure => (1, 8),
            Self::DiskFull | Self::SlowDisk => (2_000, 12_000),
            Self::BitRot | Self::Forget => (2_000, 15_000),
            Self::Wipe | Self::Restore => (10_000, 60_000),
            Self::Fence => (4_000, 20_000),
            Self::ClockJump => (2_000, 15_000),
            Self::ClockDrift => (1, 100),
        };
        random.between(low, high) as u32
    }
}

/// How often each kind of fault happens in a run; 0 for never.
#[derive(Clone, Debug)]
pub struct Faults([u32; Fault::ALL.len()]);

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self([0; Fault::ALL.len()]);

    pub(super) fn draw(random: &mut Random) -> Self {
        // Runs differ in how many kinds they have, not only in which.
        let share = *random.pick(&[100, 250, 400, 600]);
        let mut faults = Self::NONE;
        for fault in Fault::ALL {
            let rate = fault.draw(random);
            let is_rare = matches!(fault, Fault::Wipe | Fault::Restore);
            if random.chance(if is_rare { share / 2 } else { share }) {
                faults.0[fault as usize] = rate;
            }
        }
        faults
    }

    /// The rate of a kind.
    pub fn rate(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    /// Sets the rate of a kind.
    pub fn set(&mut self, fault: Fault, rate: u32) {
        self.0[fault as usize] = rate;
    }

    /// The kinds that happen.
    pub fn on(&self) -> impl Iterator<Item = Fault> + '_ {
        Fault::ALL.into_iter().filter(|fault| self.rate(*fault) > 0)
    }
}
