//! A server that answers each request with so many bytes, and does nothing else: the limit.
//!
//! It knows how long requests are and where their number is, and repeats it, as the load generator checks answers.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serfling::bench::Template;

/// Header of an answer, up to its number of five bytes.
const HEADER: &[u8] = b"\x82\xa5Error\xa0\xa3Seq";
/// A body's head: bin 32.
const BODY_HEAD_BYTES: usize = 5;
const READ_BYTES: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    greeted: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
}

/// How requests look.
struct Requests {
    handshake: (usize, usize),
    request: (usize, usize),
    body: Vec<u8>,
}

/// Length of a request, and where its number is.
fn shape(template: &Template) -> (usize, usize) {
    let (bytes, seq_at) = template.parts();
    (bytes.len(), seq_at)
}

/// The arguments after `--serve-bare PORT` for a server of this request, with bodies so long.
pub(crate) fn arguments(request: &Template, body_bytes: usize) -> Vec<String> {
    let (length, seq_at) = shape(request);
    [length, seq_at, body_bytes]
        .map(|number| number.to_string())
        .to_vec()
}

/// Serves until it is killed. `PORT REQUEST-BYTES SEQ-AT BODY-BYTES`
pub(crate) fn serve(arguments: &[String]) {
    let numbers: Vec<usize> = arguments.iter().map(|text| text.parse().unwrap()).collect();
    let [port, request_bytes, seq_at, body_bytes] = numbers[..] else {
        panic!("port, length of a request, place of its number, length of a body");
    };
    let mut body = vec![0; body_bytes];
    if let Some(head) = body.first_chunk_mut::<BODY_HEAD_BYTES>() {
        let length = (body_bytes - BODY_HEAD_BYTES) as u32;
        head[0] = 0xc6;
        head[1..].copy_from_slice(&length.to_be_bytes());
    }
    let requests = Requests {
        handshake: shape(&Template::handshake()),
        request: (request_bytes, seq_at),
        body,
    };
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(256);
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port as u16).into()).unwrap();
    poll.registry()
        .register(&mut listener, Token(0), Interest::READABLE)
        .unwrap();
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut next = 1;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() != Token(0) {
                let gone = clients
                    .get_mut(&event.token())
                    .is_some_and(|client| !client.go_on(&requests, &mut buffer));
                if gone {
                    clients.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true).unwrap();
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry()
                    .register(&mut stream, Token(next), interest)
                    .unwrap();
                let client = Client {
                    stream,
                    greeted: false,
                    inbox: Vec::new(),
                    outbox: Vec::new(),
                    sent: 0,
                };
                clients.insert(Token(next), client);
                next += 1;
            }
        }
    }
}

impl Client {
    /// Reads and writes what goes; `false` when the client has gone.
    fn go_on(&mut self, requests: &Requests, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.inbox.extend_from_slice(&buffer[..count]);
                    self.answer(requests);
                    // A short read has emptied the socket.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.outbox.clear();
        self.sent = 0;
        true
    }

    fn answer(&mut self, requests: &Requests) {
        let mut used = 0;
        loop {
            let (length, seq_at) = if self.greeted {
                requests.request
            } else {
                requests.handshake
            };
            let Some(request) = self.inbox.get(used..used + length) else {
                break;
            };
            self.outbox.extend_from_slice(HEADER);
            self.outbox.push(0xce);
            self.outbox.extend_from_slice(&request[seq_at..seq_at + 4]);
            if self.greeted {
                self.outbox.extend_from_slice(&requests.body);
            }
            self.greeted = true;
            used += length;
        }
        self.inbox.drain(..used);
    }
}
