//! Who is to answer a query.

use serde::Deserialize;

use super::DecodeError;
use crate::msgpack;
use crate::msgpack::raw::RawWriter;
use crate::msgpack::value::{Text, Texts};

const NODES: u8 = 0;
const TAG: u8 = 1;

/// Who is to answer a query. Of several filters all must let a node through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter<'a> {
    /// Only these nodes.
    Nodes(Vec<&'a str>),
    /// Only nodes whose tag matches an expression.
    Tag {
        /// The tag's key.
        tag: &'a str,
        /// A regular expression, not anchored.
        expression: &'a str,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TagFilter<'a> {
    #[serde(borrow)]
    expr: Text<'a>,
    #[serde(borrow)]
    tag: Text<'a>,
}

impl<'a> Filter<'a> {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (&kind, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        match kind {
            NODES => Ok(Self::Nodes(msgpack::decode::<Texts<'a>>(body)?.0)),
            TAG => {
                let read: TagFilter<'a> = msgpack::decode(body)?;
                Ok(Self::Tag {
                    tag: read.tag.0,
                    expression: read.expr.0,
                })
            }
            _ => Err(DecodeError::Type(kind)),
        }
    }
}

/// Filter that only lets some nodes answer.
pub fn encode_node_filter(nodes: &[String]) -> Vec<u8> {
    let mut out = vec![NODES];
    let mut writer = RawWriter(&mut out);
    writer.array(nodes.len());
    for node in nodes {
        writer.raw(node);
    }
    out
}

/// Filter that only lets nodes answer whose tag matches an expression.
pub fn encode_tag_filter(tag: &str, expression: &str) -> Vec<u8> {
    let mut out = vec![TAG];
    RawWriter(&mut out)
        .map(2)
        .raw("Expr")
        .raw(expression)
        .raw("Tag")
        .raw(tag);
    out
}
