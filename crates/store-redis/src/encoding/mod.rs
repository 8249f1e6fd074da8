//! How a fleet lies in Redis: the names of its keys, records as hashes, what attempts handed in, and
//! MessagePack.

pub mod fields;
pub mod keys;
pub mod pack;
pub mod results;
