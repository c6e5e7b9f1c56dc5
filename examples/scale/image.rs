//! The prepared state that every node of a big cluster starts from: a push/pull that names all nodes.

use serfling::cluster::Tags;
use serfling::gossip::envelope::{Envelope, EnvelopeConfig};
use serfling::gossip::message::{NodeState, PushNode, Versions};
use serfling::gossip::stream::{StreamEnd, encode_push_pull};
use serfling::serf::message::{PushPullMessage, encode_tags};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::world::World;

/// What a node among so many says in a push/pull, as it stands in a stream: all live, and say of themselves what nodes
/// of [`World::spawn`] do.
pub(crate) fn image(count: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|node| format!("n{node}")).collect();
    let meta = encode_tags(&Tags::new());
    let nodes = names.iter().enumerate().map(|(node, name)| {
        let addr = World::addr(node);
        PushNode {
            name,
            addr: Some(addr.ip()),
            port: addr.port(),
            meta: &meta,
            incarnation: 1,
            state: NodeState::Alive,
            versions: Some(Versions::CURRENT),
        }
    });
    let user = PushPullMessage {
        ltime: count as u64,
        status_ltimes: names.iter().map(|name| (&**name, 1)).collect(),
        ..PushPullMessage::default()
    };
    let mut user_state = Vec::new();
    user.encode(&mut user_state);
    let mut message = Vec::new();
    encode_push_pull(false, nodes, &user_state, &mut message);
    let envelope = Envelope::new(EnvelopeConfig::default());
    envelope.seal_stream(StreamEnd::Opener, &message, &mut StdRng::seed_from_u64(1))
}
