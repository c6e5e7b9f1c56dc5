//! Key operations on a cluster of one.

use log::{error, info};

use super::Standalone;
use crate::cluster::{ClusterError, KeyOperation, KeyReport};
use crate::gossip::keyring::{Key, Keyring, KeyringError, decode_base64};

const NO_KEYRING_TO_MODIFY: &str = "No keyring to modify (encryption not enabled)";
const NO_KEYRING_TO_LIST: &str = "Keyring is empty (encryption not enabled)";

impl Standalone {
    /// Carries out a key operation on this node alone.
    pub(super) fn key_operation(
        &mut self,
        operation: KeyOperation,
    ) -> (KeyReport, Option<ClusterError>) {
        let key = match &operation {
            KeyOperation::Install(text) | KeyOperation::Use(text) | KeyOperation::Remove(text) => {
                match decode_base64(text) {
                    Ok(key) => key,
                    Err(invalid) => {
                        return (
                            KeyReport::default(),
                            Some(ClusterError::InvalidBase64 { at: invalid.0 }),
                        );
                    }
                }
            }
            KeyOperation::List => Vec::new(),
        };
        // In a larger cluster this is a query.
        self.tick_query_clock();
        let mut report = KeyReport {
            nodes: 1,
            responses: 1,
            ..KeyReport::default()
        };
        let failure = if operation == KeyOperation::List {
            let keys = self
                .keyring
                .as_ref()
                .map(|ring| ring.keys().iter().map(|key| (key.to_base64(), 1)).collect());
            let failure = keys.is_none().then(|| NO_KEYRING_TO_LIST.to_owned());
            report.keys = Some(keys.unwrap_or_default());
            failure
        } else {
            match &mut self.keyring {
                Some(ring) => change(ring, &operation, &key)
                    .err()
                    .map(|error| error.to_string()),
                None => Some(NO_KEYRING_TO_MODIFY.to_owned()),
            }
        };
        let error = failure.map(|text| {
            error!("serf: {text}");
            report.errors = 1;
            report.messages.push((self.local.name.to_string(), text));
            ClusterError::KeyFailures {
                failed: 1,
                nodes: 1,
            }
        });
        (report, error)
    }
}

fn change(ring: &mut Keyring, operation: &KeyOperation, key: &[u8]) -> Result<(), KeyringError> {
    match operation {
        KeyOperation::Install(_) => {
            info!("serf: Received install-key query");
            ring.install(Key::new(key)?);
        }
        KeyOperation::Use(_) => {
            info!("serf: Received use-key query");
            ring.make_primary(key)?;
        }
        KeyOperation::Remove(_) => {
            info!("serf: Received remove-key query");
            ring.remove(key)?;
        }
        KeyOperation::List => {}
    }
    Ok(())
}
