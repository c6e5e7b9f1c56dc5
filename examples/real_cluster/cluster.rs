//! A cluster of agents, and what each of them tells of it.

use std::error::Error;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serfling::client::{Client, ClientError, StreamEvent};
use serfling::cluster::{MemberEventKind, MemberStatus};

use super::agent::{Agent, Kind};

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Which programs make up a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mixture {
    Serfling,
    Reference,
    Both,
}

impl Mixture {
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Serfling, Self::Reference, Self::Both]
            .into_iter()
            .find(|mixture| mixture.to_string() == name)
    }

    const fn kind_of(self, number: usize) -> Kind {
        match self {
            Self::Serfling => Kind::Serfling,
            Self::Reference => Kind::Reference,
            Self::Both => Kind::BOTH[number % 2],
        }
    }
}

impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serfling => "serfling",
            Self::Reference => "serf",
            Self::Both => "mixed",
        })
    }
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The event of this name.
    Event(String),
    /// This member joined or failed: the node knows, and has logged so.
    Known(MemberEventKind, String),
    /// The same as its streams and handlers hear it: when a second has brought no more of the kind.
    Told(MemberEventKind, String),
}

/// What was heard, and when.
struct Heard {
    at: Instant,
    node: usize,
    news: News,
}

/// Agents that have joined each other.
pub(crate) struct Cluster {
    pub(crate) agents: Vec<Agent>,
    mixture: Mixture,
    heard: Receiver<Heard>,
    ears: Sender<Heard>,
    folder: tempfile::TempDir,
    /// How many agents have been started.
    started: usize,
}

impl Cluster {
    /// Starts them one after the other; each joins the first.
    pub(crate) fn start(mixture: Mixture, count: usize) -> Result<Self, Box<dyn Error>> {
        let (ears, heard) = channel();
        let mut cluster = Self {
            agents: Vec::new(),
            mixture,
            heard,
            ears,
            folder: tempfile::tempdir()?,
            started: 0,
        };
        for _ in 0..count {
            let mut agent = cluster.start_agent()?;
            if let Some(first) = cluster.agents.first() {
                agent.client.join(&[first.gossip_address()], false)?;
            }
            cluster.agents.push(agent);
        }
        let alive = |client: &mut Client| -> Result<bool, ClientError> {
            let members = client.members()?;
            let alive = |member: &&_| is_alive(member);
            Ok(members.iter().filter(alive).count() == count)
        };
        match cluster.wait_until_all(alive)? {
            true => Ok(cluster),
            false => Err("not all nodes find each other".into()),
        }
    }

    /// Starts one more agent, which has joined nobody.
    pub(crate) fn start_agent(&mut self) -> Result<Agent, Box<dyn Error>> {
        let number = self.started;
        self.started += 1;
        let address = format!("127.0.{}.{}", number / 250, number % 250 + 1);
        let kind = self.mixture.kind_of(number);
        Agent::start(kind, &format!("n{number}"), &address, self.folder.path())
    }

    /// Waits until something holds for all; says whether it came to that.
    pub(crate) fn wait_until_all(
        &mut self,
        mut holds: impl FnMut(&mut Client) -> Result<bool, ClientError>,
    ) -> Result<bool, ClientError> {
        let deadline = Instant::now() + PATIENCE;
        for agent in &mut self.agents {
            while !holds(&mut agent.client)? {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(true)
    }

    /// Listens to all agents from now on.
    pub(crate) fn listen(&self) -> Result<(), Box<dyn Error>> {
        for (node, agent) in self.agents.iter().enumerate() {
            let client = agent.connect()?;
            let ears = self.ears.clone();
            std::thread::spawn(move || {
                // It ends with its agent.
                let _ = listen(client, node, &ears);
            });
        }
        Ok(())
    }

    /// The times until each node had told each piece of news, in order, in seconds since `begin`; a node that has not
    /// told it in time has the time infinity.
    pub(crate) fn times(&self, begin: Instant, wanted: &[News]) -> Vec<Vec<f64>> {
        let count = self.agents.len();
        let mut times = vec![vec![f64::INFINITY; count]; wanted.len()];
        let mut missing = count * wanted.len();
        while missing > 0 {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let Ok(heard) = self.heard.recv_timeout(left) else {
                break;
            };
            let place = wanted.iter().position(|news| *news == heard.news);
            let times = place.and_then(|place| times.get_mut(place));
            let time = times.and_then(|times| times.get_mut(heard.node));
            if let Some(time) = time.filter(|time| time.is_infinite()) {
                *time = heard.at.saturating_duration_since(begin).as_secs_f64();
                missing -= 1;
            }
        }
        for times in &mut times {
            times.sort_by(f64::total_cmp);
        }
        times
    }
}

pub(crate) fn is_alive(member: &serfling::cluster::Member) -> bool {
    member.status == MemberStatus::Alive
}

/// Passes on what an agent says.
fn listen(mut client: Client, node: usize, ears: &Sender<Heard>) -> Result<(), ClientError> {
    let stream = client.stream("user,member-join,member-failed")?;
    let monitor = client.monitor("info")?;
    loop {
        client.wait(None)?;
        let at = Instant::now();
        let mut all = Vec::new();
        while let Some(event) = client.take(&stream)? {
            match event {
                StreamEvent::User(event) => all.push(News::Event(event.name)),
                StreamEvent::Member(event) => {
                    let names = event.members.iter().map(|member| member.name.to_string());
                    all.extend(names.map(|name| News::Told(event.kind, name)));
                }
                StreamEvent::Query { .. } => {}
            }
        }
        while let Some(line) = client.take(&monitor)? {
            all.extend(known(&line));
        }
        for news in all {
            if ears.send(Heard { at, node, news }).is_err() {
                return Ok(());
            }
        }
    }
}

/// What a line of a log tells; both kinds of agents write the same.
fn known(line: &str) -> Option<News> {
    let (_, message) = line.split_once("serf: EventMember")?;
    let mut words = message.split([':', ' ']).filter(|word| !word.is_empty());
    let kind = match words.next()? {
        "Join" => MemberEventKind::Join,
        "Failed" => MemberEventKind::Failed,
        _ => return None,
    };
    Some(News::Known(kind, words.next()?.to_owned()))
}
