//! Streams: what one TCP connection holds, from the outside in.
//!
//! Each end says one message at the most: a push/pull, a user message, a ping, an acknowledgement or an error. Around
//! it, each possibly missing: a label header (only of the end that opened the stream), encryption, compression.
//!
//! [`StreamReader`] is fed with what comes, in any split, and gives the message once it is whole. So a torn push/pull
//! changes nothing. It holds what came and no more, and what came is bounded. A [`PushPull`] keeps the bytes and hands
//! out its nodes one by one, over as many turns as that takes.
//!
//! Source: hashicorp/memberlist, `net.go` (`readStream`, `rawSendMsgStream`, `readRemoteState`, `readUserMsg`).

use rand::CryptoRng;

use super::compression::{DecompressError, compress, decompress};
use super::encryption::{Ciphers, DecryptError};
use super::envelope::{Envelope, Header, LabelError};
use super::message::{
    ErrorMessage, Message, MessageType, PushNode, PushPullHeader, UserHeader, WireError,
};
use crate::msgpack::frame::{FrameError, Limits, Progress, Scanner};

/// Most that is kept of a stream, also after decompression, in bytes.
pub const STREAM_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest message that is compressed, in bytes: it takes a millisecond or two, and longer ones would hold up the loop.
pub const COMPRESSED_BYTES_MAX: usize = 128 * 1024;
/// Work on what came that is done in one call: about this many nodes read, or bytes decrypted or unpacked.
const STEPS_PER_CALL: usize = 2048;
const BYTES_PER_CALL: usize = 64 * 1024;
/// Longest encrypted message (memberlist's `maxPushStateBytes`), in bytes.
pub const ENCRYPTED_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Longest user message or user state (memberlist's `maxUserMsgBytes` and `maxPushStateBytes`), in bytes.
pub const USER_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Most nodes in a push/pull (memberlist's `maxPushStateNodes`).
pub const NODES_MAX: u64 = 1024 * 1024;
/// Longest node in a push/pull, in bytes; its meta data has 512 at the most.
pub const NODE_BYTES_MAX: usize = 1024 * 1024;
/// Type and length before an encrypted message, in bytes.
const ENCRYPTED_HEADER_BYTES: usize = 5;

/// Everything that is MsgPack here is a map of plain values; unknown fields may hold some more.
const fn limits(bytes_max: usize) -> Limits {
    Limits {
        bytes_max,
        depth_max: 8,
    }
}

/// Which end of a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The one that opened it: its message has the label header.
    Opener,
    /// The one that accepted it.
    Accepter,
}

/// Why a stream is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is of another cluster, or its label header is damaged.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// It is encrypted and we have no keys.
    #[error("Remote state is encrypted and encryption is not configured")]
    Encrypted,
    /// It is not encrypted and we have keys.
    #[error("Encryption is configured but remote state is not encrypted")]
    NotEncrypted,
    /// It is not encrypted with one of our keys.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// What is compressed in it cannot be unpacked.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// It is larger than a limit, in bytes.
    #[error("remote state is larger than limit ({0})")]
    TooLarge(usize),
    /// It announces too many nodes.
    #[error("number of nodes in header ({0}) exceeds limit")]
    TooManyNodes(u64),
    /// It ends before its message does.
    #[error("the message is truncated")]
    Truncated,
    /// It is not MsgPack where it should be, or too large or deep.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It holds a message that cannot be read, or has no place in a stream.
    #[error(transparent)]
    Message(#[from] WireError),
}

/// What one end of a stream says.
#[derive(Debug)]
pub enum StreamMessage {
    /// All that a node knows. On an accepted stream, ours is the answer.
    PushPull(PushPull),
    /// A message of the layer above.
    User(Vec<u8>),
    /// Are you there? An [`StreamMessage::Ack`] is the answer.
    Ping {
        /// A number for the answer to repeat.
        seq: u32,
        /// Who is asked; empty for whoever is there.
        node: String,
    },
    /// I am.
    Ack {
        /// The number of the ping.
        seq: u32,
    },
    /// What went wrong at the other end, for people.
    Error(String),
}

impl StreamMessage {
    /// What the message is, for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PushPull(_) => "push/pull",
            Self::User(_) => "user message",
            Self::Ping { .. } => "ping",
            Self::Ack { .. } => "ack",
            Self::Error(_) => "error",
        }
    }
}

/// All that a node knows.
#[derive(Debug)]
pub struct PushPull {
    /// The header, which was read, then the nodes, then the user state.
    bytes: Vec<u8>,
    join: bool,
    nodes: u64,
    nodes_start: usize,
    nodes_left: u64,
    nodes_at: usize,
    user_at: usize,
}

impl PushPull {
    /// Whether the sender joins, or compares what it knows from time to time.
    #[must_use]
    pub const fn is_join(&self) -> bool {
        self.join
    }

    /// How many nodes [`Self::next_node`] has yet to give.
    #[must_use]
    pub const fn nodes_left(&self) -> u64 {
        self.nodes_left
    }

    /// How many bytes it takes up.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Has [`Self::next_node`] begin with the first one again.
    pub const fn rewind(&mut self) {
        self.nodes_left = self.nodes;
        self.nodes_at = self.nodes_start;
    }

    /// Takes the next node. One that cannot be read does no harm to those after it.
    pub fn next_node(&mut self) -> Option<Result<PushNode<'_>, WireError>> {
        let (start, end) = self.advance()?;
        let node = self.bytes.get(start..end).unwrap_or_default();
        Some(PushNode::decode(node))
    }

    /// All nodes that were not taken yet, to look at before the first is.
    pub fn nodes(&self) -> impl Iterator<Item = Result<PushNode<'_>, WireError>> {
        let mut at = self.nodes_at;
        (0..self.nodes_left).map_while(move |_| {
            let end = self.node_end(at)?;
            let node = self.bytes.get(at..end)?;
            at = end;
            Some(PushNode::decode(node))
        })
    }

    /// What the layer above knows.
    #[must_use]
    pub fn user_state(&self) -> &[u8] {
        self.bytes.get(self.user_at..).unwrap_or_default()
    }

    fn advance(&mut self) -> Option<(usize, usize)> {
        self.nodes_left = self.nodes_left.checked_sub(1)?;
        let start = self.nodes_at;
        self.nodes_at = self.node_end(start)?;
        Some((start, self.nodes_at))
    }

    fn node_end(&self, start: usize) -> Option<usize> {
        let rest = self.bytes.get(start..self.user_at)?;
        match Scanner::new(limits(NODE_BYTES_MAX)).scan(rest) {
            Ok(Progress::Complete(length)) => Some(start + length),
            Ok(Progress::Incomplete) | Err(_) => None,
        }
    }
}

/// Reads what the other end of a stream says.
#[derive(Debug)]
pub struct StreamReader {
    stage: Stage,
    /// What came of the layer that is being read, from its type byte on.
    bytes: Vec<u8>,
    /// The layer was unwrapped: nothing more is going to come of it.
    whole: bool,
    /// There is more to do with what came.
    busy: bool,
}

#[derive(Debug)]
enum Stage {
    /// Is there a label?
    Label,
    /// Is it encrypted?
    Outer,
    /// Is it compressed?
    Inner,
    /// Until what is compressed is whole.
    Compressed(Scanner),
    /// Until the first object of a message is whole.
    Head(MessageType, Scanner),
    /// Until all nodes of a push/pull are whole: where they start, the current one, how many are missing with it.
    Nodes {
        header: PushPullHeader,
        start: usize,
        at: usize,
        missing: u64,
        scanner: Scanner,
    },
    /// Until the user state is whole.
    UserState(PushPull, usize),
    /// Until the user message is whole: where it starts and ends.
    User(usize, usize),
    /// The message was given out.
    Done,
}

enum Step {
    Next(Stage),
    Wait(Stage),
    Done(StreamMessage),
}

impl StreamReader {
    /// A reader of what that end says.
    #[must_use]
    pub const fn new(speaker: StreamEnd) -> Self {
        Self {
            stage: match speaker {
                StreamEnd::Opener => Stage::Label,
                StreamEnd::Accepter => Stage::Outer,
            },
            bytes: Vec::new(),
            whole: false,
            busy: false,
        }
    }

    /// Whether there is more to do with what came: then [`Self::handle_received`] is to be called again, with nothing.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.busy
    }

    /// How many bytes it takes up.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what came, and gives the message with the call that makes it whole. What comes after it is dropped. A large
    /// message takes several calls: see [`Self::is_busy`].
    ///
    /// # Errors
    /// [`StreamError`]: the stream is of no use any more.
    pub fn handle_received(
        &mut self,
        envelope: &Envelope,
        bytes: &[u8],
    ) -> Result<Option<StreamMessage>, StreamError> {
        if matches!(self.stage, Stage::Done) {
            return Ok(None);
        }
        self.bytes.extend_from_slice(bytes);
        self.busy = false;
        for _ in 0..STEPS_PER_CALL {
            let was_whole = self.whole;
            let stage = std::mem::replace(&mut self.stage, Stage::Done);
            match self.step(envelope, stage)? {
                Step::Next(stage) => {
                    self.stage = stage;
                    if self.whole && !was_whole && self.bytes.len() > BYTES_PER_CALL {
                        break;
                    }
                }
                Step::Wait(_) if self.whole => return Err(StreamError::Truncated),
                Step::Wait(_) if self.bytes.len() > STREAM_BYTES_MAX => {
                    return Err(StreamError::TooLarge(STREAM_BYTES_MAX));
                }
                Step::Wait(stage) => {
                    self.stage = stage;
                    return Ok(None);
                }
                Step::Done(message) => {
                    self.bytes = Vec::new();
                    return Ok(Some(message));
                }
            }
        }
        self.busy = true;
        Ok(None)
    }

    /// The other end says nothing more.
    ///
    /// # Errors
    /// [`StreamError::Truncated`] if it stopped within a message. Saying nothing at all is no error.
    pub const fn handle_ended(&self) -> Result<(), StreamError> {
        match self.stage {
            Stage::Done => Ok(()),
            Stage::Label | Stage::Outer if self.bytes.is_empty() => Ok(()),
            _ => Err(StreamError::Truncated),
        }
    }

    fn step(&mut self, envelope: &Envelope, stage: Stage) -> Result<Step, StreamError> {
        let Some(&kind) = self.bytes.first() else {
            return if self.whole {
                Err(WireError::Empty.into())
            } else {
                Ok(Step::Wait(stage))
            };
        };
        match stage {
            Stage::Label => self.read_label(envelope),
            Stage::Outer if kind == MessageType::Encrypt as u8 => self.decrypt(envelope),
            Stage::Outer if envelope.ciphers().is_some() && envelope.config.verify_incoming => {
                Err(StreamError::NotEncrypted)
            }
            Stage::Outer => Ok(Step::Next(Stage::Inner)),
            Stage::Inner if kind == MessageType::Compress as u8 => {
                let scanner = Scanner::new(limits(STREAM_BYTES_MAX));
                Ok(Step::Next(Stage::Compressed(scanner)))
            }
            Stage::Inner => begin_message(kind),
            Stage::Compressed(scanner) => self.decompress(scanner),
            Stage::Head(kind, mut scanner) => match self.scan(1, &mut scanner)? {
                Some(end) => self.read_head(kind, end),
                None => Ok(Step::Wait(Stage::Head(kind, scanner))),
            },
            Stage::Nodes {
                header,
                start,
                at,
                missing,
                scanner,
            } => self.read_node(header, start, at, missing, scanner),
            Stage::UserState(mut push_pull, end) => {
                if self.bytes.len() < end {
                    return Ok(Step::Wait(Stage::UserState(push_pull, end)));
                }
                push_pull.bytes = std::mem::take(&mut self.bytes);
                push_pull.bytes.truncate(end);
                Ok(Step::Done(StreamMessage::PushPull(push_pull)))
            }
            Stage::User(start, end) => Ok(match self.bytes.get(start..end) {
                Some(message) => Step::Done(StreamMessage::User(message.to_vec())),
                None => Step::Wait(Stage::User(start, end)),
            }),
            Stage::Done => Ok(Step::Wait(Stage::Done)),
        }
    }

    fn read_label(&mut self, envelope: &Envelope) -> Result<Step, StreamError> {
        match Header::read(&self.bytes)? {
            Header::None => envelope.check_label(None)?,
            Header::Label(label, rest) => {
                envelope.check_label(Some(label))?;
                let header = self.bytes.len() - rest.len();
                self.bytes.drain(..header);
            }
            Header::Incomplete => return Ok(Step::Wait(Stage::Label)),
        }
        Ok(Step::Next(Stage::Outer))
    }

    fn decrypt(&mut self, envelope: &Envelope) -> Result<Step, StreamError> {
        let ciphers = envelope.ciphers().ok_or(StreamError::Encrypted)?;
        let Some((header, rest)) = self.bytes.split_first_chunk::<ENCRYPTED_HEADER_BYTES>() else {
            return Ok(Step::Wait(Stage::Outer));
        };
        let [_, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > ENCRYPTED_BYTES_MAX {
            return Err(StreamError::TooLarge(ENCRYPTED_BYTES_MAX));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(Step::Wait(Stage::Outer));
        };
        let mut decrypted = Vec::new();
        ciphers.decrypt(&covered(*header, envelope), payload, &mut decrypted)?;
        Ok(self.unwrapped(decrypted, Stage::Inner))
    }

    fn decompress(&mut self, mut scanner: Scanner) -> Result<Step, StreamError> {
        let Some(end) = self.scan(1, &mut scanner)? else {
            return Ok(Step::Wait(Stage::Compressed(scanner)));
        };
        let body = self.bytes.get(1..end).unwrap_or_default();
        let mut decompressed = Vec::new();
        decompress(body, STREAM_BYTES_MAX, &mut decompressed)?;
        let kind = decompressed.first().copied().ok_or(WireError::Empty)?;
        // What is compressed again is refused with the types that have no place here.
        self.unwrapped(decompressed, Stage::Done);
        begin_message(kind)
    }

    fn unwrapped(&mut self, bytes: Vec<u8>, stage: Stage) -> Step {
        self.bytes = bytes;
        self.whole = true;
        Step::Next(stage)
    }

    fn read_head(&mut self, kind: MessageType, end: usize) -> Result<Step, StreamError> {
        let head = self.bytes.get(1..end).unwrap_or_default();
        Ok(match kind {
            MessageType::PushPull => {
                let header = PushPullHeader::decode(head)?;
                if header.nodes > NODES_MAX {
                    return Err(StreamError::TooManyNodes(header.nodes));
                }
                Step::Next(Stage::Nodes {
                    header,
                    start: end,
                    at: end,
                    missing: header.nodes,
                    scanner: Scanner::new(limits(NODE_BYTES_MAX)),
                })
            }
            MessageType::User => {
                let length = user_length(UserHeader::decode(head)?.len)?;
                Step::Next(Stage::User(end, end + length))
            }
            MessageType::Error => {
                let error = ErrorMessage::decode(head)?.error.to_owned();
                Step::Done(StreamMessage::Error(error))
            }
            _ => match Message::decode(&self.bytes)? {
                Message::Ping(ping) => Step::Done(StreamMessage::Ping {
                    seq: ping.seq,
                    node: ping.node.to_owned(),
                }),
                Message::Ack(ack) => Step::Done(StreamMessage::Ack { seq: ack.seq }),
                _ => return Err(WireError::Type(kind as u8).into()),
            },
        })
    }

    fn read_node(
        &mut self,
        header: PushPullHeader,
        start: usize,
        at: usize,
        missing: u64,
        mut scanner: Scanner,
    ) -> Result<Step, StreamError> {
        if missing == 0 {
            let end = at + user_length(header.user_state_len)?;
            let push_pull = PushPull {
                bytes: Vec::new(),
                join: header.join,
                nodes: header.nodes,
                nodes_start: start,
                nodes_left: header.nodes,
                nodes_at: start,
                user_at: at,
            };
            return Ok(Step::Next(Stage::UserState(push_pull, end)));
        }
        let (at, missing, wait) = match self.scan(at, &mut scanner)? {
            Some(end) => {
                scanner = Scanner::new(limits(NODE_BYTES_MAX));
                (end, missing - 1, false)
            }
            None => (at, missing, true),
        };
        let stage = Stage::Nodes {
            header,
            start,
            at,
            missing,
            scanner,
        };
        Ok(if wait {
            Step::Wait(stage)
        } else {
            Step::Next(stage)
        })
    }

    /// Where the object ends that begins at `start`, once it is whole.
    fn scan(&self, start: usize, scanner: &mut Scanner) -> Result<Option<usize>, FrameError> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        Ok(match scanner.scan(rest)? {
            Progress::Complete(length) => Some(start + length),
            Progress::Incomplete => None,
        })
    }
}

fn begin_message(kind: u8) -> Result<Step, StreamError> {
    match MessageType::from_byte(kind) {
        Some(
            kind @ (MessageType::PushPull
            | MessageType::User
            | MessageType::Ping
            | MessageType::Ack
            | MessageType::Error),
        ) => {
            let scanner = Scanner::new(limits(NODE_BYTES_MAX));
            Ok(Step::Next(Stage::Head(kind, scanner)))
        }
        _ => Err(WireError::Type(kind).into()),
    }
}

fn user_length(announced: u64) -> Result<usize, StreamError> {
    usize::try_from(announced)
        .ok()
        .filter(|&length| length <= USER_BYTES_MAX)
        .ok_or(StreamError::TooLarge(USER_BYTES_MAX))
}

/// What the tag of an encrypted message covers on top of the message.
fn covered(header: [u8; ENCRYPTED_HEADER_BYTES], envelope: &Envelope) -> Vec<u8> {
    [&header[..], envelope.config.label.as_bytes()].concat()
}

/// Appends a push/pull, type byte included: what there is to [`Envelope::seal_stream`].
pub fn encode_push_pull<'a>(
    join: bool,
    nodes: impl ExactSizeIterator<Item = PushNode<'a>>,
    user_state: &[u8],
    out: &mut Vec<u8>,
) {
    let header = PushPullHeader {
        nodes: nodes.len() as u64,
        user_state_len: user_state.len() as u64,
        join,
    };
    header.encode(out);
    for node in nodes {
        node.encode(out);
    }
    out.extend_from_slice(user_state);
}

/// Appends a user message as streams carry it, type byte included.
pub fn encode_user(message: &[u8], out: &mut Vec<u8>) {
    let len = message.len() as u64;
    UserHeader { len }.encode(out);
    out.extend_from_slice(message);
}

impl Envelope {
    /// What to write to a stream so that the other end reads `message`, which has its type byte, from our end.
    ///
    /// The generator must be one that nobody can foresee.
    pub fn seal_stream<R: CryptoRng + ?Sized>(
        &self,
        speaker: StreamEnd,
        message: &[u8],
        rng: &mut R,
    ) -> Vec<u8> {
        let compress_it = self.config.compress && message.len() <= COMPRESSED_BYTES_MAX;
        let compressed = compress_it.then(|| compress(message)).flatten();
        let message = compressed.as_deref().unwrap_or(message);
        let mut out = Vec::new();
        if speaker == StreamEnd::Opener {
            self.config.label.write_header(&mut out);
        }
        let Some(ciphers) = self.outgoing_ciphers() else {
            out.extend_from_slice(message);
            return out;
        };
        let version = self.config.encryption;
        // Lengths past u32 are far past what the other end takes.
        let length = Ciphers::encrypted_len(version, message.len()) as u32;
        let mut header = [MessageType::Encrypt as u8, 0, 0, 0, 0];
        header[1..].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&header);
        ciphers.encrypt(version, &covered(header, self), message, rng, &mut out);
        out
    }
}

#[cfg(test)]
mod tests;
