//! Nodes that were given up for lost stand in for nobody (paper, section 4.6): what they keep, nobody counts on.

use super::{
    sloppy::{NODES, OWNERS, ring, stand_ins},
    *,
};

/// A partition that can't be moved again yet keeps owners that were given up for lost.
#[test]
fn who_was_given_up_for_lost_stands_in_for_nobody() {
    let [first, second, ..] = stand_ins(&[1])[..] else { panic!("there are two stand-ins") };
    let mut desk = Desk::with(NODES, OWNERS as u8, |config| {
        let mut layout = ring();
        layout.members[usize::from(first)].state = MemberState::Lost;
        config.ring = ring_of(layout);
    });
    desk.cut_off(1);
    desk.put(Level::Available);
    let (call, _) = desk.local_write();
    desk.commit(call, minted(&written(1, "v"), true));
    desk.merge_at(2);
    desk.hint_at(second);
    assert!(desk.effects.is_empty(), "{:?}", desk.effects);
}

#[test]
fn a_node_that_was_given_up_for_lost_coordinates_in_nobodys_place() {
    let [me, ..] = stand_ins(&[0, 1, 2])[..] else { panic!("there are stand-ins") };
    let mut desk = Desk::with(NODES, OWNERS as u8, |config| {
        let mut layout = ring();
        layout.members[usize::from(me)].state = MemberState::Lost;
        (config.ring, config.me) = (ring_of(layout), Some(NodeIndex(me)));
    });
    (0..NODES).filter(|node| *node != me).for_each(|node| desk.cut_off(node));
    let consistency = Consistency { level: Some(Level::Available), ..Consistency::default() };
    for (hops, code) in [(0, ErrorCode::Unavailable), (1, ErrorCode::StaleView)] {
        desk.ask_with_hops(hops, consistency, put_of("v", Basis::Local));
        let failure = desk.failure();
        assert_eq!((failure.code, failure.maybe_applied), (code, false), "{failure:?}");
    }
    assert!(desk.is_done() && desk.effects.is_empty(), "{:?}", desk.effects);
}
