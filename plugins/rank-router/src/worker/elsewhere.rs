//! Answers from addresses that are no rank of the pool that was picked for.
//!
//! Envoy does not tell where a route leads that it has chosen anew, so a request may go to another cluster than its pick
//! supposed. What comes of it there says nothing of the ranks that were named, and it is on none of them.

use std::net::SocketAddr;

use super::Worker;

impl Worker {
    /// Lets go of a request that went elsewhere; false when it is on a rank of its pool.
    ///
    /// A rank that the pool does not know yet is elsewhere, too: who failed before it is then found by other requests.
    pub(super) fn leave_if_elsewhere(&mut self, picker: u32, address: SocketAddr) -> bool {
        let is_elsewhere = self.is_elsewhere(picker, address);
        if is_elsewhere {
            self.leave(picker);
        }
        is_elsewhere
    }

    fn is_elsewhere(&self, picker: u32, address: SocketAddr) -> bool {
        self.streams.get(&picker).is_some_and(|stream| {
            let shared = self.pools.get(&stream.pool);
            let is_known = shared.is_some_and(|shared| shared.pool.rank_at(address).is_some());
            // A shadow follows its request, wherever that goes.
            !is_known && !stream.named.contains(&address) && !self.is_shadow(stream.pool)
        })
    }

    /// The request counts nowhere any more, and no rank is believed to hold its prompt.
    fn leave(&mut self, picker: u32) {
        let Some(mut stream) = self.streams.remove(&picker) else {
            return;
        };
        if stream.rank().is_some() {
            self.metrics.answered_elsewhere();
        }
        self.take_back(&mut stream);
        self.end_stream(stream);
    }
}
