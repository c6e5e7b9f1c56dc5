//! Writes responses and records to the byte as the reference does.

use serde::Serialize;

use super::message::{QueryEventRecord, Text};
use crate::cluster::QueryEvent;

/// `{"Error": "", "Seq": …` up to the number: nearly every header sent begins so.
const HEADER_WITHOUT_ERROR: &[u8] = b"\x82\xa5Error\xa0\xa3Seq";
const HEADER_START: &[u8] = b"\x82\xa5Error";
const HEADER_SEQ: &[u8] = b"\xa3Seq";

/// Appends an unsigned number in its shortest form.
fn push_uint(out: &mut Vec<u8>, value: u64) {
    if value < 128 {
        out.push(value as u8);
    } else {
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_uint(out, value);
    }
}

/// Appends a header that reports success.
pub(super) fn push_header(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(HEADER_WITHOUT_ERROR);
    push_uint(out, seq);
}

/// Appends a header that reports an error.
pub(super) fn push_error_header(out: &mut Vec<u8>, seq: u64, error: &str) {
    out.extend_from_slice(HEADER_START);
    let _ = rmp::encode::write_str(out, error);
    out.extend_from_slice(HEADER_SEQ);
    push_uint(out, seq);
}

/// Appends a body.
pub(super) fn push_body<T: Serialize>(out: &mut Vec<u8>, body: &T) {
    // Our message types have names for all fields and known lengths: they can't fail to encode into memory.
    let encoded = rmp_serde::encode::write_named(out, body);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
}

/// The longest header without an error: the number takes nine bytes.
const HEADER_BYTES_MAX: usize = HEADER_WITHOUT_ERROR.len() + 9;

/// A record with its header, for one subscriber after the other.
///
/// Header and body stand together, so each subscriber costs one copy; the header is written anew only for a subscriber
/// whose stream has another Seq than the one before, and few have.
pub(super) struct Record {
    /// The body stands behind room for the header, which ends where the body begins.
    bytes: Vec<u8>,
    header: Option<(u64, usize)>,
}

impl Record {
    /// An empty record in memory that was used before.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADER_BYTES_MAX, 0);
        Self {
            bytes,
            header: None,
        }
    }

    /// Replaces the body.
    pub(super) fn set_body(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(HEADER_BYTES_MAX);
        push(&mut self.bytes);
    }

    /// The record for a stream with this Seq.
    pub(super) fn for_seq(&mut self, seq: u64) -> &[u8] {
        let start = match self.header {
            Some((of, start)) if of == seq => start,
            _ => self.write_header(seq),
        };
        &self.bytes[start..]
    }

    fn write_header(&mut self, seq: u64) -> usize {
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        push_header(&mut header, seq);
        let start = HEADER_BYTES_MAX - header.len();
        self.bytes[start..HEADER_BYTES_MAX].copy_from_slice(&header);
        self.header = Some((seq, start));
        start
    }

    /// The memory, to be used again.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.bytes
    }
}

/// A record for a query, encoded but for its ID, which differs from client to client.
pub(super) struct QueryRecordTemplate {
    bytes: Vec<u8>,
    id_at: usize,
}

impl QueryRecordTemplate {
    pub(super) fn new(event: &QueryEvent) -> Self {
        let mut bytes = Vec::with_capacity(64 + event.name.len() + event.payload.len());
        let record = QueryEventRecord {
            event: Text("query"),
            id: 0,
            ltime: event.id.ltime,
            name: Text(&event.name),
            payload: super::message::Bytes(&event.payload),
        };
        push_body(&mut bytes, &record);
        // ID follows `85 a5 "Event" a5 "query" a2 "ID"`; the zero is one byte.
        Self {
            bytes,
            id_at: b"\x85\xa5Event\xa5query\xa2ID".len(),
        }
    }

    /// Appends the record with this ID.
    pub(super) fn push(&self, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.id_at]);
        push_uint(out, id);
        out.extend_from_slice(&self.bytes[self.id_at + 1..]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cluster::QueryId;
    use crate::rpc::message::ResponseHeader;

    #[test]
    fn headers_are_the_bytes_of_the_type() {
        for (error, seq) in [
            ("", 0),
            ("", 127),
            ("", 128),
            ("", u64::MAX),
            ("no", 3),
            (&*"x".repeat(40), 70_000),
        ] {
            let mut quick = Vec::new();
            if error.is_empty() {
                push_header(&mut quick, seq);
            } else {
                push_error_header(&mut quick, seq, error);
            }
            let mut plain = Vec::new();
            push_body(
                &mut plain,
                &ResponseHeader {
                    error: Text(error),
                    seq,
                },
            );
            assert_eq!(quick, plain);
        }
    }

    #[test]
    fn records_have_the_header_of_their_stream() {
        let mut record = Record::new(vec![7; 100]);
        for body in [&b"one"[..], b"another"] {
            record.set_body(|out| out.extend_from_slice(body));
            for seq in [1, 1, 300, u64::MAX, 1] {
                let mut expected = Vec::new();
                push_header(&mut expected, seq);
                expected.extend_from_slice(body);
                assert_eq!(record.for_seq(seq), expected);
            }
        }
    }

    #[test]
    fn query_records_differ_in_their_id_alone() {
        let event = QueryEvent {
            id: QueryId { ltime: 5, id: 9 },
            name: "q".into(),
            payload: b"zz".to_vec(),
            deadline: Instant::now(),
        };
        let mut record = Vec::new();
        QueryRecordTemplate::new(&event).push(300, &mut record);
        assert_eq!(record, b"\x85\xa5Event\xa5query\xa2ID\xcd\x01\x2c\xa5LTime\x05\xa4Name\xa1q\xa7Payload\xc4\x02zz");
    }
}
