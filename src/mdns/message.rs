//! What multicast DNS says and hears of a service: a node as records, questions about it, and records of others.
//!
//! A node is the DNS-SD service `_serf_CLUSTER._tcp.local`, instance `NODE`, with the SRV, TXT and address records that
//! hashicorp/mdns sends (`zone.go`). The host that its SRV record names is the instance itself: the machine's own name is
//! the machine's responder's to answer for, and nodes on one machine may have different addresses.

use std::net::{IpAddr, SocketAddr};

use simple_dns::rdata::{A, AAAA, PTR, RData, SRV, TXT};
use simple_dns::{
    CLASS, Label, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord,
    TYPE,
};

use super::MdnsError;

/// A label of a name, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Questions of a packet that are looked at.
const QUESTIONS_MAX: usize = 32;
/// Records of a packet that are looked at.
const RECORDS_MAX: usize = 64;
/// How long others may keep what they are told (that of hashicorp/mdns), in seconds.
const TTL_SECONDS: u32 = 120;
/// The same where the answer goes to a plain resolver, which does not hear of changes (RFC 6762, 6.7), in seconds.
const LEGACY_TTL_SECONDS: u32 = 10;
/// The sizes of a header, and the least ones of a question and of a record, in bytes.
const HEADER_BYTES: usize = 12;
const QUESTION_BYTES_MIN: usize = 5;
const RECORD_BYTES_MIN: usize = 11;

/// Which records of a node are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// That there are services of this kind.
    kinds: bool,
    /// That the service has this instance.
    instance: bool,
    /// Where the instance is.
    location: bool,
    text: bool,
    address: bool,
}

impl Records {
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.kinds |= other.kinds;
        self.instance |= other.instance;
        self.location |= other.location;
        self.text |= other.text;
        self.address |= other.address;
    }
}

/// What a node tells of itself.
#[derive(Debug)]
pub(super) struct Service {
    kinds: Name<'static>,
    name: Name<'static>,
    instance: Name<'static>,
    addr: SocketAddr,
    text: String,
}

/// Where an instance of the service is, as one packet has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) instance: Name<'static>,
    pub(super) addr: SocketAddr,
}

/// What a packet says of other nodes.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Instances there are.
    pub(super) instances: Vec<Name<'static>>,
    /// Where some of them are.
    pub(super) locations: Vec<Location>,
}

/// Reads a packet, unless it is none or none of multicast DNS's.
pub(super) fn parse(payload: &[u8]) -> Option<Packet<'_>> {
    // Before memory is taken for as many records as a header announces, see whether they fit.
    let header = payload.get(..HEADER_BYTES)?;
    let mut counts = header.chunks_exact(2).skip(2).map(|count| {
        count
            .iter()
            .fold(0, |sum, byte| sum * 256 + usize::from(*byte))
    });
    let questions = counts.next().unwrap_or_default();
    let records: usize = counts.sum();
    if HEADER_BYTES + questions * QUESTION_BYTES_MIN + records * RECORD_BYTES_MIN > payload.len() {
        return None;
    }
    let packet = Packet::parse(payload).ok()?;
    let standard = packet.opcode() == OPCODE::StandardQuery && packet.rcode() == RCODE::NoError;
    standard.then_some(packet)
}

/// The name of a cluster's service. Dots make labels of it, as they do for the reference.
pub(super) fn service_name(cluster: &str) -> Result<Name<'static>, MdnsError> {
    let text = format!("_serf_{cluster}");
    let labels: Vec<Label<'static>> = text
        .split('.')
        .map(|label| Label::new(label.as_bytes().to_vec()))
        .chain([label("_tcp"), label("local")].map(Ok))
        .collect::<Result<_, _>>()
        .map_err(|_| MdnsError::Name(cluster.to_owned()))?;
    let name = Name::new_with_labels(&labels);
    let bytes: usize = name.as_bytes().map(|label| label.len() + 1).sum();
    // An instance's label goes in front of it, and the whole has 255 bytes at the most.
    if name.as_bytes().any(<[u8]>::is_empty) || bytes + LABEL_BYTES_MAX + 2 > 255 {
        return Err(MdnsError::Name(cluster.to_owned()));
    }
    Ok(name)
}

/// A label that is known to be one.
fn label(text: &'static str) -> Label<'static> {
    Label::new_unchecked(text.as_bytes())
}

/// A node's name as a label: a long one is cut, and told from others by its checksum.
fn node_label(node: &str) -> Label<'static> {
    if node.len() <= LABEL_BYTES_MAX {
        return Label::new_unchecked(node.as_bytes().to_vec());
    }
    let checksum = format!("-{:08x}", crc32fast::hash(node.as_bytes()));
    let kept = node.floor_char_boundary(LABEL_BYTES_MAX - checksum.len());
    let text = [node.get(..kept).unwrap_or_default(), &checksum].concat();
    Label::new_unchecked(text.into_bytes())
}

fn below(first: Label<'static>, name: &Name<'static>) -> Name<'static> {
    let labels: Vec<_> = [first]
        .into_iter()
        .chain(name.get_labels().iter().cloned())
        .collect();
    Name::new_with_labels(&labels)
}

impl Service {
    pub(super) fn new(cluster: &str, node: &str, addr: SocketAddr) -> Result<Self, MdnsError> {
        let name = service_name(cluster)?;
        Ok(Self {
            kinds: Name::new_with_labels(&["_services", "_dns-sd", "_udp", "local"].map(label)),
            instance: below(node_label(node), &name),
            name,
            addr,
            text: format!("Serf '{cluster}' cluster"),
        })
    }

    /// Asks who belongs to the service.
    pub(super) fn question(&self) -> Vec<u8> {
        let mut packet = Packet::new_query(0);
        packet
            .questions
            .push(question(&self.name, TYPE::PTR.into()));
        bytes(&packet)
    }

    /// Asks where these instances are.
    pub(super) fn question_about<'a>(
        instances: impl Iterator<Item = &'a Name<'static>>,
    ) -> Vec<u8> {
        let mut packet = Packet::new_query(0);
        packet.questions = instances.map(|name| question(name, QTYPE::ANY)).collect();
        bytes(&packet)
    }

    /// Which records of this node a query asks for: those to send to the asker alone, and those for everybody.
    pub(super) fn asked(&self, query: &Packet<'_>) -> (Records, Records) {
        let (mut alone, mut everybody) = (Records::default(), Records::default());
        for question in query.questions.iter().take(QUESTIONS_MAX) {
            let mut records = self.asked_by(question);
            records.instance &= !self.is_known(query);
            if question.unicast_response {
                alone.add(records);
            } else {
                everybody.add(records);
            }
        }
        (alone, everybody)
    }

    fn asked_by(&self, question: &Question<'_>) -> Records {
        let asks = |kind: TYPE| question.qtype == QTYPE::ANY || question.qtype == kind.into();
        let about = |name: &Name<'_>| {
            question.qname == *name
                && matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY)
        };
        let address = if self.addr.is_ipv4() {
            TYPE::A
        } else {
            TYPE::AAAA
        };
        let here = about(&self.instance);
        Records {
            kinds: about(&self.kinds) && asks(TYPE::PTR),
            instance: about(&self.name) && asks(TYPE::PTR),
            location: here && asks(TYPE::SRV),
            text: here && asks(TYPE::TXT),
            address: here && asks(address),
        }
    }

    /// Whether the asker knows this node already, and will for a while (RFC 6762, 7.1).
    fn is_known(&self, query: &Packet<'_>) -> bool {
        query.answers.iter().take(RECORDS_MAX).any(|record| {
            record.ttl >= TTL_SECONDS / 2
                && record.name == self.name
                && matches!(&record.rdata, RData::PTR(PTR(instance)) if *instance == self.instance)
        })
    }

    /// An answer to those who take part in multicast DNS.
    pub(super) fn answer(&self, records: Records) -> Vec<u8> {
        let mut packet = Packet::new_reply(0);
        self.fill(&mut packet, records, TTL_SECONDS, true);
        bytes(&packet)
    }

    /// An answer to a plain resolver, which wants its question back.
    pub(super) fn legacy_answer(&self, records: Records, query: &Packet<'_>) -> Vec<u8> {
        let mut packet = Packet::new_reply(query.id());
        packet.questions = query
            .questions
            .iter()
            .take(QUESTIONS_MAX)
            .cloned()
            .collect();
        self.fill(&mut packet, records, LEGACY_TTL_SECONDS, false);
        bytes(&packet)
    }

    /// Answers with what is asked for, and adds what will be asked for next.
    fn fill<'a>(&'a self, packet: &mut Packet<'a>, records: Records, ttl: u32, flush: bool) {
        packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        let record =
            |name: &Name<'a>, rdata| ResourceRecord::new(name.clone(), CLASS::IN, ttl, rdata);
        let mut put = |asked: bool, next: bool, record: ResourceRecord<'a>| {
            if asked {
                packet.answers.push(record);
            } else if next {
                packet.additional_records.push(record);
            }
        };
        let kinds = RData::PTR(PTR(self.name.clone()));
        put(records.kinds, false, record(&self.kinds, kinds));
        let instance = RData::PTR(PTR(self.instance.clone()));
        put(records.instance, false, record(&self.name, instance));
        let location = RData::SRV(SRV {
            priority: 10,
            weight: 1,
            port: self.addr.port(),
            target: self.instance.clone(),
        });
        // What only this node says replaces what was said before.
        let own = |rdata| record(&self.instance, rdata).with_cache_flush(flush);
        put(records.location, records.instance, own(location));
        let address = match self.addr.ip() {
            IpAddr::V4(addr) => RData::A(A::from(addr)),
            IpAddr::V6(addr) => RData::AAAA(AAAA::from(addr)),
        };
        put(
            records.address,
            records.instance || records.location,
            own(address),
        );
        if let Ok(text) = TXT::new().with_string(&self.text) {
            put(records.text, records.instance, own(RData::TXT(text)));
        }
    }

    /// What a response says of other nodes of the service.
    pub(super) fn hear(&self, response: &Packet<'_>) -> Heard {
        let mut heard = Heard::default();
        let records = || {
            let all = response.answers.iter().chain(&response.additional_records);
            all.take(RECORDS_MAX)
        };
        let is_other = |name: &Name<'_>| *name != self.instance && name.is_subdomain_of(&self.name);
        for record in records() {
            match &record.rdata {
                RData::PTR(PTR(instance)) if record.name == self.name && is_other(instance) => {
                    heard.instances.push(instance.clone().into_owned());
                }
                RData::SRV(srv) if is_other(&record.name) && srv.port != 0 => {
                    if let Some(ip) = self.address_of(&srv.target, records()) {
                        heard.locations.push(Location {
                            instance: record.name.clone().into_owned(),
                            addr: SocketAddr::new(ip, srv.port),
                        });
                    }
                }
                _ => {}
            }
        }
        heard
    }

    /// The address of a host: one like this node's own, if it has several.
    fn address_of<'a, 'b: 'a>(
        &self,
        host: &Name<'_>,
        records: impl Iterator<Item = &'a ResourceRecord<'b>>,
    ) -> Option<IpAddr> {
        let addresses = records
            .filter(|record| record.name == *host)
            .filter_map(|record| {
                let ip = match &record.rdata {
                    RData::A(a) => IpAddr::V4(a.address.into()),
                    RData::AAAA(aaaa) => IpAddr::V6(aaaa.address.into()),
                    _ => return None,
                };
                is_usable(ip).then_some(ip)
            });
        addresses.min_by_key(|ip| ip.is_ipv4() != self.addr.is_ipv4())
    }
}

/// Whether a node can be joined at this address. A link-local one of IPv6 needs an interface, which gossip has no way to
/// name.
fn is_usable(ip: IpAddr) -> bool {
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !ip.is_unspecified() && !ip.is_multicast() && !link_local
}

fn question(name: &Name<'static>, qtype: QTYPE) -> Question<'static> {
    Question::new(name.clone(), qtype, QCLASS::CLASS(CLASS::IN), false)
}

/// A packet's bytes. Names within their limits can always be written; nothing is sent otherwise.
fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    packet.build_bytes_vec_compressed().unwrap_or_default()
}
