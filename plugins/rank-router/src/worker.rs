//! What all streams of one VM, so of one Envoy worker, share.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use routing::{
    Charge, Config, DESTINATION_HEADER, Decidable, Exchanges, Limits, Pick, Pool, Prompt,
    ReadToEnd, chain,
};

use crate::bell::Bells;
use crate::host;
use crate::metrics::Metrics;

/// The key of the numbers that tell VMs apart.
const VM_NUMBER: &str = "rank_router.vm";

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new());
}

/// Runs `act` on the worker's state. Not to be nested: an inner call gives the default answer and does nothing.
pub(crate) fn with<T: Default>(act: impl FnOnce(&mut Worker) -> T) -> T {
    WORKER.with(|worker| {
        worker
            .try_borrow_mut()
            .map_or_else(|_| T::default(), |mut worker| act(&mut worker))
    })
}

/// A stream that a picker sees.
#[derive(Debug)]
struct Stream {
    pool: Rc<str>,
    charge: Option<Charge>,
}

#[derive(Debug)]
struct SharedPool {
    pool: Pool,
    pickers: usize,
}

/// Pools, exchanges and charges of one VM.
#[derive(Debug)]
pub(crate) struct Worker {
    vm: u64,
    mark: String,
    requests: u64,
    pools: HashMap<Rc<str>, SharedPool>,
    streams: HashMap<u32, Stream>,
    pub(crate) exchanges: Exchanges,
    pub(crate) bells: Bells,
    pub(crate) metrics: Metrics,
    pub(crate) warned_of_reader: bool,
}

impl Worker {
    fn new() -> Self {
        let vm = host::unique_number(VM_NUMBER);
        Self {
            vm,
            mark: format!("rank_router.{vm}"),
            requests: 0,
            pools: HashMap::new(),
            streams: HashMap::new(),
            exchanges: Exchanges::default(),
            bells: Bells::default(),
            metrics: Metrics::define(),
            warned_of_reader: false,
        }
    }

    /// A number that no other VM of this Envoy has.
    pub(crate) fn vm(&self) -> u64 {
        self.vm
    }

    /// The property by which a picker finds the reader of its stream. It names the VM, because after a reload the
    /// mark of a dead VM can still be on a stream.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// A picker root uses this pool from now on; pickers that name the same pool share it and its configuration.
    pub(crate) fn join_pool(&mut self, config: Config) -> Rc<str> {
        let name: Rc<str> = Rc::from(config.pool());
        match self.pools.get_mut(&name) {
            Some(shared) => {
                shared.pool.reconfigure(config);
                shared.pickers = shared.pickers.saturating_add(1);
            }
            None => {
                self.pools.insert(
                    name.clone(),
                    SharedPool {
                        pool: Pool::new(config),
                        pickers: 1,
                    },
                );
            }
        }
        name
    }

    /// A picker root is done with this pool; the last one takes it along.
    pub(crate) fn leave_pool(&mut self, name: &str) {
        let pickers = self.pools.get_mut(name).map(|shared| {
            shared.pickers = shared.pickers.saturating_sub(1);
            shared.pickers
        });
        if pickers == Some(0) {
            self.pools.remove(name);
        }
    }

    /// Holds `picker`'s headers until its reader has seen enough; false when there is nothing to wait for.
    pub(crate) fn hold(&mut self, reader: u32, picker: u32, pool: &Rc<str>, now_ms: u64) -> bool {
        let Some(shared) = self.pools.get(pool) else {
            return false;
        };
        let config = shared.pool.config();
        let limits = Limits {
            bytes: config.decide_after_bytes(),
            idle_ms: config.decide_after_idle_ms(),
        };
        let is_held = self
            .exchanges
            .join(reader, picker, config.block_bytes(), limits, now_ms);
        if is_held {
            self.streams.insert(
                picker,
                Stream {
                    pool: pool.clone(),
                    charge: None,
                },
            );
            self.metrics.held();
        }
        is_held
    }

    /// Ends the exchange of a stream; a held request is then no longer decided.
    pub(crate) fn close(&mut self, reader: u32) {
        if self.exchanges.close(reader) {
            self.metrics.released();
        }
    }

    /// Picks for a request that was held; gives the destination.
    ///
    /// Where nothing is prefilled a prefix is worth nothing, and the load alone decides.
    pub(crate) fn decide(&mut self, decidable: &Decidable) -> Option<String> {
        let Decidable {
            picker,
            endpoint,
            due,
            prompt,
        } = decidable;
        self.metrics.body_read(*due, prompt.body_end);
        self.metrics.request(Some(*endpoint), prompt.outcome());
        self.metrics.blocks(prompt);
        let pool = self.streams.get(picker)?.pool.clone();
        self.pick(*picker, &pool, endpoint.fills_cache().then_some(prompt))
    }

    /// Lets pools know what bodies held that were decided on before their end.
    pub(crate) fn learn(&mut self) {
        for ReadToEnd { picker, prompt } in self.exchanges.take_read() {
            let Some(stream) = self.streams.get(&picker) else {
                continue;
            };
            let pool = self.pools.get_mut(&stream.pool);
            if let (Some(shared), Some(charge)) = (pool, stream.charge.as_ref()) {
                shared.pool.learn(charge, &prompt);
            }
        }
    }

    /// Picks for a stream and counts it; gives the destination, or nothing when the pool has no rank.
    pub(crate) fn pick(
        &mut self,
        picker: u32,
        pool: &Rc<str>,
        prompt: Option<&Prompt>,
    ) -> Option<String> {
        self.requests = self.requests.wrapping_add(1);
        let seed = chain(self.vm, self.requests);
        let picked = self
            .pools
            .get_mut(pool)
            .and_then(|shared| shared.pool.pick(prompt, seed));
        let Some(pick) = picked else {
            self.metrics.no_rank();
            return None;
        };
        self.metrics.picked(&pick);
        let destination = destination(&pick);
        log_pick(picker, pool, &pick, &destination);
        let stream = Stream {
            pool: pool.clone(),
            charge: Some(pick.charge),
        };
        if let Some(earlier) = self.streams.insert(picker, stream) {
            self.end_charge(earlier);
        }
        Some(destination)
    }

    /// The first byte of a response came: prefill is over.
    pub(crate) fn first_byte(&mut self, picker: u32) {
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let pool = self.pools.get_mut(&stream.pool);
        if let (Some(shared), Some(charge)) = (pool, stream.charge.as_mut()) {
            self.metrics.unqueued(shared.pool.first_byte(charge));
        }
    }

    /// A stream is over, whatever ended it.
    pub(crate) fn end(&mut self, picker: u32) {
        if let Some(stream) = self.streams.remove(&picker) {
            self.end_charge(stream);
        }
    }

    fn end_charge(&mut self, stream: Stream) {
        let Some(charge) = stream.charge else { return };
        let tokens = charge.queued_tokens();
        if let Some(shared) = self.pools.get_mut(&stream.pool) {
            shared.pool.end(charge);
        }
        self.metrics.unqueued(tokens);
        self.metrics.ended();
    }
}

/// Decides what is due and lets it go on; then acts on `root` again. Only in a picker root's callbacks.
pub(crate) fn decide_due(root: u32) {
    with(|worker| worker.bells.silence());
    for decidable in with(|worker| worker.exchanges.take_due()) {
        with(|worker| worker.metrics.released());
        if host::act_on(decidable.picker) {
            if let Some(destination) = with(|worker| worker.decide(&decidable)) {
                host::set_request_header(DESTINATION_HEADER, &destination);
            }
            host::resume_request();
        }
    }
    host::act_on(root);
}

fn destination(pick: &Pick) -> String {
    let ranks: Vec<String> = pick.ranks.iter().map(ToString::to_string).collect();
    ranks.join(",")
}

fn log_pick(picker: u32, pool: &str, pick: &Pick, destination: &str) {
    log::debug!(
        "rank-router: stream {picker} of pool {pool} to {destination}: {:?}, {} of {} tokens matched, \
         {:.4} s queue + {:.4} s miss + {:.4} s in flight",
        pick.reason,
        pick.matched_tokens,
        pick.prompt_tokens,
        pick.cost.queue_seconds,
        pick.cost.miss_seconds,
        pick.cost.in_flight_seconds,
    );
}
