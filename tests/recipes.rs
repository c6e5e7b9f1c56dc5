//! The recipes of `examples/`, at work under both kinds of agents.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::agent::{Agent, Kind};
use common::wait_for;
use serfling::client::{Client, Options, QueryReply};
use serfling::cluster::QueryRequest;

fn connect(agent: &Agent) -> Client {
    let address = format!("127.0.0.1:{}", agent.rpc_port).parse().unwrap();
    Client::connect(&Options::new(address)).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn recipe(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A member of the cluster with an address of its own on the loopback network.
fn member(balancer: &Agent, name: &str, role: &str, port: u16) -> Agent {
    let arguments = [
        format!("-node={name}"),
        format!("-join=127.0.0.1:{}", balancer.gossip_port),
        format!("-tag=role={role}"),
        format!("-tag=port={port}"),
        "-profile=local".to_owned(),
    ];
    Agent::start(Kind::Serfling, &arguments.each_ref().map(String::as_str))
}

#[test]
fn a_load_balancer_has_the_servers_that_live() {
    for (kind, format) in [
        (Kind::Serfling, "haproxy"),
        (Kind::Serfling, "nginx"),
        (Kind::Reference, "haproxy"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("head"), "# what goes before\n").unwrap();
        let handler = format!(
            "-event-handler=member-join,member-update,member-leave,member-failed,member-reap=\
             BALANCE_FORMAT={format} BALANCE_HEAD={0}/head BALANCE_FILE={0}/list BALANCE_RELOAD='echo >> {0}/reloads' {1}",
            folder.path().display(),
            recipe("load-balancer/balance.sh")
        );
        let balancer = Agent::start(kind, &[&handler, "-tag=role=lb", "-profile=local"]);
        let shows = |servers: &[(&str, u16)]| {
            let server = |(name, port): &(&str, u16)| match format {
                "haproxy" => format!("    server {name} 127.0.0.1:{port} check\n"),
                _ => format!("    server 127.0.0.1:{port};  # {name}\n"),
            };
            let list: String = servers.iter().map(server).collect();
            let list = match (format, servers) {
                ("haproxy", _) => list,
                (_, []) => "upstream web {\n    server 127.0.0.1:9 down;\n}\n".to_owned(),
                _ => format!("upstream web {{\n{list}}}\n"),
            };
            let expected = format!("# what goes before\n{list}");
            wait_for(&format!("{kind:?}: {expected}"), || {
                read(&path("list")) == expected
            });
        };
        shows(&[]);
        let one = member(&balancer, "web-1", "web", 8080);
        shows(&[("web-1", 8080)]);
        // One of another role changes nothing.
        let _database = member(&balancer, "db-1", "db", 5432);
        let _two = member(&balancer, "web-2", "web", 8081);
        shows(&[("web-1", 8080), ("web-2", 8081)]);
        connect(&one).update_tags(&[("port", "9090")], &[]).unwrap();
        shows(&[("web-1", 9090), ("web-2", 8081)]);
        connect(&one).leave().unwrap();
        shows(&[("web-2", 8081)]);
        wait_for("a reload each time", || {
            read(&path("reloads")).lines().count() == 5
        });
    }
}

#[test]
fn a_router_runs_the_program_called_like_the_event() {
    for kind in Kind::BOTH {
        let folder = tempfile::tempdir().unwrap();
        let handlers = folder.path().join("handlers");
        std::fs::create_dir(&handlers).unwrap();
        let seen = folder.path().join("seen");
        let install = |path: &Path, text: &str| {
            std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let note = format!("echo $SERF_EVENT $(cat) >> {}", seen.display());
        install(
            &handlers.join("member-join"),
            &format!("cut -f1 | sed 's/^/join /' >> {}", seen.display()),
        );
        install(&folder.path().join("outside"), &note);
        let handler = format!(
            "-event-handler=*=HANDLERS={} {}",
            handlers.display(),
            recipe("handler-router/router.sh")
        );
        let agent = Agent::start(kind, &[&handler]);
        wait_for("the join", || read(&seen) == "join n1\n");
        // Nobody is told of a handler that comes later.
        install(&handlers.join("user-deploy"), &note);
        install(&handlers.join("query-uptime"), "echo up since today");
        let mut client = connect(&agent);
        for name in ["nobody-s", "../outside", "x/../../outside", "deploy"] {
            client.user_event(name, b"v1", false).unwrap();
        }
        wait_for("the event", || read(&seen).lines().count() >= 2);
        assert_eq!(read(&seen), "join n1\nuser v1\n");
        let request = QueryRequest {
            name: "uptime".into(),
            timeout: Some(Duration::from_secs(1)),
            ..QueryRequest::default()
        };
        let answers = client.query(&request).unwrap();
        let answer = client.next(&answers, Some(common::PATIENCE)).unwrap();
        let (from, payload) = ("n1".to_owned(), b"up since today\n".to_vec());
        assert_eq!(answer, Some(QueryReply::Response { from, payload }));
    }
}
