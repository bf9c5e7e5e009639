//! What answers say of the ranks' caches.

use routing::{AnswerKind, Change, RankId, Told, Usage, UsageReader};

use super::Worker;
use crate::host;

impl Worker {
    /// The headers of an answer with this status and of this kind are here. Gives what its end is to be read with, where
    /// it can say something of a prompt; else the prompt is not needed any longer.
    pub(crate) fn begin_usage(
        &mut self,
        picker: u32,
        status: u16,
        kind: Option<AnswerKind>,
    ) -> Option<UsageReader> {
        let stream = self.streams.get_mut(&picker)?;
        stream.prompt.as_ref()?;
        if !(200..300).contains(&status) {
            stream.prompt = None;
            return None;
        }
        if kind.is_none() {
            stream.prompt = None;
            self.metrics.usage_missing();
        }
        kind.map(UsageReader::new)
    }

    /// An answer has ended and said this of its tokens.
    pub(crate) fn usage(&mut self, picker: u32, usage: Option<Usage>) {
        let Some(stream) = self.streams.get_mut(&picker) else {
            return;
        };
        let (pool, picked_ms) = (stream.pool, stream.picked_ms);
        let known = stream.prompt.take().zip(stream.expected.take());
        let Some((prompt, expected)) = known else {
            return;
        };
        let Some(usage) = usage else {
            self.metrics.usage_missing();
            return;
        };
        let Some(shared) = self.pools.get_mut(&pool) else {
            return;
        };
        let told = shared
            .pool
            .told(&expected, &prompt, &usage, picked_ms, host::now_ms());
        self.metrics.told(&told);
        self.tell_change(pool, expected.rank, &told, picked_ms);
    }

    /// What a rank has lost comes before what it has.
    fn tell_change(&mut self, pool: u64, rank: RankId, told: &Told, picked_ms: u64) {
        let shared = self.pools.get(&pool);
        let Some(key) = shared.and_then(|shared| shared.pool.rank_key(rank)) else {
            return;
        };
        if let Some(kind) = told.new_kind {
            self.peers.delivered(key, kind);
        }
        match told.change {
            Change::None => {}
            Change::Doubted => self.peers.doubted(key),
            Change::Capacity(share) => self.peers.capacity(key, share),
            Change::Forgotten => {
                log::info!("rank-router: a rank of pool {pool:x} has lost its cache");
                self.peers.forgotten(key, picked_ms);
            }
        }
        self.tell_prompt(pool, rank, &told.sent);
    }
}
