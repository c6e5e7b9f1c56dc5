//! A client that says exactly what a test wants said.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rmpv::Value;

use super::PATIENCE;

/// A raw RPC client.
pub struct RawClient {
    pub stream: TcpStream,
    /// Bytes that came and were not looked at yet.
    pub inbox: Vec<u8>,
    pub seq: u64,
}

/// An object that came, and its bytes.
pub type Object = (Value, Vec<u8>);

pub fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory");
    bytes
}

pub fn request(command: &str, seq: u64, body: Option<&Value>) -> Vec<u8> {
    let mut bytes = encode(&map([("Command", command.into()), ("Seq", seq.into())]));
    bytes.extend(body.map(encode).unwrap_or_default());
    bytes
}

/// A field of a map.
pub fn field<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value
        .as_map()?
        .iter()
        .find(|(have, _)| have.as_str() == Some(key))
        .map(|(_, value)| value)
}

pub fn text(value: &Value, key: &str) -> String {
    field(value, key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{key} of {value:?}"))
        .to_owned()
}

pub fn number(value: &Value, key: &str) -> u64 {
    field(value, key)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{key} of {value:?}"))
}

impl RawClient {
    pub fn try_connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self {
            stream,
            inbox: Vec::new(),
            seq: 0,
        })
    }

    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).expect("a connection")
    }

    pub fn try_handshake(&mut self) -> bool {
        let bytes = request("handshake", 0, Some(&map([("Version", 1.into())])));
        self.stream.write_all(&bytes).is_ok() && self.try_read(PATIENCE).is_some()
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the agent takes it");
    }

    /// Sends a request; returns its Seq.
    pub fn send(&mut self, command: &str, body: Option<Value>) -> u64 {
        self.seq += 1;
        self.send_raw(&request(command, self.seq, body.as_ref()));
        self.seq
    }

    /// The next object within the timeout; `None` when none comes or the connection ends.
    pub fn try_read(&mut self, timeout: Duration) -> Option<Object> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(object) = self.take_object() {
                return Some(object);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).expect("a timeout");
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn take_object(&mut self) -> Option<Object> {
        let mut rest = &self.inbox[..];
        let value = rmpv::decode::read_value(&mut rest).ok()?;
        let length = self.inbox.len() - rest.len();
        let bytes = self.inbox.drain(..length).collect();
        Some((value, bytes))
    }

    /// The next object.
    pub fn read(&mut self) -> Object {
        self.try_read(PATIENCE).expect("an object")
    }

    /// Sends a request and returns the next header, and a body if one belongs to the command's response.
    pub fn call(&mut self, command: &str, body: Option<Value>) -> (Value, Option<Value>) {
        let seq = self.send(command, body);
        let header = self.read().0;
        assert_eq!(number(&header, "Seq"), seq);
        let has_body = matches!(
            command,
            "join"
                | "members"
                | "members-filtered"
                | "stats"
                | "get-coordinate"
                | "list-keys"
                | "install-key"
                | "use-key"
                | "remove-key"
        );
        let body = has_body.then(|| self.read().0);
        (header, body)
    }

    /// Sends a request that must succeed; returns its body.
    pub fn ok(&mut self, command: &str, body: Option<Value>) -> Option<Value> {
        let (header, body) = self.call(command, body);
        assert_eq!(text(&header, "Error"), "", "{command}");
        body
    }

    /// A section of `stats`' value.
    pub fn stat(&mut self, section: &str, key: &str) -> u64 {
        let body = self.ok("stats", None).expect("a body");
        text(field(&body, section).expect("a section"), key)
            .parse()
            .expect("a number")
    }

    /// Whether the agent ends the connection, having sent nothing more.
    pub fn is_ended(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}
