//! What all streams of one VM, so of one Envoy worker, share.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use routing::{
    Config, Decidable, Exchanges, Limits, MODEL_HEADER, Peers, Pool, RankId, ReadToEnd, Refusal,
    Totals, chain, hash_bytes,
};

use crate::bell::Bell;
use crate::host;
use crate::metrics::Metrics;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::watch::Watch;

mod elsewhere;
mod guarding;
mod leg;
mod model_pools;
mod outcome;
mod peering;
mod picking;
mod prompts;
mod shadow;
mod usage;

pub(crate) use model_pools::ModelPools;
pub(crate) use outcome::Breakdown;
pub(crate) use peering::TICK;
pub(crate) use picking::{Arrived, SteeringHeaders};

/// The key of the numbers that tell VMs apart.
const VM_NUMBER: &str = "rank_router.vm";

/// The key of a number that a remote client cannot know: it decides where hashes go in tables, and how kinds of requests are told
/// apart, for all VMs alike.
///
/// The host gives a module no randomness, so the first VM makes it of its own number and the nanosecond at which it began. Who
/// knows the second, by watching a restart, has a billion values left to try, and no answer says which is right. Whoever reads
/// Envoy's memory knows it.
const SECRET: &str = "rank_router.secret";

/// Names of clusters whose pool is remembered: more than a gateway has routes to models.
const MOST_CLUSTERS: usize = 1024;

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

/// A pool, and who needs it: it stays until its last request has ended.
#[derive(Debug)]
pub(crate) struct SharedPool {
    pub(crate) pool: Pool,
    pickers: usize,
    streams: usize,
}

/// What becomes of a held request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It goes on with these headers.
    GoOn(SteeringHeaders),
    /// It is answered in the ranks' place.
    Refuse(Refusal),
}

impl Default for Decision {
    fn default() -> Self {
        Self::GoOn(SteeringHeaders::new())
    }
}

/// Pools, exchanges and charges of one VM.
#[derive(Debug)]
pub(crate) struct Worker {
    vm: u64,
    /// What no client knows.
    secret: u64,
    mark: String,
    requests: u64,
    /// By the hash of their name, in an order, so that the same inputs make the same calls.
    pub(crate) pools: BTreeMap<u64, SharedPool>,
    streams: HashMap<u32, Stream>,
    by_cluster: HashMap<(u64, u64), Option<u64>>,
    pub(crate) exchanges: Exchanges,
    pub(crate) bell: Bell,
    pub(crate) metrics: Metrics,
    pub(crate) shared: Shared,
    pub(crate) watch: Watch,
    peers: Peers,
    peer_totals: HashMap<u16, Totals>,
    held: u32,
    /// Whether a request has come: a VM that never sees one, as the main thread's, has nothing to tell and to pick.
    is_awake: bool,
    expired_ms: u64,
    judged_ms: u64,
    shown_ms: u64,
    spells_told_ms: u64,
    shares_told_ms: u64,
    pub(crate) warned_of_reader: bool,
}

impl Worker {
    fn new() -> Self {
        let vm = host::unique_number(VM_NUMBER);
        let secret = host::first_number(SECRET, chain(vm, host::now_ns()));
        Self {
            vm,
            secret,
            mark: format!("rank_router.{vm}"),
            requests: 0,
            pools: BTreeMap::new(),
            streams: HashMap::new(),
            by_cluster: HashMap::new(),
            exchanges: Exchanges::keyed(secret),
            bell: Bell::default(),
            metrics: Metrics::define(),
            shared: Shared::default(),
            watch: Watch::default(),
            peers: Peers::new(vm),
            peer_totals: HashMap::new(),
            held: 0,
            is_awake: false,
            expired_ms: 0,
            judged_ms: 0,
            shown_ms: 0,
            spells_told_ms: 0,
            shares_told_ms: 0,
            warned_of_reader: false,
        }
    }

    /// The property by which a picker finds the reader of its stream. It names the VM, because after a reload the
    /// mark of a dead VM can still be on a stream.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// A picker root uses this pool from now on; pickers that name the same pool share it and its configuration.
    pub(crate) fn join_pool(&mut self, config: Config) -> u64 {
        let key = hash_bytes(config.pool().as_bytes());
        self.by_cluster.clear();
        self.watch.look_again();
        match self.pools.get_mut(&key) {
            Some(shared) => {
                shared.pool.reconfigure(config);
                shared.pickers = shared.pickers.saturating_add(1);
            }
            None => {
                let shared = SharedPool {
                    pool: Pool::keyed(config, self.secret),
                    pickers: 1,
                    streams: 0,
                };
                self.pools.insert(key, shared);
                self.start_over();
            }
        }
        self.watch_keys();
        key
    }

    /// A picker root is done with this pool; the last one takes it along, once no request is on it.
    pub(crate) fn leave_pool(&mut self, key: u64) {
        self.by_cluster.clear();
        if let Some(shared) = self.pools.get_mut(&key) {
            shared.pickers = shared.pickers.saturating_sub(1);
        }
        self.drop_unused(key);
    }

    /// Hangs the bell of this VM: by its slot, which no other living VM has and of which there are few. Only in a picker
    /// root's callbacks.
    pub(crate) fn hang_bell(&mut self, root: u32) {
        let name = match self.peers.slot() {
            Some(slot) => format!("rank_router.bell.{slot}"),
            // Alone, it has none.
            None if cfg!(feature = "isolated") => format!("rank_router.bell.vm.{}", self.vm),
            None => return,
        };
        self.bell.hang(root, name);
    }

    /// Whether a picker's requests are all for one pool, whatever cluster they go to.
    pub(crate) fn serves_all(&self, pools: &[u64]) -> bool {
        let [only] = pools else { return false };
        let shared = self.pools.get(only);
        shared.is_some_and(|shared| !shared.pool.config().is_discovered())
    }

    /// Which of a picker's pools the request to a cluster is for, if any.
    pub(crate) fn pool_of(&mut self, pools: &[u64], cluster: &str) -> Option<u64> {
        let picker = pools.first().copied().unwrap_or(0);
        let name = (picker, hash_bytes(cluster.as_bytes()));
        if let Some(known) = self.by_cluster.get(&name) {
            return *known;
        }
        let serves = |key: &&u64| {
            let shared = self.pools.get(*key);
            shared.is_some_and(|shared| shared.pool.config().serves(cluster))
        };
        let found = pools.iter().find(serves).copied();
        if self.by_cluster.len() >= MOST_CLUSTERS {
            self.by_cluster.clear();
        }
        self.by_cluster.insert(name, found);
        found
    }

    /// Holds `picker`'s headers until its reader has seen enough; false when there is nothing to wait for.
    pub(crate) fn hold(
        &mut self,
        reader: u32,
        picker: u32,
        pool: u64,
        model_pools: Option<ModelPools>,
        now_ms: u64,
    ) -> bool {
        let Some(shared) = self.pools.get(&pool) else {
            return false;
        };
        let config = shared.pool.config();
        let limits = Limits {
            bytes: config.decide_after_bytes(),
            idle_ms: config.decide_after_idle_ms(),
        };
        let is_held = self
            .exchanges
            .join(reader, picker, config.block_cut(), limits, now_ms);
        if is_held {
            let stream = Stream {
                model_pools: model_pools.map(Box::new),
                ..Stream::held(pool)
            };
            self.put_stream(picker, stream);
            self.change_held(1);
        }
        is_held
    }

    /// Picks for a held request at the next turn: its client sends no body before a rank has said that it may.
    pub(crate) fn hurry(&mut self, reader: u32) {
        self.metrics.expect_continue_proxied();
        if self.exchanges.hurry(reader) {
            self.bell.ring();
        }
    }

    /// Ends the exchange of a stream; a held request is then no longer decided.
    pub(crate) fn close(&mut self, reader: u32) {
        if self.exchanges.close(reader) {
            self.change_held(-1);
        }
    }

    /// A held request goes on.
    pub(crate) fn released(&mut self) {
        self.change_held(-1);
    }

    /// Picks for a request that was held; gives the destination, or why it is refused.
    ///
    /// Where nothing is prefilled a prefix is worth nothing, and the load alone decides.
    pub(crate) fn decide(&mut self, decidable: Decidable, now_ms: u64) -> Decision {
        let Decidable {
            reader,
            picker,
            endpoint,
            due,
            has_ended,
            prompt,
            is_streamed,
            model_name,
        } = decidable;
        let arrived = Arrived {
            has_ended,
            is_streamed,
        };
        self.metrics.body_read(due, prompt.body_end);
        self.metrics.request(Some(endpoint), prompt.outcome());
        self.metrics.blocks(&prompt);
        let model_name = model_name.as_deref();
        let mut headers = self.model_header(picker, model_name);
        let pool = self.pool_by_model(picker, model_name);
        if let Some(refusal) = self.settle(reader, picker, pool, !headers.is_empty()) {
            return Decision::Refuse(refusal);
        }
        let prompt = endpoint.fills_cache().then_some(prompt);
        match pool {
            Some(pool) => headers.extend(self.pick(picker, pool, prompt, arrived, now_ms)),
            None => self.metrics.no_pool(),
        }
        Decision::GoOn(headers)
    }

    /// Lets pools know what bodies held that were decided on before their end.
    pub(crate) fn learn(&mut self) {
        for ReadToEnd { picker, prompt } in self.exchanges.take_read() {
            if let Some(mut stream) = self.streams.remove(&picker) {
                self.learn_prompt(&mut stream, prompt);
                self.streams.insert(picker, stream);
            }
        }
    }

    /// A stream is over, whatever ended it. What its rank has hardly taken in is not believed to be there.
    pub(crate) fn end(&mut self, picker: u32) {
        if let Some(mut stream) = self.streams.remove(&picker) {
            if !stream.is_probably_prefilled(host::now_ms()) {
                self.take_back(&mut stream);
            }
            self.end_stream(stream);
        }
    }

    fn put_stream(&mut self, picker: u32, stream: Stream) {
        if let Some(shared) = self.pools.get_mut(&stream.pool) {
            shared.streams = shared.streams.saturating_add(1);
        }
        if let Some(earlier) = self.streams.insert(picker, stream) {
            self.end_stream(earlier);
        }
    }

    fn end_stream(&mut self, mut stream: Stream) {
        self.end_leg(stream.pool, stream.leg.take());
        let rank = stream.rank();
        if let Some(shared) = self.pools.get_mut(&stream.pool) {
            shared.streams = shared.streams.saturating_sub(1);
            if let Some(charge) = stream.charge {
                shared.pool.end(charge);
            }
        }
        if let Some(rank) = rank {
            self.tell_load(stream.pool, rank);
        }
        self.drop_unused(stream.pool);
    }

    fn drop_unused(&mut self, key: u64) {
        let is_unused = |shared: &SharedPool| shared.pickers == 0 && shared.streams == 0;
        if self.pools.get(&key).is_some_and(is_unused) {
            self.pools.remove(&key);
        }
    }

    fn change_held(&mut self, by: i32) {
        self.held = self.held.saturating_add_signed(by);
        self.peers.held(self.held);
    }

    /// Tells what this worker has on a rank now.
    fn tell_load(&mut self, pool: u64, rank: RankId) {
        let shared = self.pools.get(&pool);
        if let Some((key, load)) = shared.and_then(|shared| shared.pool.own_load(rank)) {
            self.peers.load(key, load);
        }
    }
}

/// Lets a held request go on with these headers. Only after acting on its picker.
fn go_on(headers: &SteeringHeaders) {
    host::set_request_headers(headers);
    if headers.iter().any(|(name, _)| *name == MODEL_HEADER) {
        host::clear_route();
    }
    host::resume_request();
}

/// Decides what is due and lets it go on, or refuses it; then acts on `root` again. Only in a picker root's callbacks.
pub(crate) fn decide_due(root: u32) {
    with(|worker| worker.bell.silence());
    let now_ms = host::now_ms();
    for decidable in with(|worker| worker.exchanges.take_due()) {
        let picker = decidable.picker;
        with(Worker::released);
        if host::act_on(picker) {
            match with(|worker| worker.decide(decidable, now_ms)) {
                Decision::GoOn(headers) => go_on(&headers),
                Decision::Refuse(refusal) => host::refuse_request(&refusal),
            }
        }
    }
    with(|worker| worker.flush());
    host::act_on(root);
}
