//! Simulated vLLM ranks: test doubles, for routing and not for answers.
//!
//! One process serves several pods, each an address of 127.0.0.0/8 with a rank on each of its ports. A rank has a prefix
//! cache, a queue and a batch of its own ([`engine`]), takes as long as a measured model on a measured GPU ([`profile`]),
//! and speaks HTTP like vLLM 0.25.1, of which `data/vllm-0.25.1` holds a recording. Each can be broken while it runs
//! ([`Fault`]). `tests/sim_fidelity.rs` compares what it says with the recording.
//!
//! # Where it is simpler than vLLM
//!
//! - Tokens are four bytes each of the prompt, rendered as ChatML; there is no tokenizer and no model. Text of images and
//!   the like counts as its JSON.
//! - Answers are filler words, always as long as `max_tokens` (16 unless given, for chats too), one event a token; sampling
//!   fields, `stop`, `n`, `logprobs`, tool calls and grammars are ignored. Lists of prompts are refused with 400.
//! - A block of an answer is not found again as part of a later prompt. In vLLM it can be, so hit rates of chats are lower
//!   here than there.
//! - Time is the sum of a few terms for each step, fitted by hand to one model on one GPU; the API server adds a fixed
//!   delay that does not queue. Ranks of a pod do not wait for each other, as expert-parallel ranks do in each step.
//! - Scheduling is first come, first served; prefill in chunks of `max_num_batched_tokens`; no priorities, speculation,
//!   LoRA or offloading.
//! - `engine` in the metrics is the rank's place among all ranks of the process, as when they are one deployment.
//!   `python_*`, `process_*`, `vllm:estimated_*` and whatever is not counted keep the recorded value of an idle server.
//!   Queue time counts as prefill time.
//! - Errors that were not recorded (unknown routes and methods, a wrong media type, a missing field) are made like those
//!   that were; their texts are not vLLM's. A failing rank answers before it has read the body.
//! - Of the routes there are completions, chat completions, models, metrics, health, ping and version.
//!
//! # Prefill and decode apart
//!
//! A rank has a [`Role`]. A prefill rank speaks vLLM on its port. Before a decode rank stands a sidecar ([`SidecarVersion`]):
//! it sends the prompt to the prefill rank that `x-prefiller-host-port` names, over the network, with `max_tokens` 1 and the
//! `kv_transfer_params` of vLLM's NIXL connector, and then the request to the decode rank, with those of the answer. The
//! decode rank takes room for the prompt, waits until the blocks that it lacks have come, at `transfer_blocks_per_second`,
//! one prompt after the other, and computes the last token. Simpler than in the original:
//!
//! - Sidecar and decode rank are one process: a dead rank takes its sidecar along, as when a pod dies. A decode rank that is
//!   not there while its sidecar is, is [`Fault::NotReady`].
//! - The prefill rank's blocks are free when it has answered, not when they were fetched or their lease ends; nothing asks
//!   it for them, so a rank that dies between its answer and the transfer does no harm.
//! - Prefill ranks send as fast as any number of decode ranks receive.
//! - The sidecar makes no request ids, never tries a leg again, knows no allowed list and no encoder.
//! - Errors that the sidecar makes itself have its shape; only the text for a decode rank that is not ready is its own.
//!
//! # What no vLLM has
//!
//! `x-simulated-rank` in each answer (of a sidecar: the decode rank, also when the answer is the prefill rank's error),
//! `x-simulated-prefill-rank` in an answer that followed a prefill leg, `x-simulated-leg` in requests of sidecars to prefill
//! ranks, `x-simulated-echo: digest` in a request, which makes the rank answer with what reached it, before any sidecar, and
//! `x-simulated-status: 500` in a request with a prompt, which makes any rank that has to do with it answer that status.

mod api;
mod echo;
pub mod engine;
mod event_stream;
mod fault;
mod http_metrics;
mod kv_transfer;
mod leg_counts;
mod link;
mod metrics;
mod open;
pub mod prefix_cache;
pub mod profile;
pub mod prompt;
mod rank;
mod rank_stats;
mod role;
mod server;
mod shapes;
mod sidecar;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use engine::{BLOCK_TOKENS, EngineLimits};
pub use fault::Fault;
pub use profile::EngineProfile;
use rank::Rank;
pub use rank_stats::RankStats;
pub use role::{Role, SidecarVersion};
pub use shapes::answer_text;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct PodsConfig {
    /// Addresses of the pods, in 127.0.0.0/8.
    pub pods: Vec<Ipv4Addr>,
    /// Ranks of each pod, on consecutive ports.
    pub ranks_per_pod: u16,
    /// Port of the first rank of each pod.
    pub base_port: u16,
    /// Name of the only model.
    pub model: String,
    /// Tokens of a prompt and its answer together.
    pub max_model_len: u64,
    /// KV cache of each rank.
    pub capacity_tokens: u64,
    /// Tokens of one step, prefill and decode together.
    pub max_num_batched_tokens: u64,
    /// How fast ranks are.
    pub engine: EngineProfile,
    /// What all these ranks are for; a decode rank stands behind a sidecar.
    pub role: Role,
    /// The sidecar before each decode rank.
    pub sidecar: SidecarVersion,
    /// KV blocks of 16 tokens that a decode rank receives in a second; nothing arrives at 0.
    pub transfer_blocks_per_second: f64,
    /// How the ranks are when they start: [`Fault::NotReady`] until a test says otherwise, for instance.
    pub starts_with: Fault,
}

impl Default for PodsConfig {
    /// No pods yet, eight ranks each from port 8000 on, with the cache and the speed of the measured GPU, that prefill and
    /// decode.
    fn default() -> Self {
        Self {
            pods: Vec::new(),
            ranks_per_pod: 8,
            base_port: 8000,
            model: "simulated".to_string(),
            max_model_len: 32_768,
            capacity_tokens: 392_464,
            max_num_batched_tokens: 8192,
            engine: EngineProfile::default(),
            role: Role::default(),
            sidecar: SidecarVersion::default(),
            transfer_blocks_per_second: link::DEFAULT_BLOCKS_PER_SECOND,
            starts_with: Fault::default(),
        }
    }
}

impl PodsConfig {
    fn limits(&self) -> EngineLimits {
        let num_gpu_blocks =
            usize::try_from(self.capacity_tokens / BLOCK_TOKENS).unwrap_or(usize::MAX);
        EngineLimits {
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_num_seqs: 256,
            num_gpu_blocks,
        }
    }

    fn check(&self) -> io::Result<()> {
        let (longest, room) = (
            self.max_model_len,
            self.capacity_tokens / BLOCK_TOKENS * BLOCK_TOKENS,
        );
        if longest <= room {
            return Ok(());
        }
        let problem = format!(
            "requests of max_model_len {longest} tokens need a cache of as many, not {room}"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = self.base_port..self.base_port.saturating_add(self.ranks_per_pod);
        self.pods
            .iter()
            .flat_map(move |pod| ports.clone().map(|port| SocketAddr::from((*pod, port))))
    }
}

/// Running ranks; they end when this is dropped.
#[derive(Debug)]
pub struct SimulatedPods {
    config: PodsConfig,
    ranks: Vec<RankHandle>,
    tasks: JoinSet<()>,
}

/// One rank, from outside.
#[derive(Clone, Debug)]
pub struct RankHandle {
    rank: Arc<Rank>,
    is_listening: watch::Receiver<bool>,
}

impl SimulatedPods {
    /// Starts all ranks; they listen when this returns.
    ///
    /// # Errors
    /// When an address is taken (the error names it), or when the cache cannot hold the longest request, which would
    /// wait for ever: a real vLLM does not start with that either.
    pub async fn start(config: PodsConfig) -> io::Result<Self> {
        config.check()?;
        let (mut ranks, mut tasks) = (Vec::new(), JoinSet::new());
        for (number, address) in config.addresses().enumerate() {
            let rank = Arc::new(Rank::new(address, number, config.clone()));
            let (listening, is_listening) = watch::channel(true);
            tasks.spawn(server::serve(
                rank.clone(),
                server::listen(address).await?,
                listening,
            ));
            tasks.spawn(rank.clone().run());
            ranks.push(RankHandle { rank, is_listening });
        }
        Ok(Self {
            config,
            ranks,
            tasks,
        })
    }

    /// Every rank, pod by pod.
    #[must_use]
    pub fn ranks(&self) -> &[RankHandle] {
        &self.ranks
    }

    /// Name of the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// Ends all ranks and waits for them.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

impl RankHandle {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.rank.address
    }

    /// Breaks or mends it; when this returns, a dead rank does not listen and any other does.
    pub async fn set_fault(&self, fault: Fault) {
        self.rank.fault.send_replace(fault);
        let is_wanted = |listening: &bool| *listening != (fault == Fault::Dead);
        let _ = self.is_listening.clone().wait_for(is_wanted).await;
    }

    /// What it is for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.rank.config.role
    }

    /// The switch as it stands.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.rank.fault()
    }

    /// Starts it anew: cold cache, counters at zero, requests under way are lost.
    pub fn restart(&self) {
        self.rank.restart();
    }

    /// Empties its prefix cache, of which its metrics show nothing, as vLLM's `/reset_prefix_cache` does.
    pub fn lose_cache(&self) {
        self.rank.lose_cache();
    }

    /// What it is doing and has done.
    #[must_use]
    pub fn stats(&self) -> RankStats {
        self.rank.stats()
    }
}
