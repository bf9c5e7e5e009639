//! What no client may say: keys of a body, and headers that steer.

use std::sync::Arc;

use routing::{Refusal, RefusedKeys};

use super::Worker;

impl Worker {
    /// The rules of a pool about keys; none for a shadow, which changes nothing.
    fn rules(&self, pool: u64) -> Option<Arc<RefusedKeys>> {
        let shared = self.pools.get(&pool);
        let rules = shared.map(|shared| shared.pool.config().refused_keys().clone());
        // A pool that is gone refuses what all do.
        Some(rules.unwrap_or_default()).filter(|_| !self.is_shadow(pool))
    }

    /// Lets a request be looked through as the pools want it that it may be for; tells why it is refused by what was seen
    /// already.
    pub(crate) fn guard(&mut self, reader: u32, pools: &[u64]) -> Option<Refusal> {
        let rules: Vec<_> = pools.iter().filter_map(|pool| self.rules(*pool)).collect();
        self.exchanges.guard(reader, rules);
        self.refused(reader)
    }

    /// Tells why a request is refused, and counts that it is.
    pub(crate) fn refused(&mut self, reader: u32) -> Option<Refusal> {
        let refusal = self.exchanges.refusal(reader)?;
        self.metrics.refused();
        Some(refusal)
    }

    /// The pool of a held request is known now, or never will be; by its model, if that has chosen the route.
    pub(super) fn settle(
        &mut self,
        reader: u32,
        picker: u32,
        pool: Option<u64>,
        is_by_model: bool,
    ) -> Option<Refusal> {
        let choice = self.streams.get(&picker)?.model_pools.clone()?;
        if is_by_model {
            self.exchanges.fix_model(reader);
        }
        let may_be_any = choice.is_clients && !is_by_model;
        let pools = if may_be_any {
            &choice.pools
        } else {
            pool.as_slice()
        };
        self.guard(reader, pools)
    }

    /// Whether the headers of a request are to stay as they are, because every pool that it may be for is a shadow.
    pub(crate) fn keeps_headers(&self, pools: &[u64], pool: Option<u64>, by_model: bool) -> bool {
        match pool.filter(|_| !by_model) {
            Some(pool) => self.is_shadow(pool),
            None => pools.iter().all(|pool| self.is_shadow(*pool)),
        }
    }

    /// Looks in bodies for the keys that any pool adds to the list.
    pub(super) fn watch_keys(&mut self) {
        let pools = self.pools.values();
        let added = pools.flat_map(|shared| shared.pool.config().refused_keys().added());
        let added: Vec<String> = added.cloned().collect();
        self.exchanges.look_for(added);
    }
}
