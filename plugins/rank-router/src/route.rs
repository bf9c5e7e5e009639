//! Where a request's route leads, as far as it is known, and headers of the client that might have chosen it.

use routing::{MODEL_HEADER, STRIPPED_HEADERS};

use crate::worker::ModelPools;
use crate::{host, worker};

/// What is known of a request's route when its headers come.
#[derive(Debug)]
pub(crate) struct Route {
    /// The pool whose cluster it leads to.
    pub(crate) pool: Option<u64>,
    /// Whether it may have been chosen by a header of the client, which is gone now. Envoy does not tell which one it chooses
    /// anew.
    pub(crate) is_clients: bool,
    pub(crate) model_pools: Option<ModelPools>,
}

impl Route {
    /// The pools that the request may be for, if no model decides.
    pub(crate) fn pools<'a>(&'a self, all: &'a [u64]) -> &'a [u64] {
        match self.is_clients {
            true => all,
            false => self.pool.as_slice(),
        }
    }

    pub(crate) fn is_for_a_pool(&self) -> bool {
        self.pool.is_some() || self.model_pools.is_some()
    }
}

/// Which headers were taken away.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Removed {
    pub(crate) steering: bool,
    pub(crate) model: bool,
}

impl Removed {
    pub(crate) fn any(self) -> bool {
        self.steering || self.model
    }
}

/// Takes away what no client may say, and lets Envoy choose the route anew where there was any of it. A shadow changes nothing:
/// what steers may come before it.
pub(crate) fn strip(pools: &[u64], pool: Option<u64>, goes_by_model: bool) -> Removed {
    if worker::with(|worker| worker.keeps_headers(pools, pool, goes_by_model)) {
        return Removed::default();
    }
    let taken = STRIPPED_HEADERS
        .iter()
        .filter(|name| host::take_request_header(name));
    let removed = Removed {
        steering: taken.count() > 0,
        model: goes_by_model && host::take_request_header(MODEL_HEADER),
    };
    if removed.any() {
        host::clear_route();
        worker::with(|worker| worker.metrics.headers_removed());
    }
    removed
}
