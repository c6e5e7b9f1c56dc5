//! What a node wraps every packet and stream in: a label, encryption, compression.
//!
//! An [`Envelope`] holds the rules; `packet` and `stream` apply them. The label keeps clusters apart that share a
//! network: it comes first, in the clear, and the tag of what is encrypted covers it. A node with keys takes nothing
//! that is not encrypted, unless it is told to.
//!
//! Source: hashicorp/memberlist, `label.go`, `net.go` and `config.go` (`GossipVerifyIncoming`, `GossipVerifyOutgoing`,
//! `SkipInboundLabelCheck`, `EnableCompression`).

use super::encryption::{Ciphers, EncryptionVersion};
use super::keyring::Keyring;
use super::message::MessageType;

/// Longest label, in bytes: its length is a byte.
pub const LABEL_BYTES_MAX: usize = 255;

/// Why a label, or what came with one, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A label does not fit its header.
    #[error("a label of {0} bytes, more than {LABEL_BYTES_MAX}")]
    TooLong(usize),
    /// The header says that there is a label, and there is none.
    #[error("label header cannot be empty when present")]
    Empty,
    /// The header is not all there.
    #[error("cannot decode label; it has been truncated")]
    Truncated,
    /// It is another cluster's.
    #[error("discarding what has the unacceptable label {0:?}")]
    Mismatch(String),
    /// Whoever checks labels for this node should have taken it off.
    #[error("unexpected double label header")]
    Double,
}

/// Keeps clusters apart that share a network; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label(Box<str>);

impl Label {
    /// A label of that text.
    ///
    /// # Errors
    /// [`LabelError::TooLong`].
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.len() > LABEL_BYTES_MAX {
            return Err(LabelError::TooLong(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// How many bytes the header takes.
    pub(super) fn overhead(&self) -> usize {
        if self.0.is_empty() {
            0
        } else {
            2 + self.0.len()
        }
    }

    /// Appends the header, if there is a label.
    pub(super) fn write_header(&self, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            // `new` saw to it that the length fits.
            out.extend_from_slice(&[MessageType::HasLabel as u8, self.0.len() as u8]);
            out.extend_from_slice(self.as_bytes());
        }
    }
}

/// What `bytes` begin with.
pub(super) enum Header<'a> {
    /// No label.
    None,
    /// A label, and what follows it.
    Label(&'a [u8], &'a [u8]),
    /// The start of a label.
    Incomplete,
}

impl<'a> Header<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, LabelError> {
        match bytes {
            [first, rest @ ..] if *first == MessageType::HasLabel as u8 => match rest {
                [] => Ok(Self::Incomplete),
                [0, ..] => Err(LabelError::Empty),
                [length, rest @ ..] => Ok(rest
                    .split_at_checked(usize::from(*length))
                    .map_or(Self::Incomplete, |(label, rest)| Self::Label(label, rest))),
            },
            _ => Ok(Self::None),
        }
    }
}

/// How to wrap.
#[derive(Debug, Clone)]
pub struct EnvelopeConfig {
    /// The cluster's label.
    pub label: Label,
    /// The cluster's keys, if it has any.
    pub keyring: Option<Keyring>,
    /// How to encrypt.
    pub encryption: EncryptionVersion,
    /// Whether to compress what gets smaller.
    pub compress: bool,
    /// With keys: whether to refuse what is not encrypted.
    pub verify_incoming: bool,
    /// With keys: whether to encrypt.
    pub verify_outgoing: bool,
    /// Whether something in front of this node checks labels and takes them off.
    pub skip_inbound_label_check: bool,
}

impl Default for EnvelopeConfig {
    /// memberlist's defaults.
    fn default() -> Self {
        Self {
            label: Label::default(),
            keyring: None,
            encryption: EncryptionVersion::default(),
            compress: true,
            verify_incoming: true,
            verify_outgoing: true,
            skip_inbound_label_check: false,
        }
    }
}

/// Wraps and unwraps packets and streams.
#[derive(Debug)]
pub struct Envelope {
    pub(super) config: EnvelopeConfig,
    /// The keyring's keys.
    ciphers: Option<Ciphers>,
}

impl Envelope {
    /// An envelope with these rules.
    #[must_use]
    pub fn new(config: EnvelopeConfig) -> Self {
        let ciphers = config.keyring.as_ref().and_then(Ciphers::new);
        Self { config, ciphers }
    }

    /// The cluster's keys.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.config.keyring.as_ref()
    }

    /// Changes the cluster's keys; from now on what goes out is encrypted with the first one.
    pub fn set_keyring(&mut self, keyring: Option<Keyring>) {
        self.ciphers = keyring.as_ref().and_then(Ciphers::new);
        self.config.keyring = keyring;
    }

    /// What decrypts.
    pub(super) const fn ciphers(&self) -> Option<&Ciphers> {
        self.ciphers.as_ref()
    }

    /// What encrypts, if what goes out is to be encrypted.
    pub(super) fn outgoing_ciphers(&self) -> Option<&Ciphers> {
        self.ciphers
            .as_ref()
            .filter(|_| self.config.verify_outgoing)
    }

    /// Whether something with this label, or without one, is for this cluster.
    pub(super) fn check_label(&self, label: Option<&[u8]>) -> Result<(), LabelError> {
        if self.config.skip_inbound_label_check {
            return label.map_or(Ok(()), |_| Err(LabelError::Double));
        }
        let label = label.unwrap_or_default();
        if label == self.config.label.as_bytes() {
            Ok(())
        } else {
            let label = String::from_utf8_lossy(label).into_owned();
            Err(LabelError::Mismatch(label))
        }
    }
}
