//! Encryption keys of a cluster: the primary one encrypts, all decrypt.
//!
//! Rules and texts are memberlist's (`keyring.go`, the texts as the deployed version has them); the texts reach clients as
//! messages of key operations.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Base64 as Go reads it: bits that the padding leaves over are not looked at.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A key of 16, 24 or 32 bytes, for AES-128, 192 or 256.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<[u8]>);

impl Key {
    /// A key of these bytes.
    ///
    /// # Errors
    /// [`KeyringError::Size`].
    pub fn new(bytes: &[u8]) -> Result<Self, KeyringError> {
        if matches!(bytes.len(), 16 | 24 | 32) {
            Ok(Self(bytes.into()))
        } else {
            Err(KeyringError::Size)
        }
    }

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl fmt::Debug for Key {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// Why a keyring was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// AES has no keys of that size.
    #[error("key size must be 16, 24 or 32 bytes")]
    Size,
    /// Only an installed key can be made primary.
    #[error("Requested key is not in the keyring")]
    Unknown,
    /// Another must be made primary first.
    #[error("Removing the primary key is not allowed")]
    Primary,
}

/// The keys a node has. There is always a primary one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The primary key first.
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring of one key.
    #[must_use]
    pub fn new(primary: Key) -> Self {
        Self {
            keys: vec![primary],
        }
    }

    /// The keys, the primary one first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key for decryption. One that is there stays where it is.
    pub fn install(&mut self, key: Key) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// Makes an installed key the primary one.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn make_primary(&mut self, key: &[u8]) -> Result<(), KeyringError> {
        let at = self
            .keys
            .iter()
            .position(|have| have.as_bytes() == key)
            .ok_or(KeyringError::Unknown)?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(())
    }

    /// Forgets a key. One that is not there is no error.
    ///
    /// # Errors
    /// [`KeyringError::Primary`].
    pub fn remove(&mut self, key: &[u8]) -> Result<(), KeyringError> {
        match self.keys.iter().position(|have| have.as_bytes() == key) {
            Some(0) => Err(KeyringError::Primary),
            Some(at) => {
                self.keys.remove(at);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Why a keyring file is of no use. Never shows what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFileError {
    /// It is no list of texts.
    #[error(
        "Failed to decode keyring file: expected a JSON array of keys in base64, not what is at line {line}, column {column}"
    )]
    Json {
        /// Line of the mistake.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// A key is no base64.
    #[error("Failed to decode key from keyring: {0}")]
    Base64(#[from] InvalidBase64),
    /// A key is of no size that keys have.
    #[error("Failed to restore keyring: {0}")]
    Key(#[from] KeyringError),
    /// The list is empty.
    #[error("Keyring file contains no keys")]
    Empty,
}

impl Keyring {
    /// Reads what a keyring file holds: a JSON array of keys in base64, the primary one first.
    ///
    /// # Errors
    /// [`KeyringFileError`].
    pub fn from_json(text: &str) -> Result<Self, KeyringFileError> {
        let keys: Vec<String> =
            serde_json::from_str(text).map_err(|error| KeyringFileError::Json {
                line: error.line(),
                column: error.column(),
            })?;
        let mut keys = keys
            .iter()
            .map(|key| Ok::<_, KeyringFileError>(Key::new(&decode_base64(key)?)?));
        let mut ring = Self::new(keys.next().ok_or(KeyringFileError::Empty)??);
        for key in keys {
            ring.install(key?);
        }
        Ok(ring)
    }

    /// What a keyring file is to hold, laid out as the reference does.
    #[must_use]
    pub fn to_json(&self) -> String {
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("  \"{}\"", key.to_base64()))
            .collect();
        format!("[\n{}\n]", keys.join(",\n"))
    }
}

/// The key's text is no base64: the offset of the first wrong byte, as Go counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {0}")]
pub struct InvalidBase64(pub usize);

/// Reads base64 with padding; line ends are skipped, as in Go.
///
/// # Errors
/// [`InvalidBase64`].
pub fn decode_base64(text: &str) -> Result<Vec<u8>, InvalidBase64> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let joined: String = text
        .chars()
        .filter(|&char| char != '\n' && char != '\r')
        .collect();
    STANDARD.decode(&joined).map_err(|error| {
        InvalidBase64(match error {
            InvalidByte(at, _) | InvalidLastSymbol { offset: at, .. } => at,
            // Go names the start of the group of four that is incomplete.
            InvalidLength(_) | InvalidPadding => joined.trim_end_matches('=').len() / 4 * 4,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_rules_of_the_reference() {
        let key = |byte: u8| Key::new(&[byte; 16]).unwrap();
        let mut ring = Keyring::new(key(1));
        ring.install(key(2));
        ring.install(key(2));
        assert_eq!(ring.keys().len(), 2);
        assert_eq!(ring.make_primary(&[3; 16]), Err(KeyringError::Unknown));
        ring.make_primary(&[2; 16]).unwrap();
        assert_eq!(ring.keys(), [key(2), key(1)]);
        assert_eq!(ring.remove(&[2; 16]), Err(KeyringError::Primary));
        assert_eq!(ring.remove(&[9; 16]), Ok(()));
        ring.remove(&[1; 16]).unwrap();
        assert_eq!(ring.keys(), [key(2)]);
        assert_eq!(Key::new(&[0; 3]), Err(KeyringError::Size));
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(
            format!("{:?}", Key::new(&[7; 32]).unwrap()),
            "Key(32 bytes)"
        );
    }

    #[test]
    fn wrong_base64_is_located_as_go_does() {
        assert_eq!(decode_base64("xx!"), Err(InvalidBase64(2)));
        assert_eq!(decode_base64("AAAA\n").unwrap(), [0, 0, 0]);
        assert!(decode_base64("").unwrap().is_empty());
    }

    #[test]
    fn keyring_files_read_and_write_as_the_reference_has_them() {
        let text = "[\n  \"AgICAgICAgICAgICAgICAg==\",\n  \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\"\n]";
        let ring = Keyring::from_json(text).unwrap();
        assert_eq!(ring.keys()[0].as_bytes(), [2; 16]);
        assert_eq!(ring.keys()[1].as_bytes(), [1; 24]);
        assert_eq!(ring.to_json(), text);
        assert_eq!(Keyring::from_json("[]"), Err(KeyringFileError::Empty));
        assert_eq!(
            Keyring::from_json("[\"AQEB\"]"),
            Err(KeyringFileError::Key(KeyringError::Size))
        );
        assert_eq!(
            Keyring::from_json("[\"????\"]"),
            Err(KeyringFileError::Base64(InvalidBase64(0)))
        );
    }

    #[test]
    fn a_wrong_keyring_file_is_not_shown() {
        let error = Keyring::from_json("\n\"AQEBAQEBAQEBAQEBAQEBAQ==\"").unwrap_err();
        assert!(
            error.to_string().ends_with("at line 2, column 26"),
            "{error}"
        );
    }
}
