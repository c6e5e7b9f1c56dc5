use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tempfile::TempDir;

use super::decode::Settings;
use super::resolve::host_name;
use super::*;

/// A directory with these files, and their paths in the same order.
fn files(contents: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let directory = TempDir::new().unwrap();
    let paths = contents.iter().enumerate().map(|(i, content)| {
        let path = directory.path().join(format!("{i}.json"));
        fs::write(&path, content).unwrap();
        path
    });
    let paths = paths.collect();
    (directory, paths)
}

fn load(contents: &[&str]) -> Result<(Config, Vec<String>), ConfigError> {
    load_with(contents, PartialConfig::default())
}

fn load_with(
    contents: &[&str],
    command_line: PartialConfig,
) -> Result<(Config, Vec<String>), ConfigError> {
    let (_directory, paths) = files(contents);
    Config::load(command_line, &paths)
}

/// The configuration of one file that must be good and give no warning.
fn config(json: &str) -> Config {
    let (config, warnings) = load(&[json]).unwrap();
    assert_eq!(warnings, Vec::<String>::new(), "{json}");
    config
}

/// The error of one file, as the user sees it but for the directory.
fn error(json: &str) -> String {
    let (directory, paths) = files(&[json]);
    let error = Config::load(PartialConfig::default(), &paths).unwrap_err();
    let directory = directory.path().to_str().unwrap();
    error.to_string().replace(directory, "")
}

fn tag_list(tags: &Tags) -> Vec<(&str, &str)> {
    tags.iter().collect()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = config("{}");
    assert_eq!(config.node_name, host_name());
    assert!(!config.node_name.is_empty());
    assert_eq!(config.bind.to_string(), "0.0.0.0:7946");
    assert_eq!(config.advertise, None);
    assert_eq!(config.rpc_addr.to_string(), "127.0.0.1:7373");
    assert_eq!(config.log_level, Level::Info);
    assert_eq!(config.protocol, 5);
    assert_eq!(config.profile, Profile::Lan);
    assert_eq!(config.query_size_limit, 1024);
    assert_eq!(config.query_response_size_limit, 1024);
    assert_eq!(config.user_event_size_limit, 512);
    assert_eq!(config.retry_interval, Duration::from_secs(30));
    assert_eq!(config.retry_max_attempts, None);
    assert_eq!(config.broadcast_timeout, Duration::from_secs(5));
    assert_eq!(config.reconnect_interval, Duration::from_secs(30));
    assert_eq!(config.reconnect_timeout, Duration::from_secs(86_400));
    assert_eq!(config.tombstone_timeout, Duration::from_secs(86_400));
    assert_eq!(Ok(config.syslog_facility), Facility::parse("LOCAL0"));
    assert!(config.enable_compression);
    assert!(config.encrypt_verify_incoming && config.encrypt_verify_outgoing);
    assert!(config.tags.is_empty() && config.event_handlers.is_empty());
    assert_eq!(config, load(&[]).unwrap().0);
    assert_eq!(config, load(&["null"]).unwrap().0);
}

#[test]
fn every_key_of_a_file_arrives() {
    let config = config(
        r#"{
            "node_name": "n1", "disable_coordinates": true, "tags": {"role": "web", "dc": "east"},
            "bind": "[::1]:1000", "advertise": "10.0.0.1", "encrypt_key": "AAECAwQFBgcICQoLDA0ODw==",
            "log_level": "Debug", "rpc_addr": "unix:/run/serf", "rpc_auth": "secret", "rpc_max_clients": 10,
            "rpc_handshake_timeout": "2s", "rpc_addr_file": "/run/port",
            "encrypt_verify_incoming": false, "encrypt_verify_outgoing": false,
            "gossip_label": "blue", "log_json": true, "query_early_done": true, "metrics_addr": "127.0.0.1",
            "handler_timeout": "30s", "handler_parallel": 2, "handlers_running_max": 3,
            "handler_stdout_only": true, "protocol": 4, "replay_on_join": true,
            "query_response_size_limit": 123, "query_size_limit": 456, "user_event_size_limit": 789,
            "start_join": ["a", "b:1"], "event_handlers": ["a.sh", "user:x,query=b.sh"], "profile": "wan",
            "snapshot_path": "/var/s", "leave_on_terminate": true, "skip_leave_on_interrupt": true,
            "discover": "cluster", "mdns": {"interface": "eth1", "disable_ipv4": true, "disable_ipv6": false},
            "interface": "eth0", "reconnect_interval": "15s", "reconnect_timeout": "48h",
            "tombstone_timeout": "36h", "disable_name_resolution": true, "enable_syslog": true,
            "syslog_facility": "LOCAL4", "retry_join": ["c"], "retry_max_attempts": 5, "retry_interval": "1m",
            "rejoin_after_leave": true, "enable_compression": false, "statsite_addr": "127.0.0.1:8123",
            "statsd_addr": "127.0.0.1:8125", "broadcast_timeout": "10s", "validate_node_names": true
        }"#,
    );
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let expected = Config {
        set: config.set.clone(),
        rpc_queue_bytes: 4 * 1024 * 1024,
        rpc_overflow: Overflow::Drop,
        node_name: "n1".to_owned(),
        disable_coordinates: true,
        tags: [("dc", "east"), ("role", "web")].into_iter().collect(),
        tags_file: None,
        bind: AddrParts {
            host: "::1".to_owned(),
            port: 1000,
        },
        advertise: Some(AddrParts {
            host: "10.0.0.1".to_owned(),
            port: 7946,
        }),
        encrypt_key: Some((0..16).collect()),
        keyring_file: None,
        encrypt_verify_incoming: false,
        encrypt_verify_outgoing: false,
        gossip_label: Label::new("blue").unwrap(),
        log_level: Level::Debug,
        log_json: true,
        query_early_done: true,
        metrics_addr: Some(AddrParts {
            host: "127.0.0.1".to_owned(),
            port: 9946,
        }),
        rpc_addr: RpcAddr::Unix("/run/serf".into()),
        rpc_auth: Some("secret".to_owned()),
        rpc_max_clients: 10,
        rpc_handshake_timeout: Duration::from_secs(2),
        rpc_addr_file: Some("/run/port".into()),
        protocol: 4,
        replay_on_join: true,
        query_response_size_limit: 123,
        query_size_limit: 456,
        user_event_size_limit: 789,
        start_join: vec!["a".to_owned(), "b:1".to_owned()],
        event_handlers: vec![
            EventScript::parse("*=a.sh").unwrap(),
            EventScript::parse("user:x,query=b.sh").unwrap(),
        ],
        handler_limits: HandlerLimits {
            parallel: 2,
            running: 3,
            timeout: Some(Duration::from_secs(30)),
        },
        handler_stdout_only: true,
        profile: Profile::Wan,
        snapshot_path: Some("/var/s".into()),
        leave_on_terminate: true,
        skip_leave_on_interrupt: true,
        discover: Some("cluster".to_owned()),
        mdns: MdnsConfig {
            interface: "eth1".to_owned(),
            disable_ipv4: true,
            disable_ipv6: false,
        },
        interface: Some("eth0".to_owned()),
        reconnect_interval: Duration::from_secs(15),
        reconnect_timeout: hours(48),
        tombstone_timeout: hours(36),
        disable_name_resolution: true,
        enable_syslog: true,
        syslog_facility: Facility::parse("LOCAL4").unwrap(),
        retry_join: vec!["c".to_owned()],
        retry_max_attempts: Some(5),
        retry_interval: Duration::from_secs(60),
        rejoin_after_leave: true,
        enable_compression: false,
        statsite_addr: Some(AddrParts {
            host: "127.0.0.1".to_owned(),
            port: 8123,
        }),
        statsd_addr: Some(AddrParts {
            host: "127.0.0.1".to_owned(),
            port: 8125,
        }),
        broadcast_timeout: Duration::from_secs(10),
        validate_node_names: true,
    };
    assert_eq!(config, expected);

    let files = self::config(r#"{"tags_file": "/t", "keyring_file": "/k"}"#);
    assert_eq!(files.tags_file.as_deref(), Some(Path::new("/t")));
    assert_eq!(files.keyring_file.as_deref(), Some(Path::new("/k")));
}

#[test]
fn every_key_is_in_the_documentation() {
    let readme = include_str!("../../../README.md");
    let table = include_str!("../../../docs/compatibility.md");
    for key in PartialConfig::KEYS {
        let quoted = format!("`{}`", key.name);
        let begun = format!("`{}`:", key.name);
        assert!(
            [readme, table]
                .iter()
                .any(|text| text.contains(&quoted) || text.contains(&begun)),
            "{}",
            key.name
        );
    }
}

#[test]
fn keys_match_in_any_case_but_tags_keep_theirs() {
    let config = config(r#"{"TAGS": {"a": "1", "A": "2"}, "Node_Name": "x", "MDNS": {}}"#);
    assert_eq!(config.node_name, "x");
    assert_eq!(tag_list(&config.tags), [("A", "2"), ("a", "1")]);
}

#[test]
fn null_means_not_set() {
    let config = config(
        r#"{"node_name": null, "protocol": null, "tags": {"a": null}, "start_join": null, "retry_interval": null,
            "leave_on_terminate": null, "mdns": null, "enable_compression": null, "advertise": ""}"#,
    );
    assert_eq!(config.node_name, host_name());
    assert_eq!(config.protocol, 5);
    assert_eq!(tag_list(&config.tags), [("a", "")]);
    assert!(config.enable_compression);
}

#[test]
fn numbers_may_be_written_as_floats_and_negative_for_no_limit() {
    let config = config(r#"{"protocol": 4.0, "retry_max_attempts": -1, "query_size_limit": 2e3}"#);
    assert_eq!(config.protocol, 4);
    assert_eq!(config.retry_max_attempts, None);
    assert_eq!(config.query_size_limit, 2000);
}

/// The same files and flags, given to the reference agent, show the same in `serf info`.
#[test]
fn later_files_and_then_the_command_line_win() {
    let mut command_line = PartialConfig {
        event_handlers: vec!["query:q=z=1".to_owned()],
        role: "r2".to_owned(),
        ..PartialConfig::default()
    };
    command_line.add_tag("b=3").unwrap();
    let (config, warnings) = load_with(
        &[
            r#"{"tags": {"a": "1", "b": "1"}, "event_handlers": ["member-join,user:=x.sh"]}"#,
            r#"{"tags": {"a": "2"}, "event_handlers": ["y.sh"], "profile": "wan", "role": "r1"}"#,
        ],
        command_line,
    )
    .unwrap();
    assert_eq!(
        tag_list(&config.tags),
        [("a", "2"), ("b", "3"), ("role", "r2")]
    );
    let expected = ["member-join,user:=x.sh", "y.sh", "query:q=z=1"];
    assert_eq!(
        config.event_handlers,
        expected.map(|text| EventScript::parse(text).unwrap())
    );
    assert_eq!(config.profile, Profile::Wan);
    assert_eq!(
        warnings,
        ["role is deprecated: set the tag role=r2 instead"]
    );
}

#[test]
fn what_is_empty_zero_or_false_overrides_nothing() {
    let first = r#"{"node_name": "a", "leave_on_terminate": true, "retry_max_attempts": 3, "retry_interval": "9s",
                    "start_join": ["x"], "mdns": {"disable_ipv6": true}, "enable_compression": false}"#;
    let second = r#"{"node_name": "", "leave_on_terminate": false, "retry_max_attempts": 0, "retry_interval": "0s",
                     "start_join": [], "tags": {}, "mdns": {"disable_ipv6": false}}"#;
    assert_eq!(load(&[first, second]).unwrap().0, load(&[first]).unwrap().0);
    let third = r#"{"node_name": "b", "retry_max_attempts": 4, "start_join": ["y", "x"], "enable_compression": true}"#;
    let config = load(&[first, second, third]).unwrap().0;
    assert_eq!(config.node_name, "b");
    assert_eq!(config.retry_max_attempts, Some(4));
    assert_eq!(config.start_join, ["x", "y", "x"]);
    assert!(config.enable_compression && config.mdns.disable_ipv6);
}

#[test]
fn a_directory_is_read_by_file_name_and_one_level_deep() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("b.json", r#"{"node_name": "b", "start_join": ["b"]}"#);
    write("a.json", r#"{"node_name": "a", "start_join": ["a"]}"#);
    write("10.json", r#"{"start_join": ["10"]}"#);
    write("9.json", r#"{"start_join": ["9"]}"#);
    write("c.json.off", "no JSON");
    write("README", "no JSON");
    fs::create_dir(directory.path().join("d.json")).unwrap();
    fs::write(directory.path().join("d.json/e.json"), "no JSON").unwrap();
    std::os::unix::fs::symlink("missing", directory.path().join("f.json")).unwrap();
    let load = |paths: &[PathBuf]| Config::load(PartialConfig::default(), paths);

    let dangling = load(&[directory.path().to_owned()]).unwrap_err();
    assert!(matches!(dangling, ConfigError::Read { ref path, .. } if path.ends_with("f.json")));

    fs::remove_file(directory.path().join("f.json")).unwrap();
    std::os::unix::fs::symlink("README2", directory.path().join("f.json")).unwrap();
    write("README2", r#"{"start_join": ["f"]}"#);
    let (config, _) = load(&[directory.path().to_owned()]).unwrap();
    assert_eq!(config.node_name, "b");
    assert_eq!(config.start_join, ["10", "9", "a", "b", "f"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error =
        Config::load(PartialConfig::default(), &["/nonexistent/x.json".into()]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot read /nonexistent/x.json: No such file"),
        "{text}"
    );
    let spaces = " ".repeat(4 * 1024 * 1024 + 1);
    assert_eq!(
        self::error(&spaces),
        "cannot read /0.json: it is larger than 4194304 bytes"
    );
}

#[test]
fn errors_of_a_file_name_line_key_and_what_was_expected() {
    for (json, message) in [
        ("", "/0.json:1: EOF while parsing a value"),
        (
            "{\n \"bind\": \"x\"",
            "/0.json:2: EOF while parsing an object",
        ),
        ("{\n\n \"bind\" \"x\"}", "/0.json:3: expected `:`"),
        ("{\"bind\": \"x\",}", "/0.json:1: trailing comma"),
        (
            "[]",
            "/0.json:1: invalid type: sequence, expected an object of settings",
        ),
        (
            "{\n \"node_name\": 5}",
            "/0.json:2: invalid type: integer `5`, expected a string for \"node_name\"",
        ),
        (
            "{\"tags\": {\n\"port\": 80\n}}",
            "/0.json:2: invalid type: integer `80`, expected a string for \"tags.port\"",
        ),
        (
            "{\"tags\": [\"a=b\"]}",
            "/0.json:1: invalid type: sequence, expected an object of strings for \"tags\"",
        ),
        (
            "{\"start_join\":\n\"x\"}",
            "/0.json:2: invalid type: string \"x\", expected a list of strings for \"start_join\"",
        ),
        (
            "{\"start_join\":[\"x\",\n1]}",
            "/0.json:2: invalid type: integer `1`, expected a string for \"start_join[]\"",
        ),
        (
            "{\"protocol\": \"4\"}",
            "/0.json:1: invalid type: string \"4\", expected a whole number for \"protocol\"",
        ),
        (
            "{\"protocol\": 4.7}",
            "/0.json:1: invalid value: floating point `4.7`, expected a whole number for \"protocol\"",
        ),
        (
            "{\"leave_on_terminate\": 1}",
            "/0.json:1: invalid type: integer `1`, expected true or false for \"leave_on_terminate\"",
        ),
        (
            "{\"mdns\": \"eth0\"}",
            "/0.json:1: invalid type: string \"eth0\", expected an object of settings for \"mdns\"",
        ),
        (
            "{\"mdns\": {\"disable_ipv4\": \"yes\"}}",
            "/0.json:1: invalid type: string \"yes\", expected true or false for \"mdns.disable_ipv4\"",
        ),
        (
            "{\"retry_interval\": 5}",
            "/0.json:1: invalid type: integer `5`, expected a duration as a string, such as \"30s\", for \
             \"retry_interval\"",
        ),
        (
            "{\n\n\"retry_interval\": \"5\"\n}",
            "/0.json:3: \"retry_interval\": missing unit in duration \"5\"; there are ns, us, ms, s, m and h",
        ),
        (
            "{\"retry_interval\": \"-5s\"}",
            "/0.json:1: \"retry_interval\": duration \"-5s\" is negative",
        ),
        (
            "{\"node_name\": \"a\",\n\"Node_Name\": \"b\"}",
            "/0.json:2: \"Node_Name\" is set already, as \"node_name\"",
        ),
    ] {
        assert_eq!(error(json), message, "{json}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_known_one() {
    for (key, suggestion) in [
        ("nodename", Some("node_name")),
        ("node-name", Some("node_name")),
        ("NODE_NAMES", Some("node_name")),
        ("log_levl", Some("log_level")),
        ("event_handler", Some("event_handlers")),
        ("evnt_handlers", Some("event_handlers")),
        ("rpc_address", Some("rpc_addr")),
        // Flags whose keys have other names.
        ("join", Some("start_join")),
        ("-encrypt", Some("encrypt_key")),
        ("snapshot", Some("snapshot_path")),
        ("iface", Some("interface")),
        ("retry-max", Some("retry_max_attempts")),
        ("disable_compression", Some("enable_compression")),
        ("unknown_directive", None),
        ("", None),
        ("x", None),
    ] {
        let json = format!("{{\n{key:?}: {{\n}}}}");
        let suggestion =
            suggestion.map_or_else(String::new, |key| format!("; did you mean \"{key}\"?"));
        assert_eq!(
            error(&json),
            format!("/0.json:2: unknown key {key:?}{suggestion}")
        );
    }
    assert_eq!(
        error(r#"{"mdns": {"iface": "x", "disable_ipv4": true}}"#),
        r#"/0.json:1: unknown key "mdns.iface""#
    );
    assert_eq!(
        error(r#"{"mdns": {"disable_ip4": true}}"#),
        r#"/0.json:1: unknown key "mdns.disable_ip4"; did you mean "mdns.disable_ipv4"?"#
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (json, message) in [
        (
            r#"{"profile": "LAN"}"#,
            "profile: unknown profile \"LAN\"; there are lan, wan and local",
        ),
        (
            r#"{"log_level": "loud"}"#,
            "log_level: unknown log level \"loud\"; there are trace, debug, info, warn and err",
        ),
        (
            r#"{"protocol": 9}"#,
            "protocol: there is no version 9; there are 2 to 5",
        ),
        (
            r#"{"protocol": 1}"#,
            "protocol: there is no version 1; there are 2 to 5",
        ),
        (
            r#"{"protocol": 261}"#,
            "protocol: there is no version 261; there are 2 to 5",
        ),
        (
            r#"{"user_event_size_limit": 9217}"#,
            "user_event_size_limit: 9217 is more than the 9216 bytes that nodes accept",
        ),
        (
            r#"{"encrypt_key": "YWJj"}"#,
            "encrypt_key: the key must have 16, 24 or 32 bytes, not 3",
        ),
        (
            r#"{"bind": "::1:22952"}"#,
            "bind: too many colons in address \"::1:22952\"; write IPv6 with a port as [::1]:7946",
        ),
        (
            r#"{"advertise": "a:b"}"#,
            "advertise: invalid port \"b\" in address \"a:b\"; ports are 0 to 65535",
        ),
        (
            r#"{"rpc_addr": "unix:"}"#,
            "rpc_addr: address \"unix:\" has no path",
        ),
        (
            r#"{"tags_file": "t", "tags": {"a": "b"}}"#,
            "tags_file: there must be no configured tags (or role) beside a tags file, which would overwrite them",
        ),
        (
            r#"{"tags_file": "t", "role": "a"}"#,
            "tags_file: there must be no configured tags (or role) beside a tags file, which would overwrite them",
        ),
        (
            r#"{"keyring_file": "k", "encrypt_key": "AAECAwQFBgcICQoLDA0ODw=="}"#,
            "keyring_file: there must be no encrypt_key beside a keyring file; put the key into the file",
        ),
        (
            r#"{"mdns": {"interface": "eth0"}}"#,
            "mdns.interface: it has no use without discover",
        ),
        (
            r#"{"discover": "d", "mdns": {"disable_ipv4": true, "disable_ipv6": true}}"#,
            "mdns: disable_ipv4 and disable_ipv6 together leave nothing for discover",
        ),
        (
            r#"{"validate_node_names": true, "node_name": "a b"}"#,
            "node_name: \"a b\" is not 1 to 128 letters, digits, dashes and dots, as validate_node_names demands",
        ),
        (
            r#"{"event_handlers": ["a.sh", "bar:x=b.sh"]}"#,
            "event_handlers: \"bar:x=b.sh\": invalid event filter 'bar:x': expected '*', 'user', 'user:NAME', \
             'query', 'query:NAME', 'member-join', 'member-leave', 'member-failed', 'member-update' or 'member-reap'",
        ),
    ] {
        assert_eq!(error(json), message, "{json}");
    }
    assert!(error(r#"{"encrypt_key": "!"}"#).starts_with("encrypt_key: it is not valid base64: "));
}

#[test]
fn what_is_odd_but_works_is_a_warning() {
    for (json, expected) in [
        (
            r#"{"role": "web"}"#,
            "role is deprecated: set the tag role=web instead",
        ),
        (
            r#"{"retry_interval": "0.5s"}"#,
            "retry_interval of 500ms is too low; 1s it is",
        ),
        (
            r#"{"broadcast_timeout": "10ms"}"#,
            "broadcast_timeout of 10ms is too low; 1s it is",
        ),
        (
            r#"{"rejoin_after_leave": true}"#,
            "rejoin_after_leave has no effect without snapshot_path",
        ),
        (
            r#"{"query_size_limit": 1000000}"#,
            "query_size_limit of 1000000 bytes is more than a datagram holds; 65507 it is",
        ),
        (
            r#"{"event_handlers": ["member-join="]}"#,
            "event handler \"member-join=\" has no command",
        ),
        (
            r#"{"MsgpackUseNewTimeFormat": true}"#,
            "MsgpackUseNewTimeFormat has no effect",
        ),
        (
            r#"{"node_name": "a", "node_name": "b"}"#,
            "/0.json: \"node_name\" is set twice; the last one counts",
        ),
        (
            r#"{"tags": {"a": "1", "a": "2"}}"#,
            "/0.json: \"tags.a\" is set twice; the last one counts",
        ),
        (
            "{\"node_name\": \"a\"}\n{\"node_name\"",
            "/0.json: text after the configuration is ignored (line 2)",
        ),
    ] {
        let (directory, paths) = files(&[json]);
        let (_, warnings) = Config::load(PartialConfig::default(), &paths).unwrap();
        let directory = directory.path().to_str().unwrap();
        let warnings: Vec<_> = warnings.iter().map(|w| w.replace(directory, "")).collect();
        assert_eq!(warnings, [expected], "{json}");
    }
    let (config, _) = load(&[
        r#"{"retry_interval": "1ns", "broadcast_timeout": "1ns", "query_response_size_limit": 70000,
            "node_name": "a", "node_name": "b", "event_handlers": ["user="]}"#,
    ])
    .unwrap();
    assert_eq!(config.retry_interval, Duration::from_secs(1));
    assert_eq!(config.broadcast_timeout, Duration::from_secs(1));
    assert_eq!(config.query_response_size_limit, 65_507);
    assert_eq!(config.node_name, "b");
    assert!(config.event_handlers.is_empty());
}

#[test]
fn encryption_keys_of_all_sizes_are_read() {
    for bytes in ENCRYPT_KEY_BYTES {
        let key: Vec<u8> = (0..).take(bytes).collect();
        let base64 = STANDARD.encode(&key);
        let (head, tail) = base64.split_at(5);
        for written in [base64.clone(), format!("{head}\\r\\n{tail}\\n")] {
            let config = config(&format!(r#"{{"encrypt_key": "{written}"}}"#));
            assert_eq!(config.encrypt_key.as_ref(), Some(&key));
        }
    }
}

#[test]
fn tags_of_the_command_line() {
    let mut set = PartialConfig::default();
    for text in ["a=b", "c=", "d=e=f", "a=2"] {
        set.add_tag(text).unwrap();
    }
    let tags: Vec<_> = set.tags.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(tags, [("a", "2"), ("c", ""), ("d", "e=f")]);
    for text in ["", "a", "=b"] {
        let error = set.add_tag(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("invalid tag {text:?}; write it as key=value")
        );
    }
}

#[test]
fn names_of_nodes() {
    for name in ["a", "A-1.example", &"x".repeat(128)] {
        assert!(is_valid_node_name(name), "{name}");
    }
    for name in ["", "a b", "a_b", "é", &"x".repeat(129)] {
        assert!(!is_valid_node_name(name), "{name}");
    }
}

proptest! {
    /// Merging is associative, so it does not matter that files are merged before the command line is.
    #[test]
    fn merging_is_associative(values in prop::array::uniform3(
        (prop::collection::vec("[ab]", 0..3), "[ab]?", any::<bool>(), 0..3_u64, prop::option::of(any::<bool>()))
    )) {
        let [a, b, c] = values.map(|(list, text, flag, number, compression)| PartialConfig {
            tags: list.iter().map(|key| (key.clone(), text.clone())).collect(),
            start_join: list,
            node_name: text,
            leave_on_terminate: flag,
            protocol: number,
            retry_interval: Duration::from_secs(number),
            enable_compression: compression,
            ..PartialConfig::default()
        });
        let merged = |a: &PartialConfig, b: &PartialConfig| {
            let mut merged = a.clone();
            merged.merge(b.clone());
            merged
        };
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn no_file_makes_it_panic(json in r#"[\[{]("(tags|bind|mdns|retry_interval|protocol)": ?[\[{"]?-?[0-9.a"]{0,4}[\]}],?){0,3}[\]}]?"#) {
        let _ = load(&[&json]);
    }
}
