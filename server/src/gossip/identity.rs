//! Who takes part in gossip: a node, where it is, and which of its lives it means.

use std::net::SocketAddr;

use dynamo::ident::NodeId;

/// One life of a node. Within a life the members' word that it is down is final (the SWIM paper, section 4.2), so a node that
/// hears it while it is alive takes a new one with a higher bump; a process takes one when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Where it says it is. Where the layout says so too, that is believed first.
    pub address: SocketAddr,
    /// The higher one wins. It starts as the milliseconds since 1970, so that it usually grows from process to process.
    pub bump: u64,
    /// How often it was renewed. Each time by twice as much, for a clock that was set back by years must not keep a node
    /// out for more than some dozens of messages. Not part of who it is.
    renewals: u32,
}

/// Most doublings: beyond this the bump is at its end anyway.
const RENEWALS_MAX: u32 = 62;

impl Identity {
    /// A life of a node.
    pub fn new(node: NodeId, address: SocketAddr, bump: u64) -> Self {
        Self { node, address, bump, renewals: 0 }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.node, self.bump) == (other.node, other.bump)
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let renewals = (self.renewals + 1).min(RENEWALS_MAX);
        Some(Self { bump: self.bump.saturating_add(1 << self.renewals), renewals, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.bump > adversary.bump
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use dynamo::ident::NodeId;
    use foca::Identity as _;

    use super::Identity;

    #[test]
    fn a_renewed_life_wins_and_overtakes_a_clock_that_was_set_back() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7601));
        let year_ms = 365 * 86_400_000;
        let (before, mut now) = (Identity::new(NodeId(1), address, 50 * year_ms), Identity::new(NodeId(1), address, 1));
        let mut renewals = 0;
        while !now.win_addr_conflict(&before) {
            let next = now.renew().unwrap();
            assert!(next.win_addr_conflict(&now) && next != now && next.addr() == now.addr());
            (now, renewals) = (next, renewals + 1);
        }
        assert!(renewals < 48, "{renewals}");
    }
}
