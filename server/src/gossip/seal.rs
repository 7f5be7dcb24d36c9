//! Packets that only members of the cluster can write or read: XChaCha20-Poly1305 under a key derived from the cluster's
//! secret, with the cluster's identity as associated data, so that another cluster's packets are as good as noise even where
//! both use one secret. A nonce of 24 random bytes needs no memory across restarts: none repeats by chance.
//!
//! It does not tell one member from another, nor an old packet from a new one ([`super::envelope`] and
//! [`super::replays`] do the latter).

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};

/// What the key is for; changing the text gives another key, so it never changes.
const KEY_CONTEXT: &str = "quorate 2026-11 gossip key, version 1";

/// The first byte of every packet: the version of this form.
const VERSION: u8 = 1;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// What sealing adds to a packet.
pub(super) const SEAL_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;

/// Seals and opens one cluster's packets.
#[derive(Clone)]
pub struct Seal {
    cipher: XChaCha20Poly1305,
    associated: [u8; 17],
}

impl Seal {
    /// For the cluster of this secret and identity.
    pub fn new(secret: &[u8], cluster: u128) -> Self {
        let mut associated = [VERSION; 17];
        associated[1..].copy_from_slice(&cluster.to_be_bytes());
        Self { cipher: XChaCha20Poly1305::new(&blake3::derive_key(KEY_CONTEXT, secret).into()), associated }
    }

    /// Seals a packet. Fails only where the system has no randomness; then nothing may be sent.
    pub fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let mut packet = Vec::with_capacity(plain.len() + SEAL_BYTES);
        packet.extend_from_slice(plain);
        self.cipher.encrypt_in_place(&XNonce::from(nonce), &self.associated, &mut packet).ok()?;
        packet.splice(..0, std::iter::once(VERSION).chain(nonce));
        Some(packet)
    }

    /// Opens a packet, if it was sealed by a member of this cluster and nobody has touched it since.
    pub fn open(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (&version, rest) = packet.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        if version != VERSION {
            return None;
        }
        let mut plain = sealed.to_vec();
        self.cipher.decrypt_in_place(&XNonce::from(*nonce), &self.associated, &mut plain).ok()?;
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::{SEAL_BYTES, Seal};

    #[test]
    fn a_packet_opens_with_the_same_secret_and_cluster_only() {
        let packet = Seal::new(b"secret", 1).seal(b"who is there").unwrap();
        assert_eq!(packet.len(), 12 + SEAL_BYTES);
        assert_eq!(Seal::new(b"secret", 1).open(&packet).as_deref(), Some(b"who is there".as_slice()));
        assert_eq!(Seal::new(b"other", 1).open(&packet), None);
        assert_eq!(Seal::new(b"secret", 2).open(&packet), None);
        assert_ne!(Seal::new(b"secret", 1).seal(b"who is there").unwrap(), packet, "the nonce is fresh");
    }

    #[test]
    fn a_packet_that_was_changed_or_cut_anywhere_does_not_open() {
        let seal = Seal::new(b"secret", 1);
        let packet = seal.seal(b"who is there").unwrap();
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(&changed), None, "byte {at}");
            assert_eq!(seal.open(&packet[..at]), None, "cut at {at}");
        }
    }
}
