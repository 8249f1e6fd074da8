//! The broker over the store in memory, with time that stands still unless a test moves it; and over
//! every kind of store (`stores`).

mod claims;
mod damage;
mod faulty;
mod lanes;
mod live;
mod property;
mod reconcilers;
mod replica;
mod resync;
mod stores;
mod streams;
mod stuck;
mod support;
