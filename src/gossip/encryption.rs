//! Encryption of packets and streams: AES-GCM with the keys of a [`Keyring`].
//!
//! An encrypted payload is a version byte, a nonce, the ciphertext and a tag. Version 1 is what everybody speaks;
//! version 0 pads the text to whole blocks and comes from nodes of protocol version 1. The caller says what else the
//! tag covers.
//!
//! Source: hashicorp/memberlist, `security.go`.

use std::fmt;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::{Aes192, cipher::consts::U12};
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit, Nonce, Tag};
use rand::CryptoRng;

use super::keyring::{Key, Keyring};

const VERSION_BYTES: usize = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;

/// How a payload is encrypted; the number is the payload's first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum EncryptionVersion {
    /// The text is padded to whole blocks (PKCS 7).
    Padded = 0,
    /// The text is as it is.
    #[default]
    Plain = 1,
}

impl EncryptionVersion {
    /// By how much a payload grows at the most, in bytes.
    #[must_use]
    pub const fn overhead(self) -> usize {
        let bytes = VERSION_BYTES + NONCE_BYTES + TAG_BYTES;
        match self {
            Self::Padded => bytes + BLOCK_BYTES,
            Self::Plain => bytes,
        }
    }

    /// How long a text of `length` bytes gets.
    const fn encrypted_len(self, length: usize) -> usize {
        let bytes = VERSION_BYTES + NONCE_BYTES + TAG_BYTES + length;
        match self {
            Self::Padded => bytes + padding(length),
            Self::Plain => bytes,
        }
    }
}

/// A text of whole blocks gets another one.
const fn padding(length: usize) -> usize {
    BLOCK_BYTES - length % BLOCK_BYTES
}

/// Why a payload could not be decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// There is nothing.
    #[error("cannot decrypt empty payload")]
    Empty,
    /// It does not begin as an encrypted payload does; most likely it is not encrypted.
    #[error("unsupported encryption version {0}")]
    Version(u8),
    /// It is shorter than the shortest payload.
    #[error("payload is too small to decrypt: {0}")]
    TooSmall(usize),
    /// It was encrypted with another key or another label, or is damaged.
    #[error("No installed keys could decrypt the message")]
    Keys,
    /// It decrypts, but is not padded as it says.
    #[error("the padding of the message is wrong")]
    Padding,
}

type Aes192Gcm = AesGcm<Aes192, U12>;

/// A key, prepared for use.
enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<Aes192Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl Cipher {
    /// `None` for a key of a length that [`Key`] does not have.
    fn new(key: &Key) -> Option<Self> {
        let key = key.as_bytes();
        Some(match key.len() {
            16 => Self::Aes128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            24 => Self::Aes192(Box::new(Aes192Gcm::new_from_slice(key).ok()?)),
            _ => Self::Aes256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
        })
    }

    /// Encrypts in place and returns the tag. Fails only past 64 GiB.
    fn encrypt(&self, nonce: &Nonce<U12>, extra: &[u8], text: &mut [u8]) -> Option<Tag> {
        let text = InOutBuf::from(text);
        match self {
            Self::Aes128(cipher) => cipher.encrypt_inout_detached(nonce, extra, text),
            Self::Aes192(cipher) => cipher.encrypt_inout_detached(nonce, extra, text),
            Self::Aes256(cipher) => cipher.encrypt_inout_detached(nonce, extra, text),
        }
        .ok()
    }

    /// Decrypts in place if the tag is right, and leaves the text alone if not.
    fn decrypt(&self, nonce: &Nonce<U12>, extra: &[u8], text: &mut [u8], tag: &Tag) -> bool {
        let text = InOutBuf::from(text);
        match self {
            Self::Aes128(cipher) => cipher.decrypt_inout_detached(nonce, extra, text, tag),
            Self::Aes192(cipher) => cipher.decrypt_inout_detached(nonce, extra, text, tag),
            Self::Aes256(cipher) => cipher.decrypt_inout_detached(nonce, extra, text, tag),
        }
        .is_ok()
    }
}

/// The keys of a ring, prepared for use.
pub(super) struct Ciphers {
    primary: Cipher,
    others: Vec<Cipher>,
}

impl fmt::Debug for Ciphers {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphers({})", 1 + self.others.len())
    }
}

impl Ciphers {
    /// `None` for a ring without keys, which there is not.
    pub(super) fn new(keyring: &Keyring) -> Option<Self> {
        let mut ciphers = keyring.keys().iter().filter_map(Cipher::new);
        Some(Self {
            primary: ciphers.next()?,
            others: ciphers.collect(),
        })
    }

    /// Appends `text`, encrypted with the primary key; the tag covers `extra` too.
    ///
    /// The generator must be one that nobody can foresee: a nonce that repeats gives the key away.
    pub(super) fn encrypt<R: CryptoRng + ?Sized>(
        &self,
        version: EncryptionVersion,
        extra: &[u8],
        text: &[u8],
        rng: &mut R,
        out: &mut Vec<u8>,
    ) {
        let mut nonce = Nonce::<U12>::default();
        rng.fill_bytes(&mut nonce);
        out.reserve(version.encrypted_len(text.len()));
        out.push(version as u8);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(text);
        if version == EncryptionVersion::Padded {
            let padding = padding(text.len());
            out.resize(out.len() + padding, padding as u8);
        }
        let body = out.get_mut(start..).unwrap_or_default();
        match self.primary.encrypt(&nonce, extra, body) {
            Some(tag) => out.extend_from_slice(&tag),
            // The text must not go out as it is.
            None => out.truncate(start),
        }
    }

    /// Decrypts into `out`, which is cleared, with whichever key fits.
    pub(super) fn decrypt(
        &self,
        extra: &[u8],
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DecryptError> {
        let (&version, rest) = payload.split_first().ok_or(DecryptError::Empty)?;
        let version = match version {
            0 => EncryptionVersion::Padded,
            1 => EncryptionVersion::Plain,
            other => return Err(DecryptError::Version(other)),
        };
        let too_small = DecryptError::TooSmall(payload.len());
        if payload.len() < version.encrypted_len(0) {
            return Err(too_small);
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(too_small)?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(too_small)?;
        let (nonce, tag) = (Nonce::<U12>::from(*nonce), Tag::from(*tag));
        out.clear();
        out.extend_from_slice(text);
        let mut ciphers = std::iter::once(&self.primary).chain(&self.others);
        if !ciphers.any(|cipher| cipher.decrypt(&nonce, extra, out, &tag)) {
            out.clear();
            return Err(DecryptError::Keys);
        }
        if version == EncryptionVersion::Padded {
            let padding = out.last().map_or(0, |&last| usize::from(last));
            if padding == 0 || padding > BLOCK_BYTES.min(out.len()) {
                out.clear();
                return Err(DecryptError::Padding);
            }
            out.truncate(out.len() - padding);
        }
        Ok(())
    }

    /// How long a text of `length` bytes gets when it is encrypted.
    pub(super) const fn encrypted_len(version: EncryptionVersion, length: usize) -> usize {
        version.encrypted_len(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn key(length: usize, byte: u8) -> Key {
        Key::new(&vec![byte; length]).unwrap()
    }

    fn ciphers(keys: &[Key]) -> Ciphers {
        let mut ring = Keyring::new(keys[0].clone());
        for key in keys {
            ring.install(key.clone());
        }
        Ciphers::new(&ring).unwrap()
    }

    fn versions() -> impl Strategy<Value = EncryptionVersion> {
        prop_oneof![
            Just(EncryptionVersion::Padded),
            Just(EncryptionVersion::Plain)
        ]
    }

    proptest! {
        #[test]
        fn every_key_of_the_ring_decrypts(
            text in proptest::collection::vec(any::<u8>(), 0..100),
            length in prop_oneof![Just(16), Just(24), Just(32)],
            version in versions(),
            seed in any::<u64>(),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let sender = ciphers(&[key(length, 1)]);
            let receiver = ciphers(&[key(32, 9), key(length, 1)]);
            let mut payload = b"before".to_vec();
            sender.encrypt(version, b"label", &text, &mut rng, &mut payload);
            let payload = &payload[6..];
            prop_assert_eq!(payload.len(), version.encrypted_len(text.len()));
            prop_assert!(payload.len() <= text.len() + version.overhead());
            let mut out = b"left over".to_vec();
            prop_assert_eq!(receiver.decrypt(b"label", payload, &mut out), Ok(()));
            prop_assert_eq!(&out, &text);
            prop_assert_eq!(receiver.decrypt(b"lapel", payload, &mut out), Err(DecryptError::Keys));
            prop_assert!(out.is_empty());
            let stranger = ciphers(&[key(length, 2)]);
            prop_assert_eq!(stranger.decrypt(b"label", payload, &mut out), Err(DecryptError::Keys));
        }

        #[test]
        fn one_flipped_bit_is_noticed(at in 1usize..40, bit in 0u8..8) {
            let ciphers = ciphers(&[key(16, 1)]);
            let mut payload = Vec::new();
            ciphers.encrypt(EncryptionVersion::Plain, b"", b"some text..", &mut StdRng::seed_from_u64(1), &mut payload);
            payload[at] ^= 1 << bit;
            prop_assert_eq!(ciphers.decrypt(b"", &payload, &mut Vec::new()), Err(DecryptError::Keys));
        }

        #[test]
        fn no_bytes_break_it(payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(ciphers(&[key(16, 1)]).decrypt(b"", &payload, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn reasons_are_told_apart() {
        let decrypt =
            |payload: &[u8]| ciphers(&[key(16, 1)]).decrypt(b"", payload, &mut Vec::new());
        assert_eq!(decrypt(b""), Err(DecryptError::Empty));
        assert_eq!(decrypt(&[2; 60]), Err(DecryptError::Version(2)));
        assert_eq!(decrypt(&[1; 28]), Err(DecryptError::TooSmall(28)));
        assert_eq!(decrypt(&[1; 29]), Err(DecryptError::Keys));
        assert_eq!(decrypt(&[0; 44]), Err(DecryptError::TooSmall(44)));
        assert_eq!(decrypt(&[0; 45]), Err(DecryptError::Keys));
    }

    #[test]
    fn padding_past_the_start_is_refused() {
        let ciphers = ciphers(&[key(16, 1)]);
        for last in [0, 17, 255] {
            let mut payload = Vec::new();
            let mut text = [7; 16];
            text[15] = last;
            let mut rng = StdRng::seed_from_u64(1);
            ciphers.encrypt(EncryptionVersion::Plain, b"", &text, &mut rng, &mut payload);
            // The tag does not cover the version. Padded payloads have two blocks at the least here.
            payload[0] = 0;
            let result = ciphers.decrypt(b"", &payload, &mut Vec::new());
            assert_eq!(result, Err(DecryptError::Padding), "{last}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", ciphers(&[key(16, 1)])), "Ciphers(1)");
    }
}
