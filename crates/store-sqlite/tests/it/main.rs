//! The embedded store, held to the suite of all stores and to what only a durable one promises.

mod conformance;
