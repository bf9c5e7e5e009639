//! Pools that are told apart by the model of a request.
//!
//! The route, and with it the pool, depends on a name that stands in the body. So the headers are held first, then the name
//! goes into a header, and Envoy chooses its route by that. What cluster the new route leads to Envoy does not say until the
//! request has left the filters, so the pool is the one that names the model.

use std::rc::Rc;

use routing::MODEL_HEADER;

use super::{SteeringHeaders, Worker};

/// The pools of a picker, of which the model will choose one.
#[derive(Clone, Debug)]
pub(crate) struct ModelPools {
    pub(crate) pools: Rc<[u64]>,
    /// The pool of the route that the request has without a model.
    pub(crate) without: Option<u64>,
    /// Whether a header of the client may have chosen that route: then nobody knows which it is.
    pub(crate) is_clients: bool,
}

impl Worker {
    /// Whether the model of a request decides which of a picker's pools it is for.
    pub(crate) fn goes_by_model(&self, pools: &[u64]) -> bool {
        let shared = pools.iter().filter_map(|key| self.pools.get(key));
        shared
            .into_iter()
            .any(|shared| shared.pool.config().has_models())
    }

    /// The pool of a held request whose body was read: for most pickers the one that it is held for.
    pub(super) fn pool_by_model(&self, picker: u32, model_name: Option<&str>) -> Option<u64> {
        let stream = self.streams.get(&picker)?;
        let Some(choice) = &stream.model_pools else {
            return Some(stream.pool);
        };
        let serves = |key: &&u64| {
            let shared = self.pools.get(*key);
            let name = model_name.unwrap_or_default();
            shared.is_some_and(|shared| shared.pool.config().serves_model(name))
        };
        choice.pools.iter().find(serves).copied().or(choice.without)
    }

    /// The header by which routes tell models apart, where pools are told apart by it.
    pub(super) fn model_header(&self, picker: u32, model_name: Option<&str>) -> SteeringHeaders {
        let choice = self.streams.get(&picker).map(|stream| &stream.model_pools);
        let is_wanted = choice.and_then(Option::as_deref).is_some_and(|choice| {
            let mut pools = choice.pools.iter();
            pools.any(|pool| !self.is_shadow(*pool))
        });
        let name = model_name.filter(|_| is_wanted);
        name.map(|name| (MODEL_HEADER, name.to_string()))
            .into_iter()
            .collect()
    }
}
