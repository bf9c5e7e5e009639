//! Picks that steer nothing, beside another one that does.
//!
//! A shadow decides as if it steered, and when the answer comes it sees where the request went. From then on the request counts
//! there, and its prompt is believed to be there, so that the next pick is as good as it would be. Nobody is blamed for
//! the difference.

use std::net::SocketAddr;

use super::Worker;

impl Worker {
    /// Whether a pool's picks steer nothing.
    pub(crate) fn is_shadow(&self, pool: u64) -> bool {
        let shared = self.pools.get(&pool);
        shared.is_some_and(|shared| shared.pool.config().is_shadow())
    }

    /// The request of a shadow went to this rank, whoever chose it.
    pub(super) fn follow(&mut self, picker: u32, address: SocketAddr) {
        self.release_leg(picker);
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        if std::mem::replace(&mut stream.is_compared, true) {
            return;
        }
        let picked_tokens = stream.expected.as_ref().map_or(0, |e| e.matched_tokens);
        let leg = stream.leg.take();
        if stream.named.first() == Some(&address) {
            self.metrics.shadowed(true, picked_tokens, picked_tokens);
            return;
        }
        stream.named = vec![address];
        let pool = stream.pool;
        let moved = self.serve(picker, address);
        let served = moved.as_ref().and_then(|moved| moved.expected.as_ref());
        let served_tokens = served.map_or(0, |expected| expected.matched_tokens);
        self.metrics.shadowed(false, picked_tokens, served_tokens);
        if let Some(leg) = leg {
            self.lose(picker, leg.rank, leg.insertion);
        }
        if let Some(moved) = moved {
            self.count_on(picker, pool, moved);
        }
    }
}
