//! Prompts that ranks were sent: what is believed of them until an answer shows that they were taken in.
//!
//! A pick puts a prompt into the index at once, so that the next request with the same start finds it. A rank that refuses the
//! request, or never gets all of it, has computed nothing: then the prompt is taken back, on every worker.

use routing::{Insertion, Prompt, RankId, Sent, TakenBack};

use super::Worker;
use crate::stream::Stream;

impl Worker {
    /// All of a request's prompt is known that was picked for by its beginning.
    pub(super) fn learn_prompt(&mut self, stream: &mut Stream, whole: Prompt) {
        for rank in stream.ranks() {
            let before = stream.insertion_on(rank).as_deref().copied();
            let beginning = stream.prompt.as_deref().zip(before.as_ref());
            let Some(shared) = self.pools.get_mut(&stream.pool) else {
                return;
            };
            let learnt = shared.pool.learn(rank, beginning, &whole);
            if let Some(insertion) = stream.insertion_on(rank) {
                *insertion = learnt.insertion;
            }
            self.tell_taken_back(stream.pool, rank, &learnt.taken);
            self.tell_prompt(stream.pool, rank, &learnt.sent);
        }
        if let Some(known) = stream.prompt.as_mut() {
            **known = whole;
        }
    }

    /// No rank has taken the prompt of a request in: it refused it, or never got all of it.
    pub(super) fn refuse_prompt(&mut self, picker: u32) {
        if let Some(mut stream) = self.streams.remove(&picker) {
            self.take_back(&mut stream);
            self.streams.insert(picker, stream);
        }
    }

    /// Takes back what a stream's prompt changed on the ranks that have not shown that they took it in.
    pub(super) fn take_back(&mut self, stream: &mut Stream) {
        for (rank, insertion) in stream.take_insertions() {
            self.take_back_from(stream.pool, rank, &insertion, stream.prompt.as_deref());
        }
    }

    /// A rank of a request failed before it got the prompt, or lost it with its process: it is not believed to hold it.
    pub(super) fn lose(&mut self, picker: u32, rank: RankId, insertion: Option<Insertion>) {
        let Some(insertion) = insertion else { return };
        if let Some(stream) = self.streams.remove(&picker) {
            self.take_back_from(stream.pool, rank, &insertion, stream.prompt.as_deref());
            self.streams.insert(picker, stream);
        }
    }

    /// One rank has not taken a prompt in.
    fn take_back_from(
        &mut self,
        pool: u64,
        rank: RankId,
        insertion: &Insertion,
        prompt: Option<&Prompt>,
    ) {
        let shared = self.pools.get_mut(&pool);
        if let (Some(shared), Some(prompt)) = (shared, prompt) {
            let taken = shared.pool.take_back(rank, prompt, insertion);
            self.metrics.taken_back();
            self.tell_taken_back(pool, rank, &taken);
        }
    }

    fn tell_taken_back(&mut self, pool: u64, rank: RankId, taken: &TakenBack) {
        let shared = self.pools.get_mut(&pool);
        let now_ms = crate::host::now_ms();
        let key = shared.and_then(|shared| shared.pool.note_taken_back(rank, taken, now_ms));
        if let Some(key) = key {
            self.peers.taken_back(key, now_ms, taken);
        }
    }

    pub(super) fn tell_prompt(&mut self, pool: u64, rank: RankId, sent: &Sent) {
        let shared = self.pools.get(&pool);
        let key = shared.and_then(|shared| shared.pool.rank_key(rank));
        if let Some(key) = key.filter(|_| !sent.blocks.is_empty()) {
            self.peers.prompt(key, crate::host::now_ms(), sent);
        }
    }
}
