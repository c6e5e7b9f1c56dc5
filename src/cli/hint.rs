//! What to do next, after an error: a line of its own below what the reference says too.

use std::io::ErrorKind;

use super::CliError;
use crate::address::RpcAddr;
use crate::client::ClientError;

/// What an agent says, by a part of it, and what to do about it.
const OF_THE_AGENT: [(&str, &str); 12] = [
    (
        "Authentication required",
        "the agent has an rpc_auth: give it with SERF_RPC_AUTH or -rpc-auth",
    ),
    (
        "Invalid authentication token",
        "SERF_RPC_AUTH or -rpc-auth must be the agent's rpc_auth; an agent that has none takes none",
    ),
    (
        "Unsupported command",
        "this agent does not know the command: is its version older?",
    ),
    (
        "Failed to join",
        "is an agent running there, and is that its gossip address (its -bind, by default port 7946), not its RPC \
         address? Both need the same encryption key, and nothing between them that stops TCP or UDP",
    ),
    (
        "Failed to compile regex",
        "expressions are RE2's, and match the whole text; quote them for the shell",
    ),
    (
        "user event exceeds",
        "send less, such as where to get the rest; or raise user_event_size_limit on every agent",
    ),
    (
        "query exceeds",
        "send less, such as where to get the rest; or raise query_size_limit of the agent",
    ),
    (
        "Unknown log level",
        "-log-level takes trace, debug, info, warn or err",
    ),
    (
        "illegal base64",
        "keys are 16, 24 or 32 bytes in base64; `serfling keygen` makes one",
    ),
    (
        "encryption not enabled",
        "an agent encrypts when it starts with -encrypt or -keyring-file; `serfling keygen` makes a key",
    ),
    (
        "primary key is not allowed",
        "make another key the primary one first, with `serfling keys -use=KEY`",
    ),
    (
        "not in the keyring",
        "install it on every member first, with `serfling keys -install=KEY`",
    ),
];

/// Makes an error of a call to the agent one of the command: `what` failed, and what to do.
pub(super) fn call_failed(what: &str) -> impl Fn(ClientError) -> CliError {
    move |error| {
        let text = format!("{what}: {error}");
        CliError::Failed(with_hint(text.trim_end(), of_error(&error)))
    }
}

/// A text with a hint below it, if there is one.
pub(super) fn with_hint(text: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{text}\nHint: {hint}"),
        None => text.to_owned(),
    }
}

/// What to do about what an agent says.
pub(super) fn of_agent(text: &str) -> Option<&'static str> {
    let known = OF_THE_AGENT.iter().find(|(part, _)| text.contains(part));
    known.map(|(_, hint)| *hint)
}

fn of_error(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::Connect { address, source } => of_connect(address, source.kind()),
        ClientError::Timeout => {
            "something listens there but does not answer in time: look at the agent's log"
        }
        ClientError::Closed => {
            "the agent has ended, or closed the connection, or this is not its RPC address: look at its log"
        }
        ClientError::Io(_) => "look at the agent's log, and try again",
        ClientError::Agent(text) => return of_agent(text),
        ClientError::Protocol(_) => {
            "does an agent listen for RPC there? Its gossip port is another; -rpc-addr or SERF_RPC_ADDR says where"
        }
    })
}

const fn of_connect(address: &RpcAddr, kind: ErrorKind) -> &'static str {
    match (address, kind) {
        (RpcAddr::Unix(_), ErrorKind::PermissionDenied) => {
            "the socket is for the agent's user alone: run this as that user"
        }
        (_, ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            "is the agent running, and is this its RPC address? `serfling agent` starts one; -rpc-addr or SERF_RPC_ADDR \
             names another address"
        }
        (_, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            "is the address right, the machine up, and no firewall in between?"
        }
        _ => "-rpc-addr or SERF_RPC_ADDR takes host:port, or unix:/path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_client_says_what_to_do() {
        let connect = |address: &str, kind: ErrorKind| ClientError::Connect {
            address: address.parse().unwrap(),
            source: kind.into(),
        };
        for (error, part) in [
            (
                connect("127.0.0.1:1", ErrorKind::ConnectionRefused),
                "`serfling agent`",
            ),
            (
                connect("unix:/nowhere", ErrorKind::NotFound),
                "`serfling agent`",
            ),
            (connect("unix:/x", ErrorKind::PermissionDenied), "that user"),
            (connect("10.0.0.1:1", ErrorKind::TimedOut), "firewall"),
            (connect("zz:1", ErrorKind::Other), "host:port"),
            (ClientError::Timeout, "the agent's log"),
            (ClientError::Closed, "RPC address"),
            (ClientError::Protocol("x".to_owned()), "gossip port"),
            (
                ClientError::Agent("Authentication required".to_owned()),
                "SERF_RPC_AUTH",
            ),
            (
                ClientError::Agent("Invalid authentication token".to_owned()),
                "-rpc-auth",
            ),
        ] {
            let CliError::Failed(text) = call_failed("Error")(error) else {
                panic!("not of usage")
            };
            let (first, hint) = text.split_once("\nHint: ").unwrap();
            assert!(first.starts_with("Error: "), "{text}");
            assert!(hint.contains(part), "{text}");
        }
    }

    #[test]
    fn unknown_words_of_an_agent_stand_alone() {
        let CliError::Failed(text) = call_failed("Error")(ClientError::Agent("so".to_owned()))
        else {
            panic!("not of usage")
        };
        assert_eq!(text, "Error: so");
    }
}
