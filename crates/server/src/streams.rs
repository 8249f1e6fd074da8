//! The event streams that are open.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use pointsman_api::{ErrorCode, Problem};
use pointsman_core::CustomerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Event streams that may be open at once.
const MAX_STREAMS: usize = 2_000;
/// Of those, with tokens of one customer: no customer takes them all.
const MAX_OF_CUSTOMER: usize = 50;

type OfCustomers = Arc<Mutex<HashMap<CustomerId, usize>>>;

pub(crate) struct Streams {
    free: Arc<Semaphore>,
    of_customers: OfCustomers,
}

/// An open stream, until it is dropped.
pub(crate) struct OpenStream {
    _permit: OwnedSemaphorePermit,
    _of_customer: Option<OfCustomer>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_STREAMS)), of_customers: OfCustomers::default() }
    }
}

impl Streams {
    /// # Errors
    /// `too_many_streams`.
    pub fn open(&self, customer: Option<&CustomerId>) -> Result<OpenStream, Problem> {
        let full = |detail: String| Problem::new(ErrorCode::TooManyStreams, detail);
        let of_customer = customer.map(|customer| {
            OfCustomer::count(&self.of_customers, customer).ok_or_else(|| {
                full(format!(
                    "{customer} has {MAX_OF_CUSTOMER} event streams open, the most it may"
                ))
            })
        });
        let permit = self.free.clone().try_acquire_owned();
        Ok(OpenStream {
            _of_customer: of_customer.transpose()?,
            _permit: permit.map_err(|_| full("every event stream is taken".to_owned()))?,
        })
    }
}

/// One of a customer's streams; gives it back when it is dropped.
struct OfCustomer {
    counts: OfCustomers,
    customer: CustomerId,
}

impl OfCustomer {
    fn count(counts: &OfCustomers, customer: &CustomerId) -> Option<Self> {
        let mut open = counts.lock();
        let count = open.entry(customer.clone()).or_default();
        if *count >= MAX_OF_CUSTOMER {
            return None;
        }
        *count += 1;
        Some(Self { counts: counts.clone(), customer: customer.clone() })
    }
}

impl Drop for OfCustomer {
    fn drop(&mut self) {
        let mut open = self.counts.lock();
        if let Some(count) = open.get_mut(&self.customer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.customer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_makes_room_for_another_of_its_customer() {
        let (streams, acme) = (Streams::default(), CustomerId::new("acme").unwrap());
        let mut open: Vec<_> = std::iter::from_fn(|| streams.open(Some(&acme)).ok()).collect();
        assert_eq!(open.len(), MAX_OF_CUSTOMER);
        let other = CustomerId::new("umbrella").unwrap();
        drop(streams.open(Some(&other)).unwrap());
        open.pop();
        open.push(streams.open(Some(&acme)).unwrap());
        assert!(streams.open(Some(&acme)).err().unwrap().is(ErrorCode::TooManyStreams));
        drop(open);
        assert!(streams.of_customers.lock().is_empty());
        let all: Vec<_> = std::iter::from_fn(|| streams.open(None).ok()).collect();
        assert_eq!(all.len(), MAX_STREAMS);
        assert!(streams.open(Some(&other)).is_err() && streams.of_customers.lock().is_empty());
    }
}
