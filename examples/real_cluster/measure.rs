//! What is done to a cluster to measure it.

use std::error::Error;
use std::time::{Duration, Instant};

use serfling::cluster::MemberEventKind;

use super::agent::Kind;
use super::cluster::{Cluster, News, is_alive};
use super::figures::{Change, Figures};

/// Until the news of the start has gone round.
const SETTLE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);
/// Between events, so that none rides on another's packets.
const BETWEEN_EVENTS: Duration = Duration::from_secs(3);

/// Counts what the cluster does when nothing happens.
pub(crate) fn rest(
    cluster: &mut Cluster,
    figures: &mut Figures,
    windows: usize,
) -> Result<(), Box<dyn Error>> {
    std::thread::sleep(SETTLE);
    let nodes = cluster.agents.len() as f64;
    for _ in 0..windows {
        let begin = Instant::now();
        let (packets, bytes) = (packets()?, bytes()?);
        let before = Kind::BOTH.map(|kind| processor(cluster, kind));
        std::thread::sleep(WINDOW);
        let seconds = begin.elapsed().as_secs_f64();
        let rate = |now: f64, before: f64| (now - before) / seconds / nodes;
        figures.packets.push(rate(self::packets()?, packets));
        figures.bytes.push(rate(self::bytes()?, bytes));
        for (kind, before) in Kind::BOTH.into_iter().zip(before) {
            let (Some(before), Some(now)) = (before?, processor(cluster, kind)?) else {
                continue;
            };
            let costs = figures.costs.entry(kind).or_default();
            costs.processor.push((now - before) / seconds * 60.0);
        }
    }
    for agent in &cluster.agents {
        let costs = figures.costs.entry(agent.kind).or_default();
        costs.resident.push(agent.memory_mib("VmRSS:")?);
        costs.anonymous.push(agent.memory_mib("RssAnon:")?);
    }
    eprintln!("  {windows} minutes at rest are over");
    Ok(())
}

/// Processor time of the mean node of a kind so far, if there is one.
fn processor(cluster: &Cluster, kind: Kind) -> std::io::Result<Option<f64>> {
    let (mut seconds, mut count) = (0.0, 0);
    for agent in cluster.agents.iter().filter(|agent| agent.kind == kind) {
        seconds += agent.processor_seconds()?;
        count += 1;
    }
    Ok((count > 0).then(|| seconds / f64::from(count)))
}

/// Datagrams that have come to any node of this network namespace.
fn packets() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/net/snmp")?;
    // A line of names, then one of values; the first value is of those that came.
    let values = text
        .lines()
        .filter_map(|line| line.strip_prefix("Udp: "))
        .nth(1);
    let first = values.and_then(|values| values.split(' ').next());
    Ok(first
        .ok_or("the system does not count datagrams")?
        .parse()?)
}

/// Bytes that have crossed the loopback interface, headers of IP, UDP and TCP included.
fn bytes() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/net/dev")?;
    let mut lines = text.lines().map(str::trim_start);
    let values = lines.find_map(|line| line.strip_prefix("lo:"));
    let first = values.and_then(|values| values.split_whitespace().next());
    Ok(first.ok_or("there is no loopback interface")?.parse()?)
}

/// Sends events from one node after the other, and follows them.
pub(crate) fn events(
    cluster: &mut Cluster,
    figures: &mut Figures,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let nodes = cluster.agents.len();
    for number in 0..count {
        std::thread::sleep(BETWEEN_EVENTS);
        let name = format!("deploy-{number}");
        let begin = Instant::now();
        if let Some(agent) = cluster.agents.get_mut(number % nodes) {
            agent.client.user_event(&name, b"1.2.3", false)?;
        }
        let times = cluster.times(begin, &[News::Event(name)]);
        figures.events.extend(times);
    }
    eprintln!("  {count} events have gone round");
    Ok(())
}

/// Has new nodes join, and kills them, one after the other.
pub(crate) fn joins_and_kills(
    cluster: &mut Cluster,
    figures: &mut Figures,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let nodes = cluster.agents.len();
    for round in 0..count {
        let mut newcomer = cluster.start_agent()?;
        let name = newcomer.name.clone();
        let contact = cluster.agents.get(round % nodes).ok_or("no nodes")?;
        let address = contact.gossip_address();
        let begin = Instant::now();
        newcomer.client.join(&[address], false)?;
        follow(
            cluster,
            &mut figures.join,
            begin,
            MemberEventKind::Join,
            &name,
        );
        std::thread::sleep(BETWEEN_EVENTS);

        let begin = Instant::now();
        newcomer.kill()?;
        follow(
            cluster,
            &mut figures.failure,
            begin,
            MemberEventKind::Failed,
            &name,
        );
        forget(cluster, &name)?;
        eprintln!("  {name} has come and gone");
    }
    Ok(())
}

fn follow(
    cluster: &Cluster,
    change: &mut Change,
    begin: Instant,
    kind: MemberEventKind,
    name: &str,
) {
    let name = || name.to_owned();
    let wanted = [News::Known(kind, name()), News::Told(kind, name())];
    let times = cluster.times(begin, &wanted);
    let series = [
        (&mut change.known_first, &mut change.known_all),
        (&mut change.told_first, &mut change.told_all),
    ];
    for ((first, all), times) in series.into_iter().zip(&times) {
        first.push(times.first().copied().unwrap_or(f64::NAN));
        all.push(times.last().copied().unwrap_or(f64::NAN));
    }
}

/// Has the cluster forget a failed node. The reference may bring it back; then it stays, as a failed one.
fn forget(cluster: &mut Cluster, name: &str) -> Result<(), Box<dyn Error>> {
    if let Some(agent) = cluster.agents.first_mut() {
        agent.client.force_leave(name, true)?;
    }
    let nodes = cluster.agents.len();
    let rest = |client: &mut serfling::client::Client| {
        let members = client.members()?;
        Ok(members.iter().filter(|member| is_alive(member)).count() == nodes)
    };
    if !cluster.wait_until_all(rest)? {
        return Err(
            format!("a node failed that was not killed, or {name} is not forgotten").into(),
        );
    }
    std::thread::sleep(BETWEEN_EVENTS);
    Ok(())
}
