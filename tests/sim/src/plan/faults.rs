//! The faults a run may have, each by name, so that a failing run can be tried again without one of them.

use crate::random::Random;

/// Of a thousand runs whose ring changes, so many in which nodes are given up for lost.
const LOSING: u32 = 400;

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
    /// A wall clock jumps.
    ClockJump,
    /// Clocks run at different speeds.
    ClockDrift,
    /// A spare node joins the ring.
    Join,
    /// A node leaves it.
    Leave,
    /// A node takes another's place, one whose directory was lost if there is such a one.
    Replace,
    /// A node gets another share.
    Reweight,
    /// What was changed last is taken back, whether or not it has been carried out.
    Abort,
    /// Two administrators decide different changes at the same time.
    DoubleCommit,
    /// There are to be more or fewer copies.
    ChangeN,
    /// There are to be twice as many partitions.
    DoubleQ,
    /// A node is given up for lost: one that is lost, one that is away and comes back, or one that is well; alone, with another one,
    /// or with a newcomer in its place.
    GiveUp,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 28] = [
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
        Self::ClockJump,
        Self::ClockDrift,
        Self::Join,
        Self::Leave,
        Self::Replace,
        Self::Reweight,
        Self::Abort,
        Self::DoubleCommit,
        Self::ChangeN,
        Self::DoubleQ,
        Self::GiveUp,
    ];

    /// Those that change the ring.
    pub const RING: [Self; 9] = [
        Self::Join,
        Self::Leave,
        Self::Replace,
        Self::Reweight,
        Self::Abort,
        Self::DoubleCommit,
        Self::ChangeN,
        Self::DoubleQ,
        Self::GiveUp,
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
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Replace => "replace",
            Self::Reweight => "reweight",
            Self::Abort => "abort",
            Self::DoubleCommit => "double-commit",
            Self::ChangeN => "change-n",
            Self::DoubleQ => "double-q",
            Self::GiveUp => "give-up",
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
            | Self::ClockJump
            | Self::Join
            | Self::Leave
            | Self::Replace
            | Self::Reweight
            | Self::Abort
            | Self::DoubleCommit
            | Self::ChangeN
            | Self::DoubleQ
            | Self::GiveUp => true,
            Self::Loss | Self::Duplicate | Self::Reorder | Self::Damage | Self::CommitFailure | Self::ClockDrift => {
                false
            }
        }
    }

    /// Whether it changes the ring.
    pub fn is_ring(self) -> bool {
        Self::RING.contains(&self)
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
            Self::ClockJump => (2_000, 15_000),
            Self::ClockDrift => (1, 100),
            Self::Join | Self::Leave | Self::Replace | Self::Abort => (4_000, 30_000),
            Self::Reweight | Self::DoubleCommit => (6_000, 40_000),
            Self::ChangeN | Self::DoubleQ => (10_000, 60_000),
            Self::GiveUp => (5_000, 40_000),
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

    pub(super) fn draw(random: &mut Random, changes_ring: bool) -> Self {
        // Runs differ in how many kinds they have, not only in which.
        let share = *random.pick(&[100, 250, 400, 600]);
        let mut faults = Self::NONE;
        for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::GiveUp) {
            let rate = fault.draw(random);
            let share = match fault {
                Fault::Wipe | Fault::Restore => share / 2,
                _ if fault.is_ring() => share.max(250) * u32::from(changes_ring),
                _ => share,
            };
            if random.chance(share) {
                faults.0[fault as usize] = rate;
            }
        }
        faults
    }

    /// Of a thousand runs whose ring changes, in so many nodes are given up. Drawn apart from the others: seeds in which none is stay
    /// the runs that they were before there was this fault.
    pub(super) fn draw_losses(&mut self, random: &mut Random) {
        if random.chance(LOSING) {
            self.set(Fault::GiveUp, Fault::GiveUp.draw(random));
        }
    }

    /// The rate of a kind.
    pub fn rate(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    /// Sets the rate of a kind.
    pub fn set(&mut self, fault: Fault, rate: u32) {
        self.0[fault as usize] = rate;
    }

    /// Whether the ring changes.
    pub fn change_ring(&self) -> bool {
        self.on().any(Fault::is_ring)
    }

    /// The kinds that happen.
    pub fn on(&self) -> impl Iterator<Item = Fault> + '_ {
        Fault::ALL.into_iter().filter(|fault| self.rate(*fault) > 0)
    }
}
