//! Requests made once and sent many times, and answers checked without decoding them.
//!
//! The checks are complete, yet cheap enough for millions of answers a second: headers without an error all begin with
//! the same bytes; a body that is the same as the one before ends where that ended, as a MsgPack object is never the
//! beginning of another. Whatever looks different is scanned and decoded.

use serde::Serialize;

use super::BenchError;
use super::plan::{Plan, STAMP_BYTES, Workload};
use crate::msgpack::frame::{DEPTH_MAX, Limits, Progress, Scanner};
use crate::rpc::message::{
    AuthRequest, Bytes, Command, CoordinateRequest, EventRequest, HandshakeRequest,
    MembersFilteredRequest, OptionalBytes, PROTOCOL_VERSION, QueryRecord, QueryRequest,
    RequestHeader, RespondRequest, ResponseHeader, StreamRequest, Text, UserEventRecord,
};

/// Numbers of requests begin here: from here on all of them take five bytes, so every answer is as long as the last.
pub const FIRST_SEQ: u32 = 65_536;
/// Events and queries of a run have this name.
pub(super) const NAME: &str = "serfling-bench";
/// A stream filter that no event of a run matches.
const NOTHING: &str = "user:serfling-bench-nothing";
/// An answer may be so long, in bytes: some hundred thousand members.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// `{"Error": "", "Seq": …` up to the number.
const HEADER_WITHOUT_ERROR: &[u8] = b"\x82\xa5Error\xa0\xa3Seq";
/// How long queries can be answered, in nanoseconds.
const QUERY_TIMEOUT_NANOS: i64 = 1_000_000_000;

/// The number of the request after this one.
pub(super) const fn next_seq(seq: u32) -> u32 {
    if seq == u32::MAX { FIRST_SEQ } else { seq + 1 }
}

/// A request with a place for its Seq.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    seq_at: usize,
    /// Where the payload is, if there is one.
    payload_at: usize,
}

impl Template {
    /// A request; `payload_bytes` at its end are its payload.
    fn new(command: Command, body: Option<&impl Serialize>, payload_bytes: usize) -> Self {
        let mut bytes = Vec::new();
        // The largest number takes all its bytes, last in the header.
        encode(
            &mut bytes,
            &RequestHeader {
                command: Text(command.name()),
                seq: u32::MAX.into(),
            },
        );
        let seq_at = bytes.len() - size_of::<u32>();
        if let Some(body) = body {
            encode(&mut bytes, body);
        }
        let payload_at = bytes.len() - payload_bytes;
        Self {
            bytes,
            seq_at,
            payload_at,
        }
    }

    /// The handshake.
    #[must_use]
    pub fn handshake() -> Self {
        let body = HandshakeRequest {
            version: PROTOCOL_VERSION,
        };
        Self::new(Command::Handshake, Some(&body), 0)
    }

    pub(super) fn auth(key: &str) -> Self {
        let auth_key = Bytes(key.as_bytes());
        Self::new(Command::Auth, Some(&AuthRequest { auth_key }), 0)
    }

    pub(super) fn stream(matching: bool, query: bool) -> Self {
        let filter = match (matching, query) {
            (false, _) => NOTHING.to_owned(),
            (true, false) => format!("user:{NAME}"),
            (true, true) => format!("query:{NAME}"),
        };
        let r#type = Text(&filter);
        Self::new(Command::Stream, Some(&StreamRequest { r#type }), 0)
    }

    /// What a workload asks, if it asks something.
    #[must_use]
    pub fn of(plan: &Plan) -> Option<Self> {
        let payload = vec![b'x'; plan.payload()];
        let bare = |command| Some(Self::new(command, None::<&()>, 0));
        match plan.workload {
            Workload::Members => bare(Command::Members),
            Workload::Stats => bare(Command::Stats),
            Workload::MembersFiltered => {
                let tags = plan.filter_tags.iter();
                let body = MembersFilteredRequest {
                    name: Text(&plan.filter_name),
                    status: Text(&plan.filter_status),
                    tags: tags.map(|(tag, regex)| (&**tag, Text(regex))).collect(),
                };
                Some(Self::new(Command::MembersFiltered, Some(&body), 0))
            }
            Workload::GetCoordinate => {
                let node = Text(&plan.node);
                let body = CoordinateRequest { node };
                Some(Self::new(Command::GetCoordinate, Some(&body), 0))
            }
            Workload::Event | Workload::FanOut => {
                let body = EventRequest {
                    coalesce: false,
                    name: Text(NAME),
                    payload: Bytes(&payload),
                };
                Some(Self::new(Command::Event, Some(&body), payload.len()))
            }
            Workload::Query => {
                let body = QueryRequest {
                    name: Text(NAME),
                    payload: OptionalBytes(Some(&payload)),
                    timeout: QUERY_TIMEOUT_NANOS,
                    ..QueryRequest::default()
                };
                Some(Self::new(Command::Query, Some(&body), 0))
            }
            Workload::Connect | Workload::Idle => None,
        }
    }

    /// Appends the request with this number.
    pub(super) fn push(&self, seq: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let at = start + self.seq_at;
        if let Some(place) = out.get_mut(at..at + size_of::<u32>()) {
            place.copy_from_slice(&seq.to_be_bytes());
        }
    }

    /// Appends the request with this number and stamp.
    pub(super) fn push_stamped(&self, seq: u32, stamp: Stamp, out: &mut Vec<u8>) {
        let at = out.len() + self.payload_at;
        self.push(seq, out);
        if let Some(place) = out.get_mut(at..at + STAMP_BYTES) {
            place.copy_from_slice(&stamp.to_bytes());
        }
    }

    /// The request, as all begin, and where its number is.
    #[must_use]
    pub fn parts(&self) -> (&[u8], usize) {
        (&self.bytes, self.seq_at)
    }
}

/// The answer to a query.
pub(super) fn push_respond(seq: u32, id: u64, payload_bytes: usize, out: &mut Vec<u8>) {
    let header = RequestHeader {
        command: Text(Command::Respond.name()),
        seq: seq.into(),
    };
    encode(out, &header);
    let payload = vec![b'x'; payload_bytes];
    let payload = Bytes(&payload);
    encode(out, &RespondRequest { id, payload });
}

fn encode(out: &mut Vec<u8>, value: &impl Serialize) {
    // Our message types can't fail to encode into memory.
    let encoded = rmp_serde::encode::write_named(out, value);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
}

/// What the payload of an event to subscribers begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When it was due, in nanoseconds of the run.
    pub(super) due: u64,
    pub(super) publisher: u32,
    /// Which of its publisher's events it is, from 1.
    pub(super) number: u32,
}

impl Stamp {
    fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let stamp =
            u128::from(self.due) << 64 | u128::from(self.publisher) << 32 | u128::from(self.number);
        stamp.to_be_bytes()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let stamp = u128::from_be_bytes(*payload.first_chunk::<STAMP_BYTES>()?);
        Some(Self {
            due: (stamp >> 64) as u64,
            publisher: (stamp >> 32) as u32,
            number: stamp as u32,
        })
    }
}

/// The header of an answer or a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) seq: u64,
    pub(super) error: Option<String>,
    pub(super) length: usize,
}

/// Reads the header that `bytes` begin with, if it is all there.
pub(super) fn read_header(bytes: &[u8]) -> Result<Option<Header>, BenchError> {
    if let Some(rest) = bytes.strip_prefix(HEADER_WITHOUT_ERROR)
        && let Some((seq, length)) = read_uint(rest)
    {
        return Ok(Some(Header {
            seq,
            error: None,
            length: HEADER_WITHOUT_ERROR.len() + length,
        }));
    }
    let Some(length) = object_length(bytes)? else {
        return Ok(None);
    };
    let header: ResponseHeader<'_> = decode(bytes)?;
    let error = Some(header.error.0).filter(|error| !error.is_empty());
    Ok(Some(Header {
        seq: header.seq,
        error: error.map(str::to_owned),
        length,
    }))
}

/// An unsigned number, and its length.
fn read_uint(bytes: &[u8]) -> Option<(u64, usize)> {
    let field = |width: usize| {
        let bytes = bytes.get(1..=width)?;
        let value = bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        Some((value, 1 + width))
    };
    match *bytes.first()? {
        small @ 0..=0x7f => Some((small.into(), 1)),
        0xcc => field(1),
        0xcd => field(2),
        0xce => field(4),
        0xcf => field(8),
        _ => None,
    }
}

fn object_length(bytes: &[u8]) -> Result<Option<usize>, BenchError> {
    let limits = Limits {
        bytes_max: MESSAGE_BYTES_MAX,
        depth_max: DEPTH_MAX,
    };
    match Scanner::new(limits).scan(bytes) {
        Ok(Progress::Complete(length)) => Ok(Some(length)),
        Ok(Progress::Incomplete) => Ok(None),
        Err(error) => Err(BenchError::Protocol(error.to_string())),
    }
}

fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BenchError> {
    crate::msgpack::decode(bytes).map_err(|error| BenchError::Protocol(error.to_string()))
}

/// Finds where bodies end.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    last: Vec<u8>,
}

impl Bodies {
    /// Length of the body `bytes` begin with, if it is all there.
    pub(super) fn length(&mut self, bytes: &[u8]) -> Result<Option<usize>, BenchError> {
        if !self.last.is_empty() && bytes.starts_with(&self.last) {
            return Ok(Some(self.last.len()));
        }
        if self.last.starts_with(bytes) {
            return Ok(None);
        }
        let Some(length) = object_length(bytes)? else {
            return Ok(None);
        };
        self.last.clear();
        self.last
            .extend_from_slice(bytes.get(..length).unwrap_or_default());
        Ok(Some(length))
    }
}

/// Reads records of the events of a run.
#[derive(Debug)]
pub(super) struct EventRecords {
    /// The record up to the Lamport time.
    start: Vec<u8>,
    /// The record from behind the Lamport time up to the payload.
    middle: Vec<u8>,
    payload_bytes: usize,
}

impl EventRecords {
    pub(super) fn new(payload_bytes: usize) -> Self {
        let payload = vec![0; payload_bytes];
        let mut start = Vec::new();
        let record = UserEventRecord {
            coalesce: false,
            event: Text("user"),
            ltime: 0,
            name: Text(NAME),
            payload: Bytes(&payload),
        };
        encode(&mut start, &record);
        start.truncate(start.len() - payload_bytes);
        let before = b"\x85\xa8Coalesce\xc2\xa5Event\xa4user\xa5LTime".len();
        let middle = start.split_off(before.min(start.len())).split_off(1);
        Self {
            start,
            middle,
            payload_bytes,
        }
    }

    /// The stamp and length of the record `bytes` begin with, if it is all there.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Option<(Stamp, usize)>, BenchError> {
        let quick = || {
            let rest = bytes.strip_prefix(&*self.start)?;
            let (_, ltime_bytes) = read_uint(rest)?;
            let payload = rest.get(ltime_bytes..)?.strip_prefix(&*self.middle)?;
            let stamp = Stamp::read(payload.get(..self.payload_bytes)?)?;
            let length = self.start.len() + ltime_bytes + self.middle.len() + self.payload_bytes;
            Some((stamp, length))
        };
        if let Some(read) = quick() {
            return Ok(Some(read));
        }
        let Some(length) = object_length(bytes)? else {
            return Ok(None);
        };
        let record: UserEventRecord<'_> = decode(bytes)?;
        match Stamp::read(record.payload.0) {
            Some(stamp) if record.name.0 == NAME => Ok(Some((stamp, length))),
            _ => {
                let text = format!("a record that the stream did not ask for: {record:?}");
                Err(BenchError::Protocol(text))
            }
        }
    }
}

/// The ID to answer with and the length of the query record `bytes` begin with, if it is all there.
pub(super) fn read_query(bytes: &[u8]) -> Result<Option<(u64, usize)>, BenchError> {
    let Some(length) = object_length(bytes)? else {
        return Ok(None);
    };
    let record: crate::rpc::message::QueryEventRecord<'_> = decode(bytes)?;
    Ok(Some((record.id, length)))
}

/// What a record says of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Response,
    Done,
}

/// What the record that `bytes` begin with says of a query, and its length, if it is all there.
pub(super) fn read_answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, BenchError> {
    let Some(length) = object_length(bytes)? else {
        return Ok(None);
    };
    let record: QueryRecord<'_> = decode(bytes)?;
    let answer = match record.r#type.0 {
        "ack" => Answer::Ack,
        "response" => Answer::Response,
        "done" => Answer::Done,
        other => {
            return Err(BenchError::Protocol(format!(
                "a query record of type {other:?}"
            )));
        }
    };
    Ok(Some((answer, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(workload: Workload) -> Plan {
        Plan::new("127.0.0.1:1".parse().unwrap(), workload)
    }

    #[test]
    fn requests_differ_in_number_and_stamp_alone() {
        let template = Template::of(&plan(Workload::FanOut)).unwrap();
        let stamp = Stamp {
            due: 5,
            publisher: 2,
            number: 9,
        };
        let mut out = Vec::new();
        template.push_stamped(FIRST_SEQ, stamp, &mut out);
        let header: RequestHeader<'_> = decode(&out).unwrap();
        assert_eq!((header.command.0, header.seq), ("event", 65_536));
        let at = object_length(&out).unwrap().unwrap();
        let body: EventRequest<'_> = decode(&out[at..]).unwrap();
        assert_eq!(Stamp::read(body.payload.0), Some(stamp));
        assert_eq!(body.payload.0.len(), 64);
    }

    #[test]
    fn headers_read_as_they_are_and_in_parts() {
        let bytes = b"\x82\xa5Error\xa2no\xa3Seq\xcd\x01\x00";
        for length in 0..bytes.len() {
            assert_eq!(read_header(&bytes[..length]).unwrap(), None);
        }
        let header = read_header(bytes).unwrap().unwrap();
        assert_eq!((header.seq, header.error.as_deref()), (256, Some("no")));
        let plain = read_header(b"\x82\xa5Error\xa0\xa3Seq\x07\xff").unwrap();
        assert_eq!(plain.unwrap().length, 13);
        assert!(read_header(b"\x82\xc1").is_err());
        assert!(read_header(b"\x05").is_err());
    }

    #[test]
    fn bodies_end_where_they_end() {
        let mut bodies = Bodies::default();
        for (bytes, length) in [
            (&b"\x92\x01\x02\x82"[..], Some(3)),
            (b"\x92\x01\x02\x82", Some(3)),
            (b"\x92\x01", None),
            (b"\x92\x01\x03", Some(3)),
            (b"\x93\x01\x03", None),
            (b"", None),
        ] {
            assert_eq!(bodies.length(bytes).unwrap(), length, "{bytes:x?}");
        }
    }

    #[test]
    fn records_are_read_in_any_form() {
        let records = EventRecords::new(STAMP_BYTES);
        let stamp = Stamp {
            due: 1 << 40,
            publisher: 7,
            number: 1,
        };
        let payload = stamp.to_bytes();
        for ltime in [0, 200, 70_000, 1 << 40] {
            let mut bytes = Vec::new();
            let record = UserEventRecord {
                coalesce: false,
                event: Text("user"),
                ltime,
                name: Text(NAME),
                payload: Bytes(&payload),
            };
            encode(&mut bytes, &record);
            assert_eq!(records.read(&bytes).unwrap(), Some((stamp, bytes.len())));
            assert_eq!(records.read(&bytes[..bytes.len() - 1]).unwrap(), None);
            let mut other = Vec::new();
            let record = UserEventRecord {
                coalesce: true,
                ..record
            };
            encode(&mut other, &record);
            assert_eq!(records.read(&other).unwrap(), Some((stamp, other.len())));
        }
        let mut foreign = Vec::new();
        encode(&mut foreign, &UserEventRecord::default());
        assert!(records.read(&foreign).is_err());
    }

    #[test]
    fn numbers_never_become_shorter() {
        assert_eq!(next_seq(FIRST_SEQ), 65_537);
        assert_eq!(next_seq(u32::MAX), FIRST_SEQ);
    }
}
