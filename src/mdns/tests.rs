//! Conversations of a node with others, in bytes, on a made-up clock.

use simple_dns::rdata::{A, AAAA, PTR, RData, SRV};
use simple_dns::{CLASS, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use super::*;

/// What the reference's agent `web` of the cluster `zz` at 127.0.0.1:17946, on the host `vm`, answers to a question
/// for the service.
const REFERENCE_ANSWER: &str = "000084000000000400000000085f736572665f7a7a045f746370056c6f63616c00000c000100000078\
    000603776562c00cc02b0021000100000078000a000a0001461a02766d00c043000100010000007800047f000001c02b0010000100000078\
    0012115365726620277a7a2720636c7573746572";
/// What it asks, as hashicorp/mdns does.
const REFERENCE_QUESTION: &str =
    "123400000001000000000000085f736572665f7a7a045f746370056c6f63616c00000c0001";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A node under test, and the time.
struct Scene {
    now: Instant,
    mdns: Mdns,
}

impl Scene {
    /// The node `me` of the cluster `zz`, which has asked for the first time.
    fn new() -> Self {
        let now = Instant::now();
        let mdns = Mdns::new(now, "zz", "me", addr("10.0.0.1:7946"), [7; 32]).unwrap();
        let mut scene = Self { now, mdns };
        scene.pass(Duration::ZERO);
        assert_eq!(scene.sent().len(), 1);
        scene
    }

    /// Lets time pass, and everything happen that is due in it.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.mdns.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.mdns.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.mdns.poll_transmit()).collect()
    }

    fn found(&mut self) -> Vec<SocketAddr> {
        std::iter::from_fn(|| self.mdns.poll_found())
            .flatten()
            .collect()
    }

    fn hear(&mut self, via: Via, from: &str, payload: &[u8]) {
        self.mdns.handle_packet(self.now, via, addr(from), payload);
    }

    /// What it answers to somebody who asks the group from here.
    fn ask(&mut self, from: &str, packet: &Packet<'_>) -> Vec<Transmit> {
        self.hear(Via::Group, from, &packet.build_bytes_vec().unwrap());
        self.sent()
    }
}

fn query(name: &'static str, qtype: QTYPE) -> Packet<'static> {
    let mut packet = Packet::new_query(9);
    let name = Name::new_unchecked(name);
    packet
        .questions
        .push(Question::new(name, qtype, QCLASS::CLASS(CLASS::IN), false));
    packet
}

fn record<'a>(name: &'a str, rdata: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 120, rdata)
}

const SERVICE: &str = "_serf_zz._tcp.local";

fn pointer(instance: &str) -> ResourceRecord<'_> {
    record(SERVICE, RData::PTR(PTR(Name::new_unchecked(instance))))
}

fn location<'a>(instance: &'a str, host: &'a str, port: u16) -> ResourceRecord<'a> {
    let target = Name::new_unchecked(host);
    let (priority, weight) = (0, 0);
    record(
        instance,
        RData::SRV(SRV {
            priority,
            weight,
            port,
            target,
        }),
    )
}

fn address<'a>(host: &'a str, ip: &str) -> ResourceRecord<'a> {
    let rdata = match ip.parse().unwrap() {
        std::net::IpAddr::V4(ip) => RData::A(A::from(ip)),
        std::net::IpAddr::V6(ip) => RData::AAAA(AAAA::from(ip)),
    };
    record(host, rdata)
}

fn response(records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
    let mut packet = Packet::new_reply(0);
    packet.answers = records;
    packet.build_bytes_vec_compressed().unwrap()
}

#[test]
fn a_question_is_the_reference_s_but_for_its_number() {
    let now = Instant::now();
    let mut mdns = Mdns::new(now, "zz", "me", addr("10.0.0.1:7946"), [7; 32]).unwrap();
    mdns.handle_timeout(now);
    let sent = mdns.poll_transmit().unwrap();
    assert_eq!(sent.to, Destination::Ask);
    assert_eq!(sent.payload[2..], unhex(REFERENCE_QUESTION)[2..]);
}

#[test]
fn the_reference_s_answer_tells_where_a_node_is() {
    let mut scene = Scene::new();
    scene.hear(Via::Own, "127.0.0.1:5353", &unhex(REFERENCE_ANSWER));
    assert_eq!(scene.found(), []);
    scene.pass(QUIET);
    assert_eq!(scene.found(), [addr("127.0.0.1:17946")]);
    // Once a round.
    scene.hear(Via::Group, "127.0.0.1:5353", &unhex(REFERENCE_ANSWER));
    scene.pass(QUIET);
    assert_eq!(scene.found(), []);
}

#[test]
fn the_reference_s_question_is_answered_as_it_answers() {
    let mut scene = Scene::new();
    scene.hear(Via::Group, "10.0.0.2:40000", &unhex(REFERENCE_QUESTION));
    let sent = scene.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, Destination::One(addr("10.0.0.2:40000")));
    let answer = Packet::parse(&sent[0].payload).unwrap();
    assert!(answer.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER));
    assert_eq!((answer.id(), answer.questions.len()), (0x1234, 1));
    // Another node of ours makes of it what this one is.
    let mut other = Mdns::new(scene.now, "zz", "other", addr("10.0.0.2:1"), [8; 32]).unwrap();
    other.handle_timeout(scene.now);
    other.handle_packet(scene.now, Via::Own, addr("10.0.0.1:5353"), &sent[0].payload);
    other.handle_timeout(scene.now + QUIET);
    assert_eq!(other.poll_found(), Some(vec![addr("10.0.0.1:7946")]));
    let records = answer.answers.iter().chain(&answer.additional_records);
    let kinds: Vec<TYPE> = records.map(|record| record.rdata.type_code()).collect();
    assert_eq!(kinds, [TYPE::PTR, TYPE::SRV, TYPE::A, TYPE::TXT]);
    let text = answer
        .additional_records
        .iter()
        .find_map(|record| match &record.rdata {
            RData::TXT(text) => Some(
                text.iter_raw()
                    .map(|(key, _)| key.to_vec())
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        });
    assert_eq!(text.unwrap(), [b"Serf 'zz' cluster"]);
}

#[test]
fn questions_of_each_kind_get_their_records_and_others_none() {
    for (name, qtype, expected) in [
        ("_serf_zz._tcp.local", QTYPE::ANY, vec![TYPE::PTR]),
        ("_SERF_zz._TCP.Local", TYPE::PTR.into(), vec![TYPE::PTR]),
        (
            "_services._dns-sd._udp.local",
            TYPE::PTR.into(),
            vec![TYPE::PTR],
        ),
        (
            "me._serf_zz._tcp.local",
            QTYPE::ANY,
            vec![TYPE::SRV, TYPE::A, TYPE::TXT],
        ),
        ("me._serf_zz._tcp.local", TYPE::SRV.into(), vec![TYPE::SRV]),
        ("me._serf_zz._tcp.local", TYPE::TXT.into(), vec![TYPE::TXT]),
        ("me._serf_zz._tcp.local", TYPE::A.into(), vec![TYPE::A]),
        ("me._serf_zz._tcp.local", TYPE::AAAA.into(), vec![]),
        ("_serf_zz._tcp.local", TYPE::SRV.into(), vec![]),
        ("_serf_zzz._tcp.local", TYPE::PTR.into(), vec![]),
        ("you._serf_zz._tcp.local", QTYPE::ANY, vec![]),
        ("local", QTYPE::ANY, vec![]),
    ] {
        let mut scene = Scene::new();
        let sent = scene.ask("10.0.0.2:40000", &query(name, qtype));
        let answer = sent
            .first()
            .map(|sent| Packet::parse(&sent.payload).unwrap());
        let records = answer.into_iter().flat_map(|answer| answer.answers);
        let kinds: Vec<TYPE> = records.map(|record| record.rdata.type_code()).collect();
        assert_eq!(kinds, expected, "{name} {qtype:?}");
    }
}

#[test]
fn who_takes_part_is_answered_with_everybody_or_alone_as_asked() {
    let mut scene = Scene::new();
    let everybody = query(SERVICE, TYPE::PTR.into());
    assert_eq!(scene.ask("10.0.0.2:5353", &everybody), []);
    // Two that ask within a moment get one answer.
    assert_eq!(scene.ask("10.0.0.3:5353", &everybody), []);
    scene.pass(Duration::from_millis(120));
    let sent = scene.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, Destination::Group);
    let answer = Packet::parse(&sent[0].payload).unwrap();
    assert_eq!((answer.id(), answer.questions.len()), (0, 0));
    assert_eq!(answer.answers[0].ttl, 120);
    assert!(!answer.answers[0].cache_flush && answer.additional_records[0].cache_flush);
    // Not more than one a second.
    scene.ask("10.0.0.2:5353", &everybody);
    scene.pass(Duration::from_millis(800));
    assert_eq!(
        scene
            .sent()
            .iter()
            .filter(|sent| sent.to == Destination::Group)
            .count(),
        0
    );
    scene.pass(Duration::from_millis(300));
    assert_eq!(
        scene
            .sent()
            .iter()
            .filter(|sent| sent.to == Destination::Group)
            .count(),
        1
    );

    let mut alone = everybody;
    alone.questions[0].unicast_response = true;
    let sent = scene.ask("10.0.0.2:5353", &alone);
    assert_eq!(sent[0].to, Destination::One(addr("10.0.0.2:5353")));
}

#[test]
fn who_knows_the_node_gets_no_answer_unless_soon_to_forget_it() {
    for (ttl, answers) in [(120, 0), (59, 1)] {
        let mut scene = Scene::new();
        let mut packet = query(SERVICE, TYPE::PTR.into());
        let mut known = pointer("me._serf_zz._tcp.local");
        known.ttl = ttl;
        packet.answers.push(known);
        assert_eq!(scene.ask("10.0.0.2:40000", &packet).len(), answers, "{ttl}");
    }
}

#[test]
fn answers_are_limited_in_each_second() {
    let mut scene = Scene::new();
    let packet = query(SERVICE, TYPE::PTR.into());
    let answer = |scene: &mut Scene| {
        let all = (0..200).map(|_| scene.ask("10.0.0.2:40000", &packet).len());
        all.sum::<usize>()
    };
    assert_eq!(answer(&mut scene), ANSWERS_PER_SECOND as usize);
    scene.now += Duration::from_secs(1);
    assert_eq!(answer(&mut scene), ANSWERS_PER_SECOND as usize);
    assert_eq!(
        scene.mdns.unanswered,
        400 - 2 * u64::from(ANSWERS_PER_SECOND)
    );
}

#[test]
fn only_queries_to_the_group_are_answered() {
    let mut scene = Scene::new();
    scene.hear(Via::Own, "10.0.0.2:40000", &unhex(REFERENCE_QUESTION));
    assert_eq!(scene.sent(), []);
}

#[test]
fn it_asks_soon_again_and_at_last_once_a_minute() {
    let mut scene = Scene::new();
    let began = scene.now;
    let mut times = Vec::new();
    while times.len() < 10 {
        scene.now = scene.mdns.poll_timeout().unwrap();
        scene.mdns.handle_timeout(scene.now);
        times.extend(
            scene
                .sent()
                .iter()
                .map(|_| (scene.now - began).as_secs_f64()),
        );
    }
    let mut last = 0.0;
    for (time, expected) in times
        .iter()
        .zip([1., 2., 4., 8., 16., 32., 60., 60., 60., 60.])
    {
        let passed = time - last;
        assert!((expected * 0.9..=expected).contains(&passed), "{times:?}");
        last = *time;
    }
}

#[test]
fn who_is_only_named_is_asked_about_once() {
    let mut scene = Scene::new();
    let packet = response(vec![
        pointer("a._serf_zz._tcp.local"),
        // Not this node, and nobody of another service.
        pointer("me._serf_zz._tcp.local"),
        pointer("b._serf_yy._tcp.local"),
    ]);
    scene.hear(Via::Own, "10.0.0.2:5353", &packet);
    scene.hear(Via::Own, "10.0.0.2:5353", &packet);
    scene.pass(ASK_AGAIN);
    let sent = scene.sent();
    assert_eq!(sent.len(), 1);
    let asked = Packet::parse(&sent[0].payload).unwrap().questions;
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].qname.to_string(), "a._serf_zz._tcp.local");
    let answer = response(vec![
        location("a._serf_zz._tcp.local", "host.local", 7),
        address("other.local", "10.0.0.8"),
        address("host.local", "10.0.0.9"),
    ]);
    scene.hear(Via::Own, "10.0.0.2:5353", &answer);
    scene.pass(QUIET);
    assert_eq!(scene.found(), [addr("10.0.0.9:7")]);
}

#[test]
fn addresses_that_cannot_be_joined_are_none() {
    let instance = "a._serf_zz._tcp.local";
    for (port, addresses, expected) in [
        (7, vec!["10.0.0.9"], Some("10.0.0.9:7")),
        (7, vec!["fd00::9"], Some("[fd00::9]:7")),
        (7, vec!["fd00::9", "10.0.0.9"], Some("10.0.0.9:7")),
        (0, vec!["10.0.0.9"], None),
        (7, vec!["0.0.0.0"], None),
        (7, vec!["224.0.0.251"], None),
        (7, vec!["fe80::1"], None),
        (7, vec!["fe80::1", "10.0.0.9"], Some("10.0.0.9:7")),
        (7, vec![], None),
    ] {
        let mut scene = Scene::new();
        let mut records = vec![location(instance, "h.local", port)];
        records.extend(addresses.iter().map(|ip| address("h.local", ip)));
        scene.hear(Via::Own, "10.0.0.2:5353", &response(records));
        scene.pass(QUIET);
        let expected: Vec<SocketAddr> = expected.into_iter().map(addr).collect();
        assert_eq!(scene.found(), expected, "{port} {addresses:?}");
    }
}

#[test]
fn what_comes_after_the_round_does_not_count() {
    let mut scene = Scene::new();
    // Past the first rounds, which follow closely on each other.
    scene.pass(Duration::from_secs(200));
    scene.now = scene.mdns.next_round;
    scene.mdns.handle_timeout(scene.now);
    scene.pass(ROUND);
    scene.hear(Via::Own, "127.0.0.1:5353", &unhex(REFERENCE_ANSWER));
    scene.pass(QUIET);
    assert_eq!(scene.found(), []);
}

#[test]
fn a_flood_of_instances_is_bounded() {
    let mut scene = Scene::new();
    for number in 0..20_000 {
        let instance = format!("n{number}.{SERVICE}");
        let records = vec![
            pointer(&instance),
            location(&instance, "h.local", 7),
            address("h.local", "10.0.0.9"),
        ];
        let packet = response(records);
        scene.hear(Via::Own, "10.0.0.2:5353", &packet);
    }
    scene.pass(QUIET);
    assert_eq!(scene.found().len(), INSTANCES_MAX);
    let round = scene.mdns.round.as_ref().unwrap();
    assert_eq!(round.instances.len(), INSTANCES_MAX);
}

#[test]
fn bad_packets_are_nothing_to_it() {
    let mut scene = Scene::new();
    let good = unhex(REFERENCE_ANSWER);
    let question = unhex(REFERENCE_QUESTION);
    for packet in [&good, &question] {
        for end in 0..packet.len() {
            scene.hear(Via::Group, "10.0.0.2:40000", &packet[..end]);
        }
        // Each bit turned over: what comes of it, if anything, is still bounded.
        for bit in 0..packet.len() * 8 {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            scene.hear(Via::Group, "10.0.0.2:40000", &changed);
        }
    }
    scene.sent();
    // A header that announces more than there is, and a name that points to itself.
    let announces = unhex("00008400ffffffffffffffff0000");
    let circular = unhex("000000000001000000000000c00c000c0001");
    for packet in [&announces[..], &circular, &[0; 9001]] {
        scene.hear(Via::Group, "10.0.0.2:40000", packet);
    }
    assert_eq!(scene.sent(), []);
}

#[test]
fn names_of_nodes_and_clusters_fit_or_are_refused() {
    for cluster in ["", &"x".repeat(58), "a..b", &["x"; 100].join(".")] {
        let refused = check_name(cluster);
        // Without a name of its own the service is `_serf_`, as the reference has it.
        assert_eq!(refused.is_err(), !cluster.is_empty(), "{cluster:?}");
    }
    assert_eq!(check_name(&"x".repeat(57)), Ok(()));
    assert_eq!(check_name("a.b"), Ok(()));
    // Long names are told apart by more than what they begin with.
    let long = |last: char| format!("{}{last}", "é".repeat(60));
    let mut questions = Vec::new();
    for node in [long('a'), long('b'), "a.b\\c".to_owned()] {
        let mut mdns = Mdns::new(Instant::now(), "zz", &node, addr("10.0.0.1:1"), [1; 32]).unwrap();
        let packet = query(SERVICE, QTYPE::ANY).build_bytes_vec().unwrap();
        mdns.handle_packet(Instant::now(), Via::Group, addr("10.0.0.2:4"), &packet);
        let answer = mdns.poll_transmit().unwrap().payload;
        let answer = Packet::parse(&answer).unwrap();
        let RData::PTR(PTR(instance)) = &answer.answers[0].rdata else {
            panic!("{answer:?}");
        };
        assert_eq!(instance.get_labels().len(), 4);
        questions.push(instance.get_labels()[0].to_string());
    }
    questions.dedup();
    assert_eq!(questions.len(), 3);
}
