//! Descriptions of nodes that several nodes of one process share.
//!
//! Each node of a cluster knows all the others; in a process with many of them, all know the same. With a catalog
//! they hold it once. What nobody holds any more goes when the catalog has doubled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::member::NodeInfo;

/// Descriptions below this many are not worth a look through them.
const LOOK_THROUGH_MIN: usize = 1024;

/// What the nodes of one process know of nodes, each once. Clones are the same catalog.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    by_name: HashMap<Arc<str>, Arc<NodeInfo>>,
    /// How many were left by the last look through them.
    held: usize,
}

impl Catalog {
    /// The same description, held once. Of each name the last one that came is found again.
    #[must_use]
    pub fn share(&self, node: NodeInfo) -> Arc<NodeInfo> {
        let mut entries = self.entries();
        if let Some(known) = entries.by_name.get(&node.name)
            && **known == node
        {
            return Arc::clone(known);
        }
        if entries.by_name.len() >= LOOK_THROUGH_MIN.max(2 * entries.held) {
            entries
                .by_name
                .retain(|_, node| Arc::strong_count(node) > 1);
            entries.held = entries.by_name.len();
        }
        let node = Arc::new(node);
        // With the description's own name as the key, the one before lets go of both.
        entries.by_name.remove(&node.name);
        entries
            .by_name
            .insert(Arc::clone(&node.name), Arc::clone(&node));
        node
    }

    /// The same description, held once if there is a catalog.
    #[must_use]
    pub fn share_in(catalog: Option<&Self>, node: NodeInfo) -> Arc<NodeInfo> {
        match catalog {
            Some(catalog) => catalog.share(node),
            None => Arc::new(node),
        }
    }

    /// How many descriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().by_name.len()
    }

    /// They are whole after every step, so that a panic elsewhere does no harm.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::cluster::VersionRange;

    fn node(name: &str, meta: &[u8]) -> NodeInfo {
        let addr = (Ipv4Addr::LOCALHOST, 7946).into();
        let (protocol, delegate) = (VersionRange::MEMBERLIST, VersionRange::SERF);
        NodeInfo::new(name.into(), addr, meta, protocol, delegate)
    }

    #[test]
    fn the_same_is_held_once() {
        let catalog = Catalog::default();
        let web = catalog.share(node("a", b"web"));
        assert!(Arc::ptr_eq(&web, &catalog.clone().share(node("a", b"web"))));
        let db = catalog.share(node("a", b"db"));
        assert_eq!(db.tags.get("role"), Some("db"));
        assert_eq!((web.tags.get("role"), catalog.len()), (Some("web"), 1));
    }

    #[test]
    fn what_nobody_holds_goes() {
        let catalog = Catalog::default();
        let held = catalog.share(node("held", b"web"));
        for number in 0..10 * LOOK_THROUGH_MIN {
            let _ = catalog.share(node(&number.to_string(), b"web"));
        }
        assert!(catalog.len() <= LOOK_THROUGH_MIN);
        assert!(Arc::ptr_eq(&held, &catalog.share(node("held", b"web"))));
    }
}
