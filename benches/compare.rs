//! Our agent against the reference and against a bare mio server that sends as many bytes, in one run.
//!
//! `cargo bench --bench compare` prints a table of ratios. Each server is kept to the first processor and the load, one
//! mio loop of this program, to the others, where `taskset` is at hand.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CLIENTS: usize = 16;
const IN_FLIGHT: usize = 16;
const DURATION: Duration = Duration::from_secs(3);
const STREAMS: usize = 100;
const IDLE_CLIENTS: usize = 1000;
const EVENT_BYTES: usize = 64;

const HANDSHAKE: &[u8] = b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01";
const HANDSHAKE_ANSWER_BYTES: usize = 13;
const MEMBERS: &[u8] = b"\x82\xa7Command\xa7members\xa3Seq\x01";
const STATS: &[u8] = b"\x82\xa7Command\xa5stats\xa3Seq\x01";
const STREAM: &[u8] = b"\x82\xa7Command\xa6stream\xa3Seq\x01\x81\xa4Type\xa4user";
const EVENT_ANSWER_BYTES: usize = 13;

fn event() -> Vec<u8> {
    let mut bytes =
        b"\x82\xa7Command\xa5event\xa3Seq\x01\x83\xa4Name\xa1e\xa8Coalesce\xc2\xa7Payload\xc4"
            .to_vec();
    bytes.push(EVENT_BYTES as u8);
    bytes.extend([b'x'; EVENT_BYTES]);
    bytes
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, port, request, answer] = &arguments[..]
        && flag == "--bare"
    {
        return serve_bare(port.parse()?, request.parse()?, answer.parse()?);
    }
    keep_to("1-", std::process::id());
    println!(
        "{CLIENTS} clients with {IN_FLIGHT} requests in flight each, {STREAMS} streams, {DURATION:?} each\n"
    );
    let ours = measure(&["agent", "-log-level=err"], env!("CARGO_BIN_EXE_serfling"))?;
    let reference = measure(&["agent", "-log-level=err"], "serf")?;
    let (bare, bare_latency) = measure_bare()?;
    println!(
        "{:<34} {:>12} {:>12} {:>12} {:>10} {:>8}",
        "", "serfling", "reference", "bare mio", "x ref", "of bare"
    );
    let row = |name: &str, ours: f64, reference: f64, bare: Option<f64>| {
        let bare_text = bare.map_or(String::new(), |bare| format!("{bare:.0}"));
        let share = bare.map_or(String::new(), |bare| format!("{:.2}", ours / bare));
        println!(
            "{name:<34} {ours:>12.0} {reference:>12.0} {bare_text:>12} {:>10.2} {share:>8}",
            ours / reference
        );
    };
    row(
        "members, requests/s",
        ours.members,
        reference.members,
        Some(bare),
    );
    row(
        "members, one at a time, median ns",
        ours.latency,
        reference.latency,
        Some(bare_latency),
    );
    row("stats, requests/s", ours.stats, reference.stats, None);
    row("event, requests/s", ours.events, reference.events, None);
    row(
        "fan-out, deliveries/s",
        ours.fan_out.0,
        reference.fan_out.0,
        None,
    );
    row(
        "fan-out, lost of 10,000",
        ours.fan_out.1 * 10_000.0,
        reference.fan_out.1 * 10_000.0,
        None,
    );
    row(
        "resident at start, KiB",
        ours.start_kib,
        reference.start_kib,
        None,
    );
    row(
        "per idle client, bytes",
        ours.idle_bytes,
        reference.idle_bytes,
        None,
    );
    Ok(())
}

struct Figures {
    members: f64,
    latency: f64,
    stats: f64,
    events: f64,
    /// Deliveries a second, and the share that was lost.
    fan_out: (f64, f64),
    start_kib: f64,
    idle_bytes: f64,
}

/// A server as a child process, ended with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(program: &str, arguments: &[String], port: u16) -> Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        keep_to("0", child.id());
        let server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("{program} does not listen: is it installed?").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn resident_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A blocking connection past the handshake.
    fn connect(&self) -> Result<std::net::TcpStream> {
        let mut stream = std::net::TcpStream::connect(self.address())?;
        stream.set_nodelay(true)?;
        stream.write_all(HANDSHAKE)?;
        stream.read_exact(&mut [0; HANDSHAKE_ANSWER_BYTES])?;
        Ok(stream)
    }
}

fn keep_to(processors: &str, process: u32) {
    let quiet = || Stdio::null();
    let _ = Command::new("taskset")
        .args(["-a", "-c", "-p", processors, &process.to_string()])
        .stdout(quiet())
        .stderr(quiet())
        .status();
    if processors == "1-" {
        let _ = Command::new("taskset")
            .args(["-a", "-c", "-p", "1", &process.to_string()])
            .stdout(quiet())
            .stderr(quiet())
            .status();
    }
}

fn free_port() -> Result<u16> {
    Ok(StdListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn measure(arguments: &[&str], program: &str) -> Result<Figures> {
    let (port, gossip) = (free_port()?, free_port()?);
    let mut all: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    all.extend([
        format!("-rpc-addr=127.0.0.1:{port}"),
        format!("-bind=127.0.0.1:{gossip}"),
    ]);
    let server = Server::start(program, &all, port)?;
    std::thread::sleep(Duration::from_secs(1));
    let start_kib = server.resident_kib()?;
    let idle: Vec<_> = (0..IDLE_CLIENTS)
        .map(|_| server.connect())
        .collect::<Result<_>>()?;
    let idle_bytes = (server.resident_kib()? - start_kib) * 1024.0 / IDLE_CLIENTS as f64;
    drop(idle);
    std::thread::sleep(Duration::from_millis(500));
    let members = answer_bytes(&server, MEMBERS)?;
    let stats = answer_bytes(&server, STATS)?;
    Ok(Figures {
        members: throughput(&server, MEMBERS, members, true)?,
        latency: latency(&server, MEMBERS, members, true)?,
        stats: throughput(&server, STATS, stats, true)?,
        events: throughput(&server, &event(), EVENT_ANSWER_BYTES, true)?,
        fan_out: fan_out(&server)?,
        start_kib,
        idle_bytes,
    })
}

fn measure_bare() -> Result<(f64, f64)> {
    let port = free_port()?;
    // As many bytes as the members of a cluster of one are.
    let answer = 13 + 136;
    let own = std::env::current_exe()?;
    let arguments = [
        "--bare".to_owned(),
        port.to_string(),
        MEMBERS.len().to_string(),
        answer.to_string(),
    ];
    let server = Server::start(
        own.to_str().ok_or("the path of this program")?,
        &arguments,
        port,
    )?;
    Ok((
        throughput(&server, MEMBERS, answer, false)?,
        latency(&server, MEMBERS, answer, false)?,
    ))
}

/// Length of the answer to a request, which does not change.
fn answer_bytes(server: &Server, request: &[u8]) -> Result<usize> {
    let mut stream = server.connect()?;
    stream.write_all(request)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let (mut buffer, mut count) = ([0; 65536], 0);
    while let Ok(read) = stream.read(&mut buffer) {
        count += read;
    }
    Ok(count)
}

/// Median time from a request to its answer, one after the other, in nanoseconds.
fn latency(server: &Server, request: &[u8], answer: usize, handshake: bool) -> Result<f64> {
    let mut stream = if handshake {
        server.connect()?
    } else {
        std::net::TcpStream::connect(server.address())?
    };
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; answer];
    let mut times = Vec::new();
    let end = Instant::now() + DURATION;
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(request)?;
        stream.read_exact(&mut buffer)?;
        times.push(start.elapsed().as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// A connection of the load.
struct Load {
    stream: TcpStream,
    outgoing: VecDeque<u8>,
    received: usize,
}

impl Load {
    fn write(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match self.stream.write(front) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is; returns how much.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => total += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }
}

fn loads(server: &Server, poll: &Poll, count: usize, handshake: bool) -> Result<Vec<Load>> {
    (0..count)
        .map(|number| {
            let stream = if handshake {
                server.connect()?
            } else {
                std::net::TcpStream::connect(server.address())?
            };
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(
                &mut stream,
                Token(number),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(Load {
                stream,
                outgoing: VecDeque::new(),
                received: 0,
            })
        })
        .collect()
}

/// Answers a second to all clients together.
fn throughput(server: &Server, request: &[u8], answer: usize, handshake: bool) -> Result<f64> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 1 << 18];
    let mut loads = loads(server, &poll, CLIENTS, handshake)?;
    for load in &mut loads {
        load.outgoing.extend(request.repeat(IN_FLIGHT));
        load.write()?;
    }
    let start = Instant::now();
    let mut answers = 0;
    while start.elapsed() < DURATION {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let Some(load) = loads.get_mut(event.token().0) else {
                continue;
            };
            load.received += load.read(&mut buffer)?;
            let whole = load.received / answer;
            load.received %= answer;
            answers += whole;
            load.outgoing.extend(request.repeat(whole));
            load.write()?;
        }
    }
    Ok(answers as f64 / start.elapsed().as_secs_f64())
}

/// Deliveries a second to all streams, and the share that was lost, with one publisher and its events in flight.
fn fan_out(server: &Server) -> Result<(f64, f64)> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 1 << 18];
    let mut all = loads(server, &poll, STREAMS + 1, true)?;
    for load in all.iter_mut().take(STREAMS) {
        load.outgoing.extend(STREAM);
        load.write()?;
    }
    std::thread::sleep(Duration::from_millis(300));
    for load in &mut all {
        load.read(&mut buffer)?;
    }
    let event = event();
    if let Some(publisher) = all.last_mut() {
        publisher.outgoing.extend(event.repeat(IN_FLIGHT));
        publisher.write()?;
    }
    let start = Instant::now();
    let (mut sent, mut answered, mut bytes, mut last) = (IN_FLIGHT, 0, 0usize, Instant::now());
    let mut published_until = None;
    // After the last event, whatever is still on its way may come.
    while published_until.is_none() || last.elapsed() < Duration::from_millis(500) {
        poll.poll(&mut events, Some(Duration::from_millis(50)))?;
        for happened in &events {
            let number = happened.token().0;
            let Some(load) = all.get_mut(number) else {
                continue;
            };
            let count = load.read(&mut buffer)?;
            if number < STREAMS {
                if count > 0 {
                    bytes += count;
                    last = Instant::now();
                }
                continue;
            }
            load.received += count;
            let whole = load.received / EVENT_ANSWER_BYTES;
            load.received %= EVENT_ANSWER_BYTES;
            answered += whole;
            if start.elapsed() < DURATION {
                load.outgoing.extend(event.repeat(whole));
                sent += whole;
            }
            load.write()?;
        }
        if answered == sent && start.elapsed() >= DURATION {
            published_until.get_or_insert_with(Instant::now);
        }
    }
    // Header, and `{"Coalesce", "Event", "LTime", "Name", "Payload"}` with a Lamport time of three or five bytes.
    let record = |ltime: usize| 13 + 1 + 10 + 11 + 6 + ltime + 7 + 10 + EVENT_BYTES;
    let deliveries = bytes as f64 / record(if sent > 65_000 { 5 } else { 3 }) as f64;
    let lost = 1.0 - deliveries / (sent * STREAMS) as f64;
    Ok((deliveries / (last - start).as_secs_f64(), lost.max(0.0)))
}

/// A client of the bare server.
struct BareClient {
    stream: TcpStream,
    received: usize,
    /// Bytes it is owed.
    owed: usize,
}

/// A server that answers so many bytes to each so many bytes, and does nothing else.
fn serve_bare(port: u16, request: usize, answer: usize) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry()
        .register(&mut listener, Token(0), Interest::READABLE)?;
    let mut clients: Vec<BareClient> = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let answers = vec![0; 1 << 20];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(clients.len() + 1);
                    poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    clients.push(BareClient {
                        stream,
                        received: 0,
                        owed: 0,
                    });
                }
                continue;
            }
            let Some(client) = clients.get_mut(event.token().0 - 1) else {
                continue;
            };
            while let Ok(count) = client.stream.read(&mut buffer)
                && count > 0
            {
                client.received += count;
                client.owed += client.received / request * answer;
                client.received %= request;
                // A short read has emptied the socket.
                if count < buffer.len() {
                    break;
                }
            }
            while client.owed > 0
                && let Ok(count) = client.stream.write(
                    answers
                        .get(..client.owed.min(answers.len()))
                        .unwrap_or(&answers),
                )
            {
                client.owed -= count;
            }
        }
    }
}
