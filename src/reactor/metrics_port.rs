//! The metrics page: as much HTTP as a collector needs, and no more.
//!
//! `GET /metrics` is answered with the page and the connection closed; anything else with an error. A few connections
//! at once, each with a bounded request and a deadline: of too many the oldest goes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};

use super::socket::{Progress, Socket};

/// Connections at once.
const CLIENTS_MAX: usize = 16;
/// A longer request is refused, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long a connection may last.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The type of the page (Prometheus' text format).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
struct Client {
    number: usize,
    socket: Socket,
    until: Instant,
    request: Vec<u8>,
    /// What is left to send, once it is known.
    answer: Option<Vec<u8>>,
}

/// The metrics page's port.
#[derive(Debug)]
pub(super) struct MetricsPort {
    listener: TcpListener,
    first_token: usize,
    next_client: usize,
    clients: VecDeque<Client>,
    ready: bool,
}

impl MetricsPort {
    /// Listens; the listener is reported as the first token, connections as those after it.
    pub(super) fn open(
        addr: SocketAddr,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::bind(addr)?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        Ok(Self {
            listener,
            first_token,
            next_client: 0,
            clients: VecDeque::new(),
            ready: false,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// When the oldest connection's time is over.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.clients.front().map(|client| client.until)
    }

    pub(super) fn note_ready(&mut self, token: Token) {
        if token.0 == self.first_token {
            self.ready = true;
        }
    }

    /// Accepts, reads, answers with what `page` makes, and closes.
    pub(super) fn serve(&mut self, now: Instant, registry: &Registry, page: impl Fn() -> String) {
        if std::mem::take(&mut self.ready) {
            self.accept(now, registry);
        }
        self.clients
            .retain_mut(|client| client.until > now && client.serve(&page));
    }

    fn accept(&mut self, now: Instant, registry: &Registry) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= CLIENTS_MAX {
                self.clients.pop_front();
            }
            let number = self.next_client;
            self.next_client = (number + 1) % (2 * CLIENTS_MAX);
            let mut socket = Socket::Tcp(stream);
            let token = Token(self.first_token + 1 + number);
            if socket.register(registry, token).is_ok() {
                self.clients.push_back(Client {
                    number,
                    socket,
                    until: now + TIMEOUT,
                    request: Vec::new(),
                    answer: None,
                });
            }
        }
    }

    /// How many tokens it takes.
    pub(super) const fn tokens() -> usize {
        1 + 2 * CLIENTS_MAX
    }
}

impl Client {
    /// Says whether the connection goes on.
    fn serve(&mut self, page: &impl Fn() -> String) -> bool {
        let mut buffer = [0; 1024];
        while self.answer.is_none() {
            match self.socket.read(&mut buffer) {
                Progress::Bytes(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.request.extend_from_slice(bytes);
                    self.answer = answer(&self.request, page);
                }
                Progress::Blocked => return true,
                Progress::Ended | Progress::Broken(_) => return false,
            }
        }
        while let Some(rest) = self.answer.as_mut().filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Progress::Bytes(count) => drop(rest.drain(..count)),
                Progress::Blocked => return true,
                Progress::Ended | Progress::Broken(_) => return false,
            }
        }
        log::debug!("agent: metrics were read (connection {})", self.number);
        self.socket.end();
        false
    }
}

/// The answer to a request, once it is whole.
fn answer(request: &[u8], page: impl Fn() -> String) -> Option<Vec<u8>> {
    let whole = request.windows(4).any(|bytes| bytes == b"\r\n\r\n");
    if !whole && request.len() <= REQUEST_BYTES_MAX {
        return None;
    }
    let line = request.split(|byte| *byte == b'\r').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    let path = target.and_then(|target| target.split('?').next());
    let (status, body) = match (method, path) {
        _ if !whole => ("431 Request Header Fields Too Large", String::new()),
        (Some("GET"), Some("/metrics")) => ("200 OK", page()),
        (Some("GET"), Some(_)) => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    Some([head, body].concat().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> Option<String> {
        let answer = answer(request.as_bytes(), || "up 1\n".to_owned())?;
        String::from_utf8(answer).ok()
    }

    #[test]
    fn the_page_and_nothing_else_is_served() {
        let page = ask("GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nup 1\n"));
        assert!(page.contains("Content-Length: 5\r\n"));
        assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost"), None);
        for (request, status) in [
            ("GET / HTTP/1.0\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\r\n\r\n", "405"),
            (&*"x".repeat(REQUEST_BYTES_MAX + 1), "431"),
        ] {
            assert!(
                ask(request)
                    .unwrap()
                    .starts_with(&format!("HTTP/1.1 {status} "))
            );
        }
    }
}
