//! The clients of PyPI against agents of both kinds: what they see must be the same.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Command;

use common::agent::{Agent, Kind};

/// Runs a script with the Python that has the clients; what it prints is JSON.
fn python(script: &str, arguments: &[&str]) -> serde_json::Value {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python");
    let python = std::env::var("SERFLING_TEST_PYTHON").unwrap_or_else(|_| default.to_owned());
    let path = format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(&python)
        .arg(path)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{python} can't be run: {error}; tests/run installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Takes out what differs from agent to agent: ports.
fn without_ports(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(pairs) => {
            pairs.remove("Port");
            pairs.values_mut().for_each(without_ports);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_ports),
        _ => {}
    }
}

fn same_with_both(
    script: &str,
    flags: &[&str],
    config: Option<&str>,
    more: &[&str],
) -> serde_json::Value {
    let [theirs, ours] = Kind::BOTH.map(|kind| {
        let agent = Agent::start_with(
            kind,
            &[&["-tag", "role=web", "-tag", "dc=east"], flags].concat(),
            config,
            None,
        );
        let port = agent.rpc_port.to_string();
        let mut result = python(script, &[&[port.as_str()], more].concat());
        without_ports(&mut result);
        result
    });
    assert_eq!(ours, theirs);
    ours
}

#[test]
fn serfclient_sees_the_same() {
    let seen = same_with_both("serfclient_calls.py", &[], None, &[]);
    assert_eq!(seen["records"].as_array().unwrap().len(), 3, "{seen}");
}

#[test]
fn asyncserf_sees_the_same() {
    let seen = same_with_both("asyncserf_calls.py", &[], None, &[]);
    assert_eq!(seen["records"].as_array().unwrap().len(), 3, "{seen}");
}

#[test]
fn asyncserf_authenticates() {
    same_with_both(
        "asyncserf_calls.py",
        &[],
        Some(r#"{"rpc_auth": "secret"}"#),
        &["auth"],
    );
}

#[test]
fn asyncserf_lists_keys() {
    let seen = same_with_both(
        "asyncserf_calls.py",
        &["-encrypt=AAAAAAAAAAAAAAAAAAAAAA=="],
        None,
        &["encrypted"],
    );
    assert_eq!(seen["list keys"]["NumResp"], "1", "{seen}");
}
