//! Figures for statsd and statsite, under the names that the reference's agents use.
//!
//! Once a second what has been counted since goes out: counters as differences, gauges as they are. A collector that is
//! away or slow is not waited for; what it misses is gone. Both speak the same lines, one over UDP, the other over TCP.
//!
//! Source of the names: the lines of a running reference agent (go-metrics, service `serf-agent`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::cluster::{Event, MemberEventKind};

/// Between reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a datagram should not exceed, in bytes.
const DATAGRAM_BYTES_MAX: usize = 1400;
/// Names of events and queries that are counted one by one between two reports.
const NAMES_MAX: usize = 256;
/// What all names begin with.
const SERVICE: &str = "serf-agent";

/// Where figures go.
#[derive(Debug)]
enum Collector {
    Statsd(UdpSocket),
    Statsite {
        addr: SocketAddr,
        stream: Option<TcpStream>,
    },
}

/// Reports figures to collectors.
#[derive(Debug)]
pub(super) struct Reporter {
    host: String,
    collectors: Vec<Collector>,
    /// Counted since the last report, by name.
    counts: BTreeMap<String, u64>,
    /// As they were in the last report, to tell what has come since.
    totals: BTreeMap<&'static str, u64>,
    gauges: BTreeMap<&'static str, u64>,
    due: Instant,
}

impl Reporter {
    /// Reports for a host of this name.
    pub(super) const fn new(now: Instant, host: String) -> Self {
        Self {
            host,
            collectors: Vec::new(),
            counts: BTreeMap::new(),
            totals: BTreeMap::new(),
            gauges: BTreeMap::new(),
            due: now,
        }
    }

    /// Reports to a statsd too.
    pub(super) fn add_statsd(&mut self, addr: SocketAddr) -> io::Result<()> {
        let any: SocketAddr = if addr.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(addr)?;
        socket.set_nonblocking(true)?;
        self.collectors.push(Collector::Statsd(socket));
        Ok(())
    }

    /// Reports to a statsite too.
    pub(super) fn add_statsite(&mut self, addr: SocketAddr) {
        let stream = connect(addr).ok();
        self.collectors.push(Collector::Statsite { addr, stream });
    }

    /// When [`report`](Self::report) wants to be called; never without collectors.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.collectors.is_empty()).then_some(self.due)
    }

    /// Counts something that happened.
    pub(super) fn handle_event(&mut self, event: &Event) {
        if self.collectors.is_empty() {
            return;
        }
        match event {
            Event::Member(event) => {
                let what = match event.kind {
                    MemberEventKind::Join => "serf.member.join",
                    MemberEventKind::Leave => "serf.member.left",
                    MemberEventKind::Failed => "serf.member.failed",
                    MemberEventKind::Update => "serf.member.update",
                    // The reference does not count it.
                    MemberEventKind::Reap => return,
                };
                self.count(what.to_owned(), event.members.len() as u64);
            }
            Event::User(event) => self.count_named("serf.events", &event.name),
            Event::Query(event) => self.count_named("serf.queries", &event.name),
        }
    }

    fn count_named(&mut self, what: &str, name: &str) {
        self.count(what.to_owned(), 1);
        if self.counts.len() < NAMES_MAX {
            self.count(format!("{what}.{}", clean(name)), 1);
        }
    }

    fn count(&mut self, what: String, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    /// Takes a total that only grows.
    pub(super) fn set_total(&mut self, what: &'static str, total: u64) {
        let before = self.totals.insert(what, total).unwrap_or_default();
        let news = total.saturating_sub(before);
        if news > 0 {
            self.count(what.to_owned(), news);
        }
    }

    /// Takes a figure that goes up and down.
    pub(super) fn set_gauge(&mut self, what: &'static str, value: u64) {
        self.gauges.insert(what, value);
    }

    /// Sends what there is to report.
    pub(super) fn report(&mut self, now: Instant) {
        self.due = now + INTERVAL;
        let mut lines = Vec::new();
        for (name, count) in std::mem::take(&mut self.counts) {
            lines.push(format!("{SERVICE}.{name}:{count}.000000|c\n"));
        }
        for (name, value) in &self.gauges {
            lines.push(format!("{SERVICE}.{}.{name}:{value}.000000|g\n", self.host));
        }
        for collector in &mut self.collectors {
            collector.send(&lines);
        }
    }
}

impl Collector {
    fn send(&mut self, lines: &[String]) {
        match self {
            Self::Statsd(socket) => {
                let mut datagram = String::new();
                for line in lines {
                    if datagram.len() + line.len() > DATAGRAM_BYTES_MAX {
                        let _ = socket.send(datagram.as_bytes());
                        datagram.clear();
                    }
                    let _ = write!(datagram, "{line}");
                }
                if !datagram.is_empty() {
                    let _ = socket.send(datagram.as_bytes());
                }
            }
            Self::Statsite { addr, stream } => {
                let text = lines.concat();
                let sent = stream
                    .as_mut()
                    .map(|stream| stream.write_all(text.as_bytes()));
                // A line that went out in part must not be followed by another: a new stream begins.
                if !matches!(sent, Some(Ok(()))) {
                    *stream = connect(*addr).ok();
                }
            }
        }
    }
}

/// Begins a connection without waiting for it.
fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// A part of a name without what the protocol has a meaning for.
fn clean(name: &str) -> String {
    let odd = |char: char| matches!(char, ':' | ' ' | '|' | '@' | '\n');
    name.replace(odd, "_")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::cluster::{Member, MemberEvent, UserEvent};

    fn reporter() -> Reporter {
        let mut reporter = Reporter::new(Instant::now(), "host".to_owned());
        reporter.totals.insert("memberlist.udp.sent", 100);
        reporter
    }

    fn fill(reporter: &mut Reporter) {
        let members = vec![Member::alive("a", [10, 0, 0, 1].into(), 1); 2];
        let kind = MemberEventKind::Join;
        reporter.handle_event(&Event::Member(MemberEvent { kind, members }));
        for _ in 0..3 {
            reporter.handle_event(&Event::User(UserEvent {
                ltime: 1,
                name: "deploy: now".into(),
                payload: Vec::new(),
                coalesce: false,
            }));
        }
        reporter.set_total("memberlist.udp.sent", 150);
        reporter.set_total("memberlist.tcp.accept", 0);
        reporter.set_gauge("memberlist.health.score", 2);
    }

    const EXPECTED: &str = "serf-agent.memberlist.udp.sent:50.000000|c\n\
        serf-agent.serf.events:3.000000|c\n\
        serf-agent.serf.events.deploy__now:3.000000|c\n\
        serf-agent.serf.member.join:2.000000|c\n\
        serf-agent.host.memberlist.health.score:2.000000|g\n";

    #[test]
    fn statsd_gets_differences_and_gauges() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut reporter = reporter();
        assert_eq!(reporter.poll_timeout(), None);
        reporter.add_statsd(listener.local_addr().unwrap()).unwrap();
        fill(&mut reporter);
        reporter.report(Instant::now());
        let mut buffer = [0; 2000];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), EXPECTED);
        // Nothing new is nothing but gauges.
        reporter.set_total("memberlist.udp.sent", 150);
        reporter.report(Instant::now());
        let length = listener.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert_eq!(text, EXPECTED.lines().last().unwrap().to_owned() + "\n");
    }

    #[test]
    fn datagrams_are_small_and_lines_whole() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut reporter = reporter();
        reporter.add_statsd(listener.local_addr().unwrap()).unwrap();
        for number in 0..200 {
            reporter.count(format!("serf.events.{number}"), 1);
        }
        reporter.report(Instant::now());
        let mut lines = 0;
        let mut buffer = [0; 2000];
        while lines < 200 {
            let length = listener.recv(&mut buffer).unwrap();
            assert!(length <= DATAGRAM_BYTES_MAX && buffer[..length].ends_with(b"|c\n"));
            lines += buffer[..length]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
        }
        assert_eq!(lines, 200);
    }

    #[test]
    fn statsite_is_found_again_when_it_was_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let mut reporter = reporter();
        reporter.add_statsite(addr);
        // What is sent to nobody shows that nobody is there.
        reporter.count("lost".to_owned(), 1);
        reporter.report(Instant::now());
        let listener = TcpListener::bind(addr).unwrap();
        reporter.count("lost".to_owned(), 1);
        reporter.report(Instant::now());
        let (mut stream, _) = listener.accept().unwrap();
        fill(&mut reporter);
        reporter.report(Instant::now());
        let mut buffer = vec![0; EXPECTED.len()];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(String::from_utf8(buffer).unwrap(), EXPECTED);
    }
}
