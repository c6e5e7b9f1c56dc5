//! Discovery by multicast DNS, with the reference's agents and our own, on the loopback interface and between network
//! namespaces. The latter need util-linux, iproute2, and root or a system that lets its users make namespaces.

#![cfg(feature = "mdns")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use common::agent::{Agent, Kind};
use common::wait_for;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question};
use socket2::{Domain, Socket, Type};

/// What makes `unshare` the root of a namespace of users, where it is not root already.
fn as_root() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--map-root-user"]
    }
}

/// Holds a network namespace that `unshare`, as it is begun here, makes.
fn hold(unshare: &mut Command) -> Child {
    let command = unshare.args(["--net", "sleep", "600"]).stdin(Stdio::null());
    let mut holder = command
        .spawn()
        .expect("unshare runs: it is part of util-linux");
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let link = format!("/proc/{}/ns/net", holder.id());
    wait_for("a network namespace", || {
        let ended = holder.try_wait().unwrap();
        assert_eq!(
            ended, None,
            "no network namespace could be made: this test needs root, or namespaces of users"
        );
        std::fs::read_link(&link).is_ok_and(|theirs| theirs != ours)
    });
    holder
}

/// Two network namespaces with a wire between them, where nothing else is.
struct Wire {
    ends: [Child; 2],
    folder: tempfile::TempDir,
}

impl Wire {
    fn new() -> Self {
        let first = hold(Command::new("unshare").args(as_root()));
        // A wire goes between namespaces of one user only.
        let inside = [
            "--user",
            "--preserve-credentials",
            "--target",
            &first.id().to_string(),
            "unshare",
        ];
        let second = match as_root() {
            [] => hold(&mut Command::new("unshare")),
            _ => hold(Command::new("nsenter").args(inside)),
        };
        let ends = [first, second];
        let folder = tempfile::tempdir().unwrap();
        let wire = Self { ends, folder };
        let other = wire.ends[1].id();
        wire.ip(
            0,
            &format!("link add end0 type veth peer name end1 netns {other}"),
        );
        for at in 0..2 {
            // Addresses are not probed for, so that they can be used at once.
            let probes = format!("echo 0 > /proc/sys/net/ipv6/conf/end{at}/accept_dad");
            let output = wire.command(at, &["sh", "-c", &probes]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            wire.ip(at, "link set lo up");
            wire.ip(
                at,
                &format!("address add 10.77.0.{}/24 dev end{at}", at + 1),
            );
            wire.ip(at, &format!("link set end{at} up"));
            wire.ip(at, &format!("route add default dev end{at}"));
        }
        for at in 0..2 {
            let show = [
                "ip",
                "-6",
                "address",
                "show",
                "dev",
                &format!("end{at}"),
                "-tentative",
            ];
            wait_for("an address of IPv6", || {
                let output = wire.command(at, &show).output().unwrap();
                String::from_utf8_lossy(&output.stdout).contains("fe80:")
            });
        }
        wire
    }

    fn command(&self, at: usize, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.ends[at].id().to_string();
        command.args(["--net", "--target", &holder]);
        if !as_root().is_empty() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(words);
        command
    }

    fn ip(&self, at: usize, arguments: &str) {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        let output = self
            .command(at, &words)
            .output()
            .expect("nsenter runs: it is part of util-linux");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ip {arguments} (of iproute2, as root): {said}"
        );
    }

    /// Starts an agent at an end, which looks for the others of the cluster `test`.
    fn start(&self, at: usize, kind: Kind, arguments: &[&str]) -> Node<'_> {
        let log = tempfile::Builder::new().tempfile_in(self.folder.path());
        let (file, log) = log.unwrap().keep().unwrap();
        let bind = format!("-bind=10.77.0.{}", at + 1);
        let name = format!("-node=end{at}");
        let mut command = self.command(
            at,
            &[
                kind.program(),
                "agent",
                &name,
                &bind,
                "-discover=test",
                "-log-level=debug",
            ],
        );
        command.args(arguments).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Node {
            wire: self,
            at,
            child,
            log,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in &mut self.ends {
            let _ = end.kill();
            let _ = end.wait();
        }
    }
}

/// An agent at an end of the wire. Killed when dropped.
struct Node<'a> {
    wire: &'a Wire,
    at: usize,
    child: Child,
    log: PathBuf,
}

impl Node<'_> {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_log(&self, text: &str) {
        let found = std::panic::catch_unwind(|| wait_for(text, || self.log().contains(text)));
        assert!(found.is_ok(), "{text:?} is not in the log: {}", self.log());
    }

    fn wait_members(&self, count: usize) {
        let members = || -> Output {
            let program = Kind::Serfling.program();
            let words = [program, "members", "-status=alive"];
            self.wire.command(self.at, &words).output().unwrap()
        };
        wait_for("members", || {
            String::from_utf8_lossy(&members().stdout).lines().count() == count
        });
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_reference_finds_ours_that_waits() {
    let wire = Wire::new();
    let ours = wire.start(0, Kind::Serfling, &[]);
    ours.wait_log("Starting mDNS listener on interface end0");
    ours.wait_members(1);
    let reference = wire.start(1, Kind::Reference, &[]);
    // Itself, and ours.
    reference.wait_log("agent.mdns: Joined 2 hosts");
    reference.wait_members(2);
    ours.wait_members(2);
}

#[test]
fn ours_finds_the_reference_that_waits() {
    let wire = Wire::new();
    let reference = wire.start(0, Kind::Reference, &[]);
    // It has looked around, found itself, and rests for a minute.
    reference.wait_log("agent.mdns: Joined 1 hosts");
    let ours = wire.start(1, Kind::Serfling, &[]);
    ours.wait_log("agent.mdns: Joining 10.77.0.1:7946");
    ours.wait_log("agent.mdns: Joined 1 hosts");
    reference.wait_members(2);
}

#[test]
fn either_version_of_ip_will_do() {
    for without in ["-mdns-disable-ipv4", "-mdns-disable-ipv6"] {
        let wire = Wire::new();
        let one = wire.start(0, Kind::Serfling, &[without]);
        let two = wire.start(1, Kind::Serfling, &[without]);
        one.wait_members(2);
        two.wait_members(2);
    }
}

#[test]
fn only_the_chosen_interface_is_used() {
    let wire = Wire::new();
    let apart = wire.start(0, Kind::Serfling, &["-mdns-iface=lo"]);
    apart.wait_log("Starting mDNS listener on interface lo");
    let ours = wire.start(1, Kind::Serfling, &[]);
    // One that does look there, and has asked as often as the other by the time that it is found.
    let third = [
        "-node=third",
        "-bind=10.77.0.1:7950",
        "-rpc-addr=127.0.0.1:7374",
    ];
    let third = wire.start(0, Kind::Serfling, &third);
    ours.wait_members(2);
    drop(third);
    apart.wait_members(1);
}

/// What an agent of the cluster `test` on the loopback interface answers to a question: kinds and contents of records,
/// but for how long to keep them, and in which section they are.
fn answer(name: &'static str, qtype: QTYPE) -> BTreeSet<String> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let socket = std::net::UdpSocket::from(socket);
    let mut query = Packet::new_query(77);
    let question = Question::new(
        Name::new_unchecked(name),
        qtype,
        QCLASS::CLASS(CLASS::IN),
        false,
    );
    query.questions.push(question);
    socket
        .send_to(&query.build_bytes_vec().unwrap(), "224.0.0.251:5353")
        .unwrap();
    let mut buffer = [0; 9000];
    let (length, _) = socket.recv_from(&mut buffer).expect("an answer");
    let answer = Packet::parse(&buffer[..length]).unwrap();
    let records = answer.answers.iter().chain(&answer.additional_records);
    let describe = records.map(|record| match &record.rdata {
        RData::PTR(pointer) => format!("{} PTR {}", record.name, pointer.0),
        // The host's name is another.
        RData::SRV(srv) => format!(
            "{} SRV {} {} {}",
            record.name, srv.priority, srv.weight, srv.port
        ),
        RData::A(a) => format!("A {}", Ipv4Addr::from(a.address)),
        RData::TXT(text) => {
            let texts: Vec<_> = text
                .iter_raw()
                .map(|(text, _)| String::from_utf8_lossy(text))
                .collect();
            format!("{} TXT {texts:?}", record.name)
        }
        other => format!("{other:?}"),
    });
    describe.collect()
}

#[test]
fn on_the_loopback_interface_answers_are_the_reference_s_and_nodes_find_each_other() {
    let port = common::agent::free_port();
    let bind = format!("-bind=127.0.0.1:{port}");
    let questions = [
        ("_serf_test._tcp.local", QTYPE::TYPE(simple_dns::TYPE::PTR)),
        (
            "_services._dns-sd._udp.local",
            QTYPE::TYPE(simple_dns::TYPE::PTR),
        ),
        ("n1._serf_test._tcp.local", QTYPE::ANY),
    ];
    let answers = Kind::BOTH.map(|kind| {
        let agent = Agent::start(kind, &[&bind, "-discover=test", "-iface=lo"]);
        let answers = questions.map(|(name, qtype)| answer(name, qtype));
        drop(agent);
        answers
    });
    assert_eq!(answers[0][0].len(), 4, "{answers:?}");
    assert_eq!(answers[1], answers[0]);

    let one = Agent::start(Kind::Serfling, &["-discover=test", "-mdns-iface=lo"]);
    let two = Agent::start(
        Kind::Serfling,
        &["-node=n2", "-discover=test", "-mdns-iface=lo"],
    );
    // And one that is looked for by another name.
    let other = Agent::start(
        Kind::Serfling,
        &["-node=n3", "-discover=tes", "-mdns-iface=lo"],
    );
    for agent in [&one, &two] {
        let mut client = agent.client();
        wait_for("two members", || client.stat("serf", "members") == 2);
    }
    let mut client = other.client();
    assert_eq!(client.stat("serf", "members"), 1);
}

#[test]
fn what_is_wrong_with_the_settings_is_said() {
    let long = format!("-discover={}", "x".repeat(58));
    for (arguments, expected) in [
        (
            &["-discover=x", "-mdns-iface=nosuch"][..],
            "interface nosuch: there is none of that name",
        ),
        (
            &["-mdns-iface=lo"],
            "mdns.interface: it has no use without discover",
        ),
        (
            &["-discover=x", "-mdns-disable-ipv4", "-mdns-disable-ipv6"],
            "leave nothing for discover",
        ),
        (
            &["-discover=x", "-mdns-iface=lo", "-mdns-disable-ipv4"],
            "no address of the version of IP",
        ),
        (&[&long], "makes no service name of DNS"),
    ] {
        let mut command = Command::new(Kind::Serfling.program());
        let output = command
            .args(["agent", "-check"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
}
