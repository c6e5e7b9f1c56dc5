//! Packets: what one UDP datagram holds, from the outside in.
//!
//! A label header, encryption, a checksum, compression, several messages in one; each of them may be missing. What is
//! inside is opened once: messages that are compressed, or of several messages, within a message are not, and reading
//! them fails as of a type that is not expected. The reference sends none like that.
//!
//! Source: hashicorp/memberlist, `net.go` (`ingestPacket`, `rawSendMsgPacket`) and `util.go` (`makeCompoundMessages`).

use rand::CryptoRng;

use super::compression::{DecompressError, compress, decompress};
use super::encryption::DecryptError;
use super::envelope::{Envelope, Header, LabelError};
use super::message::MessageType;

/// What a packet should not exceed (memberlist's `UDPBufferSize`), so that networks carry it in one piece, in bytes.
pub const PACKET_BYTES_BUDGET: usize = 1400;
/// Largest packet that UDP can carry, in bytes.
pub const PACKET_BYTES_MAX: usize = 65_507;
/// Largest packet after decompression, in bytes. The reference compresses no packet that UDP could not carry as it is.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024;
/// Most messages in a packet: their number is a byte.
pub const COMPOUND_MESSAGES_MAX: usize = 255;
/// What each of several messages in a packet takes on top of its own length, in bytes.
pub const COMPOUND_ENTRY_BYTES: usize = 2;
/// What comes before several messages and their lengths, in bytes.
const COMPOUND_HEADER_BYTES: usize = 2;
const CHECKSUM_HEADER_BYTES: usize = 5;
/// From this memberlist protocol on, a node understands checksums.
const CHECKSUM_PROTOCOL_MIN: u8 = 5;

/// Why a packet is refused.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// It is of another cluster, or its label header is damaged.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// It is not encrypted, or not with one of our keys.
    #[error("decrypt packet failed: {0}")]
    Decrypt(#[from] DecryptError),
    /// It changed on its way.
    #[error("got invalid checksum for UDP packet: {actual:x}, {expected:x}")]
    Checksum {
        /// Of what came.
        actual: u32,
        /// Of what was sent.
        expected: u32,
    },
    /// What is compressed in it cannot be unpacked.
    #[error("failed to decompress payload: {0}")]
    Decompress(#[from] DecompressError),
    /// It does not even hold the lengths of its messages.
    #[error("failed to decode compound request: it is truncated")]
    Truncated,
    /// There is nothing in it.
    #[error("missing message type byte")]
    Empty,
}

/// A message is larger than a packet can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes does not fit into a packet of at most {PACKET_BYTES_MAX}")]
pub struct MessageTooLarge(pub usize);

/// Room to open packets in; kept, so that it need not be made for each.
#[derive(Debug, Default)]
pub struct PacketScratch {
    decrypted: Vec<u8>,
    decompressed: Vec<u8>,
}

impl PacketScratch {
    /// Gives back room past `bytes_max` each, which one large packet has left.
    pub fn shrink(&mut self, bytes_max: usize) {
        for room in [&mut self.decrypted, &mut self.decompressed] {
            if room.capacity() > bytes_max {
                *room = Vec::new();
            }
        }
    }
}

/// The messages of a packet, type bytes included.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    /// Lengths of the messages to come, two bytes each.
    lengths: &'a [u8],
    rest: &'a [u8],
    /// The packet holds one message and no lengths.
    alone: bool,
}

impl<'a> Messages<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (&kind, body) = bytes.split_first().ok_or(PacketError::Empty)?;
        if kind != MessageType::Compound as u8 {
            return Ok(Self {
                lengths: &[],
                rest: bytes,
                alone: true,
            });
        }
        let (&count, body) = body.split_first().ok_or(PacketError::Truncated)?;
        let (lengths, rest) = body
            .split_at_checked(usize::from(count) * COMPOUND_ENTRY_BYTES)
            .ok_or(PacketError::Truncated)?;
        Ok(Self {
            lengths,
            rest,
            alone: false,
        })
    }

    /// How many messages the packet announced and does not hold. The others are good.
    #[must_use]
    pub fn truncated(&self) -> usize {
        let mut whole = self.clone();
        while whole.next().is_some() {}
        whole.lengths.len() / COMPOUND_ENTRY_BYTES
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.alone {
            self.alone = false;
            return Some(std::mem::take(&mut self.rest));
        }
        let (length, lengths) = self.lengths.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (message, rest) = self.rest.split_at_checked(length)?;
        (self.lengths, self.rest) = (lengths, rest);
        Some(message)
    }
}

impl Envelope {
    /// Opens a packet that came in.
    ///
    /// # Errors
    /// [`PacketError`], each variant for a reason worth counting. What a message itself holds is not looked at.
    pub fn open_packet<'a>(
        &self,
        packet: &'a [u8],
        scratch: &'a mut PacketScratch,
    ) -> Result<Messages<'a>, PacketError> {
        let PacketScratch {
            decrypted,
            decompressed,
        } = scratch;
        let bytes = self.take_label(packet)?;
        let bytes = match self.ciphers() {
            Some(ciphers) => {
                match ciphers.decrypt(self.config.label.as_bytes(), bytes, decrypted) {
                    Ok(()) => decrypted,
                    Err(_) if !self.config.verify_incoming => bytes,
                    Err(error) => return Err(error.into()),
                }
            }
            None => bytes,
        };
        let bytes = check_checksum(bytes)?;
        let bytes = match bytes.split_first() {
            Some((&kind, body)) if kind == MessageType::Compress as u8 => {
                decompress(body, DECOMPRESSED_BYTES_MAX, decompressed)?;
                decompressed
            }
            _ => bytes,
        };
        Messages::read(bytes)
    }

    fn take_label<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], LabelError> {
        match Header::read(packet)? {
            Header::None => self.check_label(None).map(|()| packet),
            Header::Label(label, rest) => self.check_label(Some(label)).map(|()| rest),
            Header::Incomplete => Err(LabelError::Truncated),
        }
    }

    /// How many bytes the messages of a packet may take, with [`COMPOUND_ENTRY_BYTES`] for each of them, for the packet
    /// to keep to [`PACKET_BYTES_BUDGET`].
    #[must_use]
    pub fn packet_room(&self) -> usize {
        let encryption = self
            .outgoing_ciphers()
            .map_or(0, |_| self.config.encryption.overhead());
        let label = self.config.label.overhead();
        PACKET_BYTES_BUDGET - label - encryption - CHECKSUM_HEADER_BYTES - COMPOUND_HEADER_BYTES
    }

    /// Makes packets of messages, type bytes included, for a node that understands memberlist's protocol up to
    /// `receiver_protocol_max` (0 where that is not known). One packet holds up to [`COMPOUND_MESSAGES_MAX`] messages,
    /// however large it gets: keeping to [`Self::packet_room`] is the caller's part.
    ///
    /// The generator must be one that nobody can foresee.
    ///
    /// # Errors
    /// [`MessageTooLarge`] before any packet is made.
    pub fn seal_packets<M: AsRef<[u8]>, R: CryptoRng + ?Sized>(
        &self,
        messages: &[M],
        receiver_protocol_max: u8,
        rng: &mut R,
        mut send: impl FnMut(Vec<u8>),
    ) -> Result<(), MessageTooLarge> {
        let mut lengths = messages.iter().map(|message| message.as_ref().len());
        if let Some(length) = lengths.find(|&length| length > PACKET_BYTES_MAX) {
            return Err(MessageTooLarge(length));
        }
        for messages in messages.chunks(COMPOUND_MESSAGES_MAX) {
            match messages {
                [message] => send(self.seal_packet(message.as_ref(), receiver_protocol_max, rng)),
                _ => send(self.seal_packet(&compound(messages), receiver_protocol_max, rng)),
            }
        }
        Ok(())
    }

    fn seal_packet<R: CryptoRng + ?Sized>(
        &self,
        message: &[u8],
        receiver_protocol_max: u8,
        rng: &mut R,
    ) -> Vec<u8> {
        let compressed = self.config.compress.then(|| compress(message)).flatten();
        let message = compressed.as_deref().unwrap_or(message);
        let label = &self.config.label;
        let encryption = self.config.encryption.overhead();
        let overhead = label.overhead() + encryption + CHECKSUM_HEADER_BYTES;
        let mut out = Vec::with_capacity(message.len() + overhead);
        label.write_header(&mut out);
        let checked = |out: &mut Vec<u8>| {
            if receiver_protocol_max >= CHECKSUM_PROTOCOL_MIN {
                out.push(MessageType::HasCrc as u8);
                out.extend_from_slice(&crc32fast::hash(message).to_be_bytes());
            }
            out.extend_from_slice(message);
        };
        match self.outgoing_ciphers() {
            Some(ciphers) => {
                let mut text = Vec::with_capacity(CHECKSUM_HEADER_BYTES + message.len());
                checked(&mut text);
                let version = self.config.encryption;
                ciphers.encrypt(version, label.as_bytes(), &text, rng, &mut out);
            }
            None => checked(&mut out),
        }
        out
    }
}

/// What follows the checksum, if there is one and it is right.
fn check_checksum(bytes: &[u8]) -> Result<&[u8], PacketError> {
    let Some(([kind, checksum @ ..], rest)) = bytes.split_first_chunk::<CHECKSUM_HEADER_BYTES>()
    else {
        return Ok(bytes);
    };
    if *kind != MessageType::HasCrc as u8 {
        return Ok(bytes);
    }
    let (actual, expected) = (crc32fast::hash(rest), u32::from_be_bytes(*checksum));
    if actual == expected {
        Ok(rest)
    } else {
        Err(PacketError::Checksum { actual, expected })
    }
}

/// One message of several: at most [`COMPOUND_MESSAGES_MAX`], none longer than [`PACKET_BYTES_MAX`].
fn compound<M: AsRef<[u8]>>(messages: &[M]) -> Vec<u8> {
    let bytes: usize = messages.iter().map(|message| message.as_ref().len()).sum();
    let entries = COMPOUND_ENTRY_BYTES * messages.len();
    let mut out = Vec::with_capacity(COMPOUND_HEADER_BYTES + entries + bytes);
    out.extend_from_slice(&[MessageType::Compound as u8, messages.len() as u8]);
    for message in messages {
        out.extend_from_slice(&(message.as_ref().len() as u16).to_be_bytes());
    }
    for message in messages {
        out.extend_from_slice(message.as_ref());
    }
    out
}

#[cfg(test)]
mod tests;
