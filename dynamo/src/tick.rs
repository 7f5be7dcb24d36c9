//! Time as the machines see it: a number handed in by the driver. There is no clock in this crate, so a simulator can
//! run an hour in a second and replay it exactly.

/// Milliseconds on the driver's monotonic clock, counted from an instant of its choice. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The tick `duration_ms` later, or the last one there is.
    pub fn after(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to this tick; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
