//! What clients do: they come, ask, subscribe, stall and vanish.

use std::time::Duration;

use rand::RngExt;
use rmpv::Value;
use serfling::rpc::message::Command;
use serfling::rpc::{Peer, SessionId};

use super::{Chaos, Later, SECOND};
use crate::client::{Client, map};

/// Fewer than the buffers of events reach back: more could be lost by design.
const EVENTS_MAX: usize = 400;

impl Chaos {
    pub(super) fn connect(&mut self) {
        let Some(node) = self.any_up() else { return };
        let now = self.world.now;
        self.peers += 1;
        let peer = Peer::Unix(self.peers);
        let process = self.world.node(node);
        let run = process.run;
        let Ok(id) = process.hub.accept(now, peer) else {
            return;
        };
        if self.clients.keys().filter(|(of, _)| *of == node).count() >= 8 {
            // It is one too many, and is told so or closed.
            self.world.node(node).hub.handle_gone(now, id);
            return;
        }
        let mut client = Client::new(node, run);
        if let Some(key) = &self.auth_key {
            client.ask(Command::Auth, Some(map([("AuthKey", key.as_str().into())])));
        }
        let told = self.ledger.process((node, run)).told.len();
        if self.rng.random() {
            client.subscribe(told);
        }
        if self.rng.random_range(0..8) == 0 {
            client.monitor();
        }
        self.clients.insert((node, id), client);
        self.observe(node);
    }

    pub(super) fn have_some_client_act(&mut self) {
        let busy = self.clients.len();
        if busy > 0 {
            let which = self.rng.random_range(0..busy);
            let key = *self.clients.keys().nth(which).expect("there are so many");
            self.have_client_act(key);
        }
    }

    fn have_client_act(&mut self, key: (usize, SessionId)) {
        let now = self.world.now;
        let (node, id) = key;
        let choice = self.rng.random_range(0..100);
        let number = self.numbers;
        self.numbers += 1;
        let other = self.rng.random_range(0..self.options.nodes);
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let process = (node, client.run);
        match choice {
            0..=24 if self.ledger.events() < EVENTS_MAX => {
                let coalesce = choice < 5;
                let name = format!("e{number}");
                let body = map([
                    ("Name", name.as_str().into()),
                    (
                        "Payload",
                        Value::Binary(vec![b'x'; (number % 300) as usize]),
                    ),
                    ("Coalesce", coalesce.into()),
                ]);
                let seq = client.ask(Command::Event, Some(body));
                self.ledger.sent(process, name.clone(), coalesce);
                self.sending.insert((node, id, seq), name);
            }
            25..=36 => {
                let timeout = Duration::from_millis(self.rng.random_range(50..15_000));
                client.query(timeout, &format!("q{number}"), (number % 3) as u8);
            }
            37..=42 => drop(client.ask(Command::Members, None)),
            43..=46 => drop(client.ask(Command::Stats, None)),
            47..=52 => {
                let value = "v".repeat((number % 60) as usize);
                let tags = Value::Map(vec![("role".into(), value.into())]);
                let none = Value::Array(Vec::new());
                client.ask(
                    Command::Tags,
                    Some(map([("Tags", tags), ("DeleteTags", none)])),
                );
            }
            53..=56 => {
                let body = map([("Node", format!("n{other}").into())]);
                client.ask(Command::GetCoordinate, Some(body));
            }
            57..=60 => drop(client.ask(Command::ListKeys, None)),
            61..=64 => {
                let body = map([
                    ("Name", "n1.*".into()),
                    ("Status", "alive".into()),
                    ("Tags", Value::Map(Vec::new())),
                ]);
                client.ask(Command::MembersFiltered, Some(body));
            }
            65..=66 => {
                let address = Value::from(self.world.address(other).to_string());
                let body = map([
                    ("Existing", Value::Array(vec![address])),
                    ("Replay", number.is_multiple_of(2).into()),
                ]);
                client.ask(Command::Join, Some(body));
                self.ledger.process(process).joins += 1;
                // Whether the client waits for the end or not.
                self.after(60 * SECOND, Later::JoinOver(process));
            }
            69..=70 if self.world.get(other).is_none() => {
                let body = map([
                    ("Node", format!("n{other}").into()),
                    ("Prune", number.is_multiple_of(2).into()),
                ]);
                client.ask(Command::ForceLeave, Some(body));
            }
            71..=75 => {
                let told = self.ledger.process(process).told.len();
                client.subscribe(told);
            }
            76..=79 => client.stop(),
            80..=86 => {
                client.stalled = !client.stalled;
                client.was_stalled = true;
            }
            87..=90 => self.vanish(key),
            91..=92 => {
                client.stalled = false;
                self.world.node(node).hub.handle_eof(now, id);
                // The responses that are due come; then it is closed.
                self.clients.remove(&key);
                self.world.node(node).hub.handle_gone(now, id);
            }
            93 if self.world.count() > self.options.nodes * 2 / 3 => {
                client.ask(Command::Leave, None);
                self.unsound.insert(process);
            }
            _ => {}
        }
        self.world.settle(node);
        self.observe(node);
    }

    pub(super) fn vanish(&mut self, key: (usize, SessionId)) {
        let now = self.world.now;
        self.clients.remove(&key);
        if let Some(process) = self.world.get_mut(key.0) {
            process.hub.handle_gone(now, key.1);
        }
        self.sending.retain(|(node, id, _), _| (*node, *id) != key);
    }
}
