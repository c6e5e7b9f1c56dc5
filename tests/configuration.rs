//! Flags and keys of the agent: the reference's are all taken, and each is in the documentation. What they do has tests
//! elsewhere, see `docs/compatibility.md`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::agent::Kind;

const COMPATIBILITY: &str = include_str!("../docs/compatibility.md");
const README: &str = include_str!("../README.md");

/// The reference's flags, and what may be given to each.
const FLAGS: &[(&str, &str)] = &[
    ("advertise", "10.0.0.1"),
    ("bind", "127.0.0.1:7946"),
    ("broadcast-timeout", "10s"),
    ("config-dir", "dist"),
    ("config-file", "dist/agent.json"),
    ("disable-compression", "true"),
    ("discover", "cluster"),
    ("encrypt", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("event-handler", "user:deploy=deploy.sh"),
    ("iface", "lo"),
    ("join", "10.0.0.1"),
    ("keyring-file", ""),
    ("log-level", "debug"),
    ("node", "web-1"),
    ("profile", "wan"),
    ("protocol", "4"),
    ("rejoin", "true"),
    ("replay", "true"),
    ("retry-interval", "30s"),
    ("retry-join", "10.0.0.1:7946"),
    ("retry-max", "3"),
    ("role", "web"),
    ("rpc-addr", "127.0.0.1:7373"),
    ("snapshot", "/var/lib/serf/snapshot"),
    ("syslog", "true"),
    ("tag", "role=web"),
    ("tags-file", "/var/lib/serf/tags.json"),
];

/// Those that only newer ones of the reference have.
const NEWER_FLAGS: &[(&str, &str)] = &[
    ("mdns-disable-ipv4", "true"),
    ("mdns-disable-ipv6", "true"),
    ("mdns-iface", ""),
];

/// The reference's keys, and what may be given to each.
const KEYS: &[(&str, &str)] = &[
    ("advertise", r#""10.0.0.1""#),
    ("bind", r#""127.0.0.1:7946""#),
    ("broadcast_timeout", r#""10s""#),
    ("disable_coordinates", "true"),
    ("disable_name_resolution", "true"),
    ("discover", r#""cluster""#),
    ("enable_compression", "true"),
    ("enable_syslog", "true"),
    (
        "encrypt_key",
        r#""AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=""#,
    ),
    ("event_handlers", r#"["deploy.sh", "query:load=uptime"]"#),
    ("interface", r#""lo""#),
    ("keyring_file", r#""""#),
    ("leave_on_terminate", "true"),
    ("log_level", r#""debug""#),
    ("node_name", r#""web-1""#),
    ("profile", r#""wan""#),
    ("protocol", "4"),
    ("query_response_size_limit", "512"),
    ("query_size_limit", "512"),
    ("reconnect_interval", r#""15s""#),
    ("reconnect_timeout", r#""48h""#),
    ("rejoin_after_leave", "true"),
    ("replay_on_join", "true"),
    ("retry_interval", r#""1m30s""#),
    ("retry_join", r#"["10.0.0.1"]"#),
    ("retry_max_attempts", "3"),
    ("role", r#""web""#),
    ("rpc_addr", r#""127.0.0.1:7373""#),
    ("rpc_auth", r#""secret""#),
    ("skip_leave_on_interrupt", "true"),
    ("snapshot_path", r#""/var/lib/serf/snapshot""#),
    ("start_join", r#"["10.0.0.1"]"#),
    ("statsd_addr", r#""127.0.0.1:8125""#),
    ("statsite_addr", r#""127.0.0.1:8125""#),
    ("syslog_facility", r#""LOCAL4""#),
    ("tags", r#"{"role": "web"}"#),
    ("tags_file", r#""/var/lib/serf/tags.json""#),
    ("tombstone_timeout", r#""36h""#),
    ("user_event_size_limit", "1024"),
];

/// Those that only newer ones of the reference have.
const NEWER_KEYS: &[(&str, &str)] = &[
    (
        "mdns",
        r#"{"interface": "", "disable_ipv4": false, "disable_ipv6": true}"#,
    ),
    ("MsgpackUseNewTimeFormat", "false"),
    ("validate_node_names", "true"),
];

/// Whether a run ended well, and what was said.
fn run(program: &str, command: &str, arguments: &[String]) -> (bool, String) {
    let output = Command::new(program)
        .arg(command)
        .args(arguments)
        .env_remove("SERF_RPC_ADDR")
        .output()
        .expect("the agent runs: tests/run installs the reference");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The flags that the help of a command has.
fn flags_of_help(kind: Kind, command: &str) -> BTreeSet<String> {
    let (_, help) = run(kind.program(), command, &["-h".to_owned()]);
    let flags = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('-'));
    let names = flags.map(|flag| {
        let flag = flag.trim_start_matches('-');
        flag.split(['=', ' ', ','])
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    let examples = |name: &String| {
        let letter = |char: char| char.is_ascii_lowercase() || char == '-' || char.is_ascii_digit();
        name.len() > 1 && name.chars().all(letter)
    };
    names.filter(examples).collect()
}

#[test]
fn every_flag_of_the_reference_is_taken() {
    let known: BTreeSet<String> = FLAGS.iter().map(|(flag, _)| (*flag).to_owned()).collect();
    let help = flags_of_help(Kind::Reference, "agent");
    assert!(help.len() > 20, "{help:?}");
    let missing: Vec<_> = help.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "flags of the reference without a test: {missing:?}"
    );
    for (flag, value) in FLAGS {
        // Parsing stops at the first flag that is none.
        let arguments = [format!("-{flag}={value}"), "-nosuch".to_owned()];
        let (_, said) = run("serf", "agent", &arguments);
        assert!(
            said.contains("not defined: -nosuch"),
            "-{flag}={value}: {said}"
        );
    }
    for (flag, value) in FLAGS.iter().chain(NEWER_FLAGS) {
        let forms = match *value {
            "true" => vec![vec![format!("-{flag}")], vec![format!("--{flag}=true")]],
            _ => vec![
                vec![format!("-{flag}={value}")],
                vec![format!("--{flag}={value}")],
                vec![format!("-{flag}"), (*value).to_owned()],
            ],
        };
        for form in forms {
            let arguments = [vec!["-check".to_owned()], form].concat();
            let (well, said) = run(Kind::Serfling.program(), "agent", &arguments);
            assert!(well, "{arguments:?}: {said}");
        }
    }
}

/// The keys that the reference's program has in the text of its types: there is no list of them to ask it for.
fn keys_of_the_reference() -> BTreeSet<String> {
    let path = Command::new("sh")
        .args(["-c", "command -v serf"])
        .output()
        .unwrap();
    let path = String::from_utf8(path.stdout).unwrap();
    let program = std::fs::read(path.trim()).expect("tests/run installs the reference");
    let program = String::from_utf8_lossy(&program);
    let tags = program.split("mapstructure:\"").skip(1);
    let keys = tags.filter_map(|tag| tag.split('"').next());
    keys.filter(|key| *key != "-").map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_reference_is_taken() {
    let keys = || KEYS.iter().chain(NEWER_KEYS);
    let known: BTreeSet<String> = keys().map(|(key, _)| (*key).to_owned()).collect();
    let theirs = keys_of_the_reference();
    assert!(theirs.len() >= KEYS.len(), "{theirs:?}");
    let missing: Vec<_> = theirs.difference(&known).collect();
    assert!(
        missing.is_empty(),
        "keys of the reference without a test: {missing:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.json");
    for (key, value) in keys() {
        std::fs::write(&path, format!("{{{key:?}: {value}}}")).unwrap();
        let arguments = [
            "-check".to_owned(),
            format!("-config-file={}", path.display()),
        ];
        let (well, said) = run(Kind::Serfling.program(), "agent", &arguments);
        assert!(well, "{key}: {said}");
    }
}

#[test]
fn other_commands_have_the_reference_s_flags() {
    for command in [
        "event",
        "force-leave",
        "info",
        "join",
        "keygen",
        "keys",
        "leave",
        "members",
        "monitor",
        "query",
        "reachability",
        "rtt",
        "tags",
        "version",
    ] {
        let theirs = flags_of_help(Kind::Reference, command);
        let ours = flags_of_help(Kind::Serfling, command);
        let missing: Vec<_> = theirs.difference(&ours).collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
        let row = COMPATIBILITY
            .lines()
            .find(|line| line.starts_with(&format!("| `{command}`")));
        let row = row.unwrap_or_else(|| panic!("{command} is not in the table"));
        for flag in theirs.iter().filter(|flag| !flag.starts_with("rpc-")) {
            assert!(row.contains(&format!("`-{flag}`")), "{command} -{flag}");
        }
    }
}

#[test]
fn every_flag_and_key_is_in_the_documentation() {
    let documented = |name: &str| {
        let quoted = format!("`{name}`");
        COMPATIBILITY.contains(&quoted) || README.contains(&quoted)
    };
    let ours = flags_of_help(Kind::Serfling, "agent");
    assert!(ours.len() >= 40, "{ours:?}");
    for flag in ours.iter().filter(|flag| *flag != "help") {
        assert!(documented(&format!("-{flag}")), "-{flag}");
    }
    for (key, _) in KEYS.iter().chain(NEWER_KEYS) {
        assert!(COMPATIBILITY.contains(&format!("`{key}`")), "{key}");
    }
}
