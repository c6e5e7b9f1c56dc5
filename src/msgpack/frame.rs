//! Finds where a MsgPack object ends.
