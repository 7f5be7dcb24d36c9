//! Gossip messages as bytes: numbers big end first, a tag before what has variants. Written for packets that were opened
//! already ([`super::seal`]), so whoever wrote them knows the cluster's secret; still nothing here trusts a length.
//!
//! Who sends stands in the envelope ([`super::envelope`]), so the header leaves it out.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use bytes::{Buf, BufMut};
use dynamo::ident::NodeId;
use foca::{Header, Member, Message, State};

use super::{identity::Identity, swim::Roster};

/// Bytes that are no gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a gossip message")]
pub(super) struct Malformed;

/// There is no room for what should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// The bytes read are none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The packet is full; what does not fit goes with a later one.
    #[error("the packet is full")]
    Full,
}

/// Reads and writes what SWIM says.
#[derive(Clone, Debug)]
pub(super) struct Codec(pub(super) Rc<Margin>);

/// What the codec and the machine around it tell each other: SWIM keeps its codec to itself.
#[derive(Debug)]
pub(super) struct Margin {
    /// This node's present life.
    pub(super) me: Cell<Identity>,
    /// Who sent the packet that is being read.
    pub(super) sender: Cell<Identity>,
    /// How many of this node's probes were acknowledged.
    pub(super) acknowledged: Cell<u64>,
    /// How often somebody said that this node's present life is suspect or over.
    pub(super) accused: Cell<u64>,
    /// The nodes of the ring; nobody else is taken in.
    pub(super) roster: RefCell<Rc<Roster>>,
}

impl Margin {
    pub(super) fn new(me: Identity, roster: Rc<Roster>) -> Self {
        Self {
            me: Cell::new(me),
            sender: Cell::new(me),
            acknowledged: Cell::default(),
            accused: Cell::default(),
            roster: RefCell::new(roster),
        }
    }
}

fn count(number: &Cell<u64>) {
    number.set(number.get() + 1);
}

/// Bytes of an identity with the longer kind of address.
pub(super) const IDENTITY_BYTES_MAX: usize = 16 + 8 + 19;

pub(super) fn put_identity(identity: &Identity, buffer: &mut impl BufMut) {
    put_life(identity, buffer);
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            buffer.put_u8(4);
            buffer.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            buffer.put_u8(6);
            buffer.put_slice(&ip.octets());
        }
    }
    buffer.put_u16(identity.address.port());
}

pub(super) fn read_identity(buffer: &mut impl Buf) -> Result<Identity, Malformed> {
    let (node, bump) = (NodeId(read(buffer, Buf::try_get_u128)?), read(buffer, Buf::try_get_u64)?);
    let ip: IpAddr = match read(buffer, Buf::try_get_u8)? {
        4 => Ipv4Addr::from_bits(read(buffer, Buf::try_get_u32)?).into(),
        6 => Ipv6Addr::from_bits(read(buffer, Buf::try_get_u128)?).into(),
        _ => return Err(Malformed),
    };
    Ok(Identity::new(node, SocketAddr::new(ip, read(buffer, Buf::try_get_u16)?), bump))
}

/// Reads a number, if there are enough bytes for it.
pub(super) fn read<B: Buf, T>(
    buffer: &mut B,
    number: impl FnOnce(&mut B) -> Result<T, bytes::TryGetError>,
) -> Result<T, Malformed> {
    number(buffer).map_err(|_| Malformed)
}

/// An identity without its address, for one that only has to be recognised.
fn put_life(identity: &Identity, buffer: &mut impl BufMut) {
    buffer.put_u128(identity.node.0);
    buffer.put_u64(identity.bump);
}

fn read_life(buffer: &mut impl Buf) -> Result<Identity, Malformed> {
    let (node, bump) = (NodeId(read(buffer, Buf::try_get_u128)?), read(buffer, Buf::try_get_u64)?);
    Ok(Identity::new(node, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), bump))
}

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buffer: impl BufMut) -> Result<(), CodecError> {
        /// Incarnation, destination, tag, and the largest argument.
        const HEADER_BYTES_MAX: usize = 2 + 24 + 1 + IDENTITY_BYTES_MAX + 1;
        if buffer.remaining_mut() < HEADER_BYTES_MAX {
            return Err(CodecError::Full);
        }
        buffer.put_u16(header.src_incarnation);
        put_life(&header.dst, &mut buffer);
        put_message(&header.message, &mut buffer);
        Ok(())
    }

    fn decode_header(&mut self, mut buffer: impl Buf) -> Result<Header<Identity>, CodecError> {
        let src_incarnation = read(&mut buffer, Buf::try_get_u16)?;
        let dst = read_life(&mut buffer)?;
        let message = read_message(&mut buffer)?;
        match message {
            Message::Ack(_) | Message::ForwardedAck { .. } => count(&self.0.acknowledged),
            Message::TurnUndead => count(&self.0.accused),
            Message::Ping(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast => {}
        }
        Ok(Header { src: self.0.sender.get(), src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buffer: impl BufMut) -> Result<(), CodecError> {
        if buffer.remaining_mut() < IDENTITY_BYTES_MAX + 3 {
            return Err(CodecError::Full);
        }
        put_identity(member.id(), &mut buffer);
        buffer.put_u16(member.incarnation());
        buffer.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buffer: impl Buf) -> Result<Member<Identity>, CodecError> {
        let identity = read_identity(&mut buffer)?;
        let incarnation = read(&mut buffer, Buf::try_get_u16)?;
        let state = match read(&mut buffer, Buf::try_get_u8)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(Malformed.into()),
        };
        if identity.node != self.0.me.get().node && !self.0.roster.borrow().contains_key(&identity.node) {
            // The sender knows a newer ring, or an older one. Somebody unknown is not taken in, and the rest of the packet counts: that
            // this node is alive, in the first of its incarnations, tells it nothing.
            return Ok(Member::new(self.0.me.get(), 0, State::Alive));
        }
        if identity == self.0.me.get() && state != State::Alive {
            count(&self.0.accused);
        }
        Ok(Member::new(identity, incarnation, state))
    }
}

fn put_message(message: &Message<Identity>, buffer: &mut impl BufMut) {
    let mut with_identity = |tag: u8, identity: &Identity, probe_number: u8| {
        buffer.put_u8(tag);
        put_identity(identity, buffer);
        buffer.put_u8(probe_number);
    };
    match message {
        Message::PingReq { target, probe_number } => with_identity(2, target, *probe_number),
        Message::IndirectPing { origin, probe_number } => with_identity(3, origin, *probe_number),
        Message::IndirectAck { target, probe_number } => with_identity(4, target, *probe_number),
        Message::ForwardedAck { origin, probe_number } => with_identity(5, origin, *probe_number),
        Message::Ping(probe_number) => buffer.put_slice(&[0, *probe_number]),
        Message::Ack(probe_number) => buffer.put_slice(&[1, *probe_number]),
        Message::Announce => buffer.put_u8(6),
        Message::Feed => buffer.put_u8(7),
        Message::Gossip => buffer.put_u8(8),
        Message::Broadcast => buffer.put_u8(9),
        Message::TurnUndead => buffer.put_u8(10),
    }
}

fn read_message(buffer: &mut impl Buf) -> Result<Message<Identity>, Malformed> {
    let tag = read(buffer, Buf::try_get_u8)?;
    Ok(match tag {
        0 => Message::Ping(read(buffer, Buf::try_get_u8)?),
        1 => Message::Ack(read(buffer, Buf::try_get_u8)?),
        2..=5 => {
            let (other, probe_number) = (read_identity(buffer)?, read(buffer, Buf::try_get_u8)?);
            match tag {
                2 => Message::PingReq { target: other, probe_number },
                3 => Message::IndirectPing { origin: other, probe_number },
                4 => Message::IndirectAck { target: other, probe_number },
                _ => Message::ForwardedAck { origin: other, probe_number },
            }
        }
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, rc::Rc};

    use dynamo::ident::NodeId;
    use foca::{Codec as _, Header, Member, Message, State};
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::{Codec, Identity, Margin};

    fn identity() -> impl Strategy<Value = Identity> {
        let address = prop_oneof![
            any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
            any::<([u8; 16], u16)>().prop_map(SocketAddr::from)
        ];
        (any::<u128>(), address, any::<u64>())
            .prop_map(|(node, address, bump)| Identity::new(NodeId(node), address, bump))
    }

    fn message() -> impl Strategy<Value = Message<Identity>> {
        prop_oneof![
            any::<u8>().prop_map(Message::Ping),
            any::<u8>().prop_map(Message::Ack),
            (identity(), any::<u8>()).prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
            (identity(), any::<u8>()).prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
            (identity(), any::<u8>()).prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
            (identity(), any::<u8>()).prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
            Just(Message::Announce),
            Just(Message::Feed),
            Just(Message::Gossip),
            Just(Message::Broadcast),
            Just(Message::TurnUndead),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            src in identity(), dst in identity(), src_incarnation: u16, message in message(), incarnation: u16,
            state in prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)],
        ) {
            let mut codec = Codec(Rc::new(Margin::new(src, Rc::new([(dst.node, None)].into()))));
            let (header, member) = (Header { src, src_incarnation, dst, message }, Member::new(dst, incarnation, state));
            let mut bytes = Vec::new();
            codec.encode_header(&header, &mut bytes).unwrap();
            codec.encode_member(&member, &mut bytes).unwrap();
            let mut rest = bytes.as_slice();
            prop_assert_eq!(codec.decode_header(&mut rest).unwrap(), header);
            let read = codec.decode_member(&mut rest).unwrap();
            prop_assert_eq!(read.id().address, dst.address);
            prop_assert_eq!(read, member);
            prop_assert_eq!(rest.len(), 0);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let me = Identity::new(NodeId(0), SocketAddr::from(([0; 4], 0)), 0);
            let mut codec = Codec(Rc::new(Margin::new(me, Rc::new([(NodeId(0), None)].into()))));
            let _ = codec.decode_header(bytes.as_slice());
            let _ = codec.decode_member(bytes.as_slice());
        }
    }
}
