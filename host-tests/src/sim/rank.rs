//! The inside of a simulated rank: an engine, driven by the clock, and who waits for its tokens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::PodsConfig;
use super::engine::{Engine, Sequence, Token};
use super::fault::Fault;
use super::http_metrics;
use super::leg_counts::LegCounts;
use super::link::Link;
use super::metrics::Metrics;
use super::prompt::TokenizedPrompt;
use super::rank_stats::RankStats;
use super::role::Role;
use super::sidecar::Sidecar;

/// What the engine is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) prompt: TokenizedPrompt,
    pub(super) max_tokens: u64,
    /// Whether another rank has the KV of the prompt.
    pub(super) is_prefilled: bool,
    /// Whether all of the prompt is computed, whatever of it is cached.
    pub(super) skips_cache: bool,
}

/// State that the HTTP side, the engine's task and the handle share.
#[derive(Debug)]
pub(super) struct Rank {
    pub(super) address: SocketAddr,
    pub(super) config: PodsConfig,
    pub(super) fault: watch::Sender<Fault>,
    /// What stands before a decode rank.
    pub(super) sidecar: Option<Sidecar>,
    pub(super) legs: LegCounts,
    /// Place in the deployment: the label `engine` of its metrics.
    pub(super) number: usize,
    pub(super) open_requests: AtomicUsize,
    pub(super) metrics_asked: AtomicU64,
    inner: Mutex<Inner>,
    work: Notify,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    link: Link,
    listeners: HashMap<u64, mpsc::UnboundedSender<Token>>,
    metrics: Metrics,
}

/// Tokens of one request, as they come; dropping it aborts the request.
#[derive(Debug)]
pub(super) struct Answer {
    rank: Arc<Rank>,
    id: u64,
    tokens: mpsc::UnboundedReceiver<Token>,
    asked: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    prompt_tokens: u64,
    received: u64,
    max_tokens: u64,
}

impl Rank {
    pub(super) fn new(address: SocketAddr, number: usize, config: PodsConfig) -> Self {
        Self {
            address,
            number,
            inner: Mutex::new(Inner::new(&config)),
            fault: watch::Sender::new(config.starts_with),
            sidecar: (config.role == Role::Decode).then(|| Sidecar::new(config.sidecar)),
            legs: LegCounts::default(),
            config,
            open_requests: AtomicUsize::new(0),
            metrics_asked: AtomicU64::new(0),
            work: Notify::new(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Starts anew: cold cache, counters at zero; requests under way never get another token.
    pub(super) fn restart(&self) {
        *self.inner() = Inner::new(&self.config);
    }

    /// Forgets every prefix that no request uses.
    pub(super) fn lose_cache(&self) {
        self.inner().engine.lose_cache();
    }

    pub(super) fn stats(&self) -> RankStats {
        let inner = self.inner();
        RankStats {
            open_requests: self.open_requests.load(Ordering::Relaxed),
            running: inner.engine.running(),
            waiting: inner.engine.waiting(),
            transferring: inner.engine.transferring(),
            cache_usage: inner.engine.cache_usage(),
            metrics_asked: self.metrics_asked.load(Ordering::Relaxed),
            direct_requests: self.legs.direct_requests.value(),
            prefill_legs: self.legs.prefill_legs.value(),
            decode_only: self.legs.decode_only.value(),
            legs_failed: self.legs.legs_failed.value(),
            legs_fallen_back: self.legs.legs_fallen_back.value(),
            counts: inner.engine.counts(),
        }
    }

    /// The page for `/metrics`.
    pub(super) fn metrics_page(&self) -> String {
        let stats = self.stats();
        self.inner().metrics.page(&stats, self.number, &self.config)
    }

    pub(super) fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    /// Waits while the rank hangs.
    pub(super) async fn until_it_answers(&self) {
        let _ = self
            .fault
            .subscribe()
            .wait_for(|fault| *fault != Fault::Hanging)
            .await;
    }

    pub(super) fn note_http(&self, answered: &http_metrics::Answered) {
        let mut inner = self.inner();
        inner.metrics.http.note(answered);
        inner
            .metrics
            .observe("http_request_duration_highr_seconds", answered.seconds);
    }

    /// Queues a prompt.
    pub(super) fn ask(self: &Arc<Self>, ask: &Ask, asked: Instant) -> Answer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, tokens) = mpsc::unbounded_channel();
        let sequence = Sequence {
            id,
            hashes: ask.prompt.hashes.clone(),
            prompt_tokens: ask.prompt.tokens,
            max_tokens: ask.max_tokens,
            skips_cache: ask.skips_cache,
        };
        let mut inner = self.inner();
        inner.listeners.insert(id, sender);
        if ask.is_prefilled {
            inner.engine.add_prefilled(sequence);
        } else {
            inner.engine.add(sequence);
        }
        drop(inner);
        self.work.notify_one();
        Answer {
            rank: self.clone(),
            id,
            tokens,
            asked,
            first: None,
            last: None,
            prompt_tokens: ask.prompt.tokens,
            received: 0,
            max_tokens: ask.max_tokens,
        }
    }

    /// Steps the engine for ever; when the rank hangs, the step under way does not end.
    ///
    /// Steps are shorter than the timer is exact, so each is measured from the planned end of the last: lateness does
    /// not add up.
    pub(super) async fn run(self: Arc<Self>) {
        let mut planned_end = Instant::now();
        loop {
            let (step, next_arrival) = self.inner().begin_step(Instant::now());
            let Some(step) = step else {
                self.until_there_is_work(next_arrival).await;
                planned_end = Instant::now();
                continue;
            };
            planned_end += step.mul_f64(self.fault().slowness());
            sleep_until(planned_end).await;
            if self.fault() == Fault::Hanging {
                self.until_it_answers().await;
                planned_end = Instant::now();
            }
            self.inner().end_step();
        }
    }

    /// Waits for a request, or for the next blocks from a prefill rank.
    async fn until_there_is_work(&self, next_arrival: Option<Instant>) {
        let Some(next_arrival) = next_arrival else {
            return self.work.notified().await;
        };
        tokio::select! {
            () = self.work.notified() => {}
            () = sleep_until(next_arrival) => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new(config: &PodsConfig) -> Self {
        Self {
            engine: Engine::new(config.limits(), config.engine),
            link: Link::new(config.transfer_blocks_per_second),
            listeners: HashMap::new(),
            metrics: Metrics::default(),
        }
    }

    /// Takes in the blocks that are here by now and plans a step; gives the time it takes and when the next blocks come.
    fn begin_step(&mut self, now: Instant) -> (Option<Duration>, Option<Instant>) {
        while let Some(id) = self.link.arrived(now) {
            self.engine.finish_transfer(id);
        }
        let step = self.engine.begin_step();
        for transfer in self.engine.begun_transfers() {
            self.link.begin(transfer, now);
        }
        (step, self.link.next_arrival())
    }

    fn end_step(&mut self) {
        let before = self.engine.counts();
        let tokens = self.engine.end_step();
        let counts = self.engine.counts();
        // As vLLM does, a step in the middle of a prefill is left out, and a prompt counts where its prefill ends.
        if !tokens.is_empty() {
            let computed = counts.computed_prompt_tokens - before.computed_prompt_tokens;
            let tokens = computed + (counts.generation_tokens - before.generation_tokens);
            self.metrics
                .observe("vllm:iteration_tokens_total", tokens as f64);
        }
        for token in tokens {
            if let Some(listener) = self.listeners.get(&token.id) {
                let _ = listener.send(token);
            }
            if token.is_last {
                self.listeners.remove(&token.id);
            }
        }
    }
}

impl Answer {
    /// A number that no other answer of the rank has.
    pub(super) fn number(&self) -> u64 {
        self.id
    }

    /// The next token; `None` after the last, and when the rank was restarted.
    pub(super) async fn next(&mut self) -> Option<Token> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Token>> {
        let token = ready!(self.tokens.poll_recv(context));
        if let Some(token) = token {
            self.received += 1;
            self.note(token);
        }
        Poll::Ready(token)
    }

    fn note(&mut self, token: Token) {
        let now = Instant::now();
        let mut inner = self.rank.inner();
        let metrics = &mut inner.metrics;
        match self.last.replace(now) {
            Some(last) => metrics.observe(
                "vllm:inter_token_latency_seconds",
                (now - last).as_secs_f64(),
            ),
            None => metrics.observe(
                "vllm:time_to_first_token_seconds",
                (now - self.asked).as_secs_f64(),
            ),
        }
        let first = *self.first.get_or_insert(now);
        if token.is_last {
            let decode = (now - first).as_secs_f64();
            metrics.finished("length");
            metrics.observe(
                "vllm:e2e_request_latency_seconds",
                (now - self.asked).as_secs_f64(),
            );
            metrics.observe(
                "vllm:request_inference_time_seconds",
                (now - self.asked).as_secs_f64(),
            );
            metrics.observe(
                "vllm:request_prefill_time_seconds",
                (first - self.asked).as_secs_f64(),
            );
            metrics.observe("vllm:request_queue_time_seconds", 0.0);
            metrics.observe("vllm:request_decode_time_seconds", decode);
            metrics.observe(
                "vllm:request_time_per_output_token_seconds",
                decode / (self.received.max(2) - 1) as f64,
            );
            metrics.observe("vllm:request_prompt_tokens", self.prompt_tokens as f64);
            metrics.observe("vllm:request_generation_tokens", self.received as f64);
            metrics.observe(
                "vllm:request_max_num_generation_tokens",
                self.received as f64,
            );
            metrics.observe("vllm:request_params_max_tokens", self.max_tokens as f64);
            metrics.observe("vllm:request_params_n", 1.0);
            metrics.observe(
                "vllm:request_prefill_kv_computed_tokens",
                (self.prompt_tokens - token.cached) as f64,
            );
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut inner = self.rank.inner();
        if inner.listeners.remove(&self.id).is_some() {
            inner.engine.abort(self.id);
            inner.metrics.finished("abort");
        }
    }
}
