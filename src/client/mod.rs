//! A blocking client of a Serf agent's RPC, for any agent that speaks it.
//!
//! ```no_run
//! use serfling::client::{Client, Options};
//!
//! let mut client = Client::connect(&Options::new("127.0.0.1:7373".parse()?))?;
//! for member in client.members()? {
//!     println!("{} {}", member.name, member.status);
//! }
//! let stream = client.stream("user:deploy")?;
//! for event in client.records(&stream) {
//!     println!("{:?}", event?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One connection carries requests and any number of subscriptions; what comes for one while another is waited for is
//! kept. [`Client::begin_members`] and its like send a request and leave its answer for later. A request has a deadline; waiting for a subscription's next record has none unless it is given one.

mod connection;
mod pending;
mod record;

pub use pending::{KeyOperation, Pending};
pub use record::{QueryReply, Record, StreamEvent};

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::connection::{Connection, Reply};
use crate::address::RpcAddr;
use crate::cluster::{Coordinate, KeyReport, Member, QueryRequest};
use crate::rpc::message::{
    AuthRequest, Bytes, Command, EventRequest, ForceLeaveRequest, HandshakeRequest,
    MembersFilteredRequest, MonitorRequest, OptionalBytes, PROTOCOL_VERSION,
    QueryRequest as WireQuery, RespondRequest, StopRequest, StreamRequest, TagsRequest, Text,
    Texts,
};

/// How long the reference's client waits for an answer.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach an agent.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` or `unix:/path`.
    pub address: RpcAddr,
    /// The agent's auth key, if it has one.
    pub auth_key: Option<String>,
    /// How long to wait for the connection.
    pub connect_timeout: Duration,
    /// How long to wait for the answer to a request.
    pub request_timeout: Duration,
}

impl Options {
    /// Options for the agent at `address`.
    #[must_use]
    pub const fn new(address: RpcAddr) -> Self {
        Self {
            address,
            auth_key: None,
            connect_timeout: DEFAULT_TIMEOUT,
            request_timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same with an auth key; the empty key is none.
    #[must_use]
    pub fn auth_key(mut self, key: &str) -> Self {
        self.auth_key = (!key.is_empty()).then(|| key.to_owned());
        self
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent can't be reached.
    #[error("can't connect to the agent at {address}: {source}")]
    Connect {
        /// Where it should be.
        address: RpcAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The agent did not answer in time.
    #[error("timeout while waiting for the agent's response")]
    Timeout,
    /// The agent closed the connection.
    #[error("client closed: the agent ended the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection to the agent broke: {0}")]
    Io(std::io::Error),
    /// What the agent says is wrong, in its words.
    #[error("{0}")]
    Agent(String),
    /// What came is not the RPC protocol.
    #[error("the agent sent something else than RPC: {0}")]
    Protocol(String),
}

/// A subscription to records of one kind: a stream, a monitor or the answers to a query.
#[derive(Debug)]
pub struct Subscription<T> {
    seq: u64,
    record: PhantomData<T>,
}

/// What the nodes said to a key operation, and what went wrong, in the agent's words.
pub type KeyReply = (KeyReport, Option<String>);

/// The agent's counters: pairs of key and value by section.
pub type Stats = BTreeMap<String, BTreeMap<String, String>>;

/// How a join ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// How many addresses answered.
    pub count: usize,
    /// What went wrong with others.
    pub error: Option<String>,
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects, performs the handshake, and authenticates if the options have a key.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn connect(options: &Options) -> Result<Self, ClientError> {
        let mut client = Self {
            connection: Connection::open(options)?,
        };
        client.handshake(PROTOCOL_VERSION)?;
        if let Some(key) = &options.auth_key {
            client.auth(key)?;
        }
        Ok(client)
    }

    /// Performs the handshake; [`connect`](Self::connect) has done so.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn handshake(&mut self, version: i32) -> Result<(), ClientError> {
        self.call(Command::Handshake, &HandshakeRequest { version })
    }

    /// Shows a key; [`connect`](Self::connect) has done so if it had one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn auth(&mut self, key: &str) -> Result<(), ClientError> {
        self.call(
            Command::Auth,
            &AuthRequest {
                auth_key: Bytes(key.as_bytes()),
            },
        )
    }

    /// Sends a user event.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn user_event(
        &mut self,
        name: &str,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), ClientError> {
        self.call(
            Command::Event,
            &EventRequest {
                coalesce,
                name: Text(name),
                payload: Bytes(payload),
            },
        )
    }

    /// Makes a failed node one that left; with `prune` it is forgotten altogether.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn force_leave(&mut self, node: &str, prune: bool) -> Result<(), ClientError> {
        self.call(
            Command::ForceLeave,
            &ForceLeaveRequest {
                node: Text(node),
                prune,
            },
        )
    }

    /// Has the agent join others.
    ///
    /// # Errors
    /// [`ClientError::Agent`] when no address answered, and any other.
    pub fn join<S: AsRef<str>>(
        &mut self,
        addresses: &[S],
        replay: bool,
    ) -> Result<Joined, ClientError> {
        let pending = self.begin_join(addresses, replay)?;
        self.finish(&pending)
    }

    /// The members of the cluster.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn members(&mut self) -> Result<Vec<Member>, ClientError> {
        let pending = self.begin_members()?;
        self.finish(&pending)
    }

    /// The members whose name, status and tags match these regular expressions; an empty one matches all.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn members_filtered(
        &mut self,
        tags: &[(&str, &str)],
        status: &str,
        name: &str,
    ) -> Result<Vec<Member>, ClientError> {
        let tags = tags
            .iter()
            .map(|(tag, expression)| (*tag, Text(expression)))
            .collect();
        let request = MembersFilteredRequest {
            name: Text(name),
            status: Text(status),
            tags,
        };
        pending::read_members(&self.exchange(Command::MembersFiltered, Some(&request))?)
    }

    /// Subscribes to events: comma-separated filters, empty for all.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn stream(&mut self, filter: &str) -> Result<Subscription<StreamEvent>, ClientError> {
        self.subscribe(
            Command::Stream,
            &StreamRequest {
                r#type: Text(filter),
            },
        )
    }

    /// Subscribes to the agent's log, from this level on.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn monitor(&mut self, level: &str) -> Result<Subscription<String>, ClientError> {
        self.subscribe(
            Command::Monitor,
            &MonitorRequest {
                log_level: Text(level),
            },
        )
    }

    /// Asks the cluster.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn query(&mut self, query: &QueryRequest) -> Result<Subscription<QueryReply>, ClientError> {
        let tags = query
            .filter_tags
            .iter()
            .map(|(tag, expression)| (&**tag, Text(expression)));
        let request = WireQuery {
            filter_nodes: Texts(query.filter_nodes.iter().map(String::as_str).collect()),
            filter_tags: tags.collect(),
            name: Text(&query.name),
            payload: OptionalBytes(query.payload.as_deref()),
            relay_factor: query.relay_factor,
            request_ack: query.request_ack,
            timeout: query.timeout.map_or(0, |timeout| {
                i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX)
            }),
        };
        self.subscribe(Command::Query, &request)
    }

    /// Ends a stream or monitor. Nothing follows for it.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn stop<T>(&mut self, subscription: Subscription<T>) -> Result<(), ClientError> {
        let result = self.call(
            Command::Stop,
            &StopRequest {
                stop: subscription.seq,
            },
        );
        self.connection.unsubscribe(subscription.seq);
        result
    }

    /// Answers a query by the ID of its [`StreamEvent::Query`].
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn respond(&mut self, id: u64, payload: &[u8]) -> Result<(), ClientError> {
        self.call(
            Command::Respond,
            &RespondRequest {
                id,
                payload: Bytes(payload),
            },
        )
    }

    /// Has the agent leave the cluster and exit.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn leave(&mut self) -> Result<(), ClientError> {
        self.exchange::<()>(Command::Leave, None)?
            .succeeded()
            .map(|_| ())
    }

    /// Installs a key (base64) on every node.
    ///
    /// # Errors
    /// Any [`ClientError`] but the agent's: those come with the report.
    pub fn install_key(&mut self, key: &str) -> Result<KeyReply, ClientError> {
        self.keys(KeyOperation::Install(key))
    }

    /// Makes a key (base64) the primary one on every node.
    ///
    /// # Errors
    /// Any [`ClientError`] but the agent's: those come with the report.
    pub fn use_key(&mut self, key: &str) -> Result<KeyReply, ClientError> {
        self.keys(KeyOperation::Use(key))
    }

    /// Removes a key (base64) from every node.
    ///
    /// # Errors
    /// Any [`ClientError`] but the agent's: those come with the report.
    pub fn remove_key(&mut self, key: &str) -> Result<KeyReply, ClientError> {
        self.keys(KeyOperation::Remove(key))
    }

    /// The keys of every node.
    ///
    /// # Errors
    /// Any [`ClientError`] but the agent's: those come with the report.
    pub fn list_keys(&mut self) -> Result<KeyReply, ClientError> {
        self.keys(KeyOperation::List)
    }

    /// Sets and deletes tags of the agent's node. A tag both set and deleted is set.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn update_tags(
        &mut self,
        set: &[(&str, &str)],
        delete: &[&str],
    ) -> Result<(), ClientError> {
        let tags = set.iter().map(|(tag, value)| (*tag, Text(value))).collect();
        self.call(
            Command::Tags,
            &TagsRequest {
                delete_tags: Texts(delete.to_vec()),
                tags,
            },
        )
    }

    /// The agent's counters by section.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        let pending = self.begin_stats()?;
        self.finish(&pending)
    }

    /// The network coordinate of a node, if the agent knows one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn coordinate(&mut self, node: &str) -> Result<Option<Coordinate>, ClientError> {
        let pending = self.begin_coordinate(node)?;
        self.finish(&pending)
    }

    /// The next record of a subscription. `None` when none came within the timeout, or none will come.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn next<T: Record>(
        &mut self,
        subscription: &Subscription<T>,
        timeout: Option<Duration>,
    ) -> Result<Option<T>, ClientError> {
        match self.connection.next_record(subscription.seq, timeout)? {
            Some(record) => self.decode(subscription.seq, &record).map(Some),
            None => Ok(None),
        }
    }

    /// The next record of a subscription that has come already.
    ///
    /// # Errors
    /// [`ClientError::Protocol`].
    pub fn take<T: Record>(
        &mut self,
        subscription: &Subscription<T>,
    ) -> Result<Option<T>, ClientError> {
        match self.connection.take_record(subscription.seq) {
            Some(record) => self.decode(subscription.seq, &record).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for a record of any subscription, to be [taken](Self::take). Says whether one came within the timeout.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, ClientError> {
        self.connection.wait(timeout)
    }

    /// The records of a subscription, one after the other, for as long as they come.
    pub fn records<'a, T: Record>(
        &'a mut self,
        subscription: &'a Subscription<T>,
    ) -> Records<'a, T> {
        Records {
            client: self,
            subscription,
            over: false,
        }
    }

    fn decode<T: Record>(&mut self, seq: u64, record: &[u8]) -> Result<T, ClientError> {
        let record = T::decode(record).map_err(|error| ClientError::Protocol(error.to_string()))?;
        if record.is_last() {
            self.connection.unsubscribe(seq);
        }
        Ok(record)
    }

    fn call<B: Serialize>(&mut self, command: Command, body: &B) -> Result<(), ClientError> {
        self.exchange(command, Some(body))?.succeeded().map(|_| ())
    }

    fn exchange<B: Serialize>(
        &mut self,
        command: Command,
        body: Option<&B>,
    ) -> Result<Reply, ClientError> {
        self.connection.exchange(command, body)
    }

    fn subscribe<B: Serialize, T>(
        &mut self,
        command: Command,
        body: &B,
    ) -> Result<Subscription<T>, ClientError> {
        let seq = self.connection.subscribe(command, body)?;
        Ok(Subscription {
            seq,
            record: PhantomData,
        })
    }

    fn keys(&mut self, operation: KeyOperation<'_>) -> Result<KeyReply, ClientError> {
        let pending = self.begin_keys(operation)?;
        self.finish(&pending)
    }
}

impl AsFd for Client {
    /// Readable when the agent has sent something, or has gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// The records of a subscription; see [`Client::records`].
#[derive(Debug)]
pub struct Records<'a, T> {
    client: &'a mut Client,
    subscription: &'a Subscription<T>,
    over: bool,
}

impl<T: Record> Iterator for Records<'_, T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.client.next(self.subscription, None).transpose();
        self.over = next
            .as_ref()
            .is_none_or(|next| next.as_ref().map_or(true, Record::is_last));
        next
    }
}

impl Reply {
    /// Decodes the body; a missing one reads as its zero value.
    fn body<'a, T: Deserialize<'a> + Default>(&'a self) -> Result<T, ClientError> {
        match &self.body {
            Some(body) => rmp_serde::from_slice(body)
                .map_err(|error| ClientError::Protocol(error.to_string())),
            None => Ok(T::default()),
        }
    }

    /// The reply, unless it is an error.
    fn succeeded(&self) -> Result<&Self, ClientError> {
        match &self.error {
            Some(error) => Err(ClientError::Agent(error.clone())),
            None => Ok(self),
        }
    }
}
