//! What a trial can be told.

use anyhow::{Context, Result, bail};

/// The settings of a trial; each names an idea. The defaults are the deployed decision's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// How much more an uncached token of the request weighs than a queued one.
    pub miss: f64,
    /// What a request in flight weighs, in tokens.
    pub flight: f64,
    /// What a token weighs more for each token before it: attention.
    pub attention: f64,
    /// 1: multiply the work by the requests in flight instead of adding them.
    pub product: f64,
    /// Costs this close are equal, in tokens.
    pub near: f64,
    /// The same, as a share of the cost.
    pub nearshare: f64,
    /// What a token that finds no room in the KV cache weighs.
    pub kv: f64,
    /// Weight of `k/(1-k)`, in tokens, where `k` is the share of the cache in use.
    pub barrier: f64,
    /// 1: use is counted by new tokens only, 0: by whole prompts, 2: by whole prompts, corrected by reports.
    pub kvcount: f64,
    /// Share of the cache that is there for use.
    pub room: f64,
    /// What a token in use weighs.
    pub held: f64,
    /// 1: queued work is taken to be done while it waits, at the rate learnt from first bytes.
    pub progress: f64,
    /// 1: the rate of each rank for itself.
    pub rankrate: f64,
    /// Tokens added to the use of each request for its answer; -1: the mean of those that ended.
    pub output: f64,
    /// The share of a match that counts while the blocks are still being computed.
    pub pending: f64,
    /// Tokens of a prompt's start that ties go by.
    pub anchor: f64,
    /// Share of the cache that the index believes in.
    pub index: f64,
    /// What a use of the whole cache by this request's new blocks weighs for others: eviction.
    pub evict: f64,
    /// The most that the share in use counts for.
    pub evictcap: f64,
    /// What the mean number of requests before their first byte per rank adds to the miss weight.
    pub wn: f64,
    /// The most that it adds.
    pub wncap: f64,
    /// 1: of this rank alone.
    pub wnlocal: f64,
    /// What the share of uses in the older half of a cache adds to the miss weight.
    pub wage: f64,
    /// Milliseconds that the share of busy ranks is averaged over.
    pub tau: f64,
    /// Exponent of the miss weight by prompts in flight: w = miss * (load/mean)^e is not used at 0.
    pub adapt: f64,
    /// Tokens of credit of a rank whose session was here last.
    pub session: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            miss: 3.0,
            flight: 200.0,
            attention: 0.0,
            product: 0.0,
            near: 100.0,
            nearshare: 0.0,
            kv: 0.0,
            barrier: 0.0,
            kvcount: 0.0,
            room: 1.0,
            held: 0.0,
            progress: 0.0,
            rankrate: 0.0,
            output: 0.0,
            pending: 1.0,
            anchor: 1024.0,
            index: 1.0,
            evict: 0.0,
            evictcap: 100.0,
            wn: 0.0,
            wncap: 2.0,
            wnlocal: 0.0,
            wage: 0.0,
            tau: 0.0,
            adapt: 0.0,
            session: 0.0,
        }
    }
}

impl Knobs {
    /// Reads `key=number+key=number`.
    ///
    /// # Errors
    /// When a key is not known or its value no number.
    pub fn read(text: &str) -> Result<Self> {
        let mut knobs = Self::default();
        for pair in text.split('+').filter(|pair| !pair.is_empty()) {
            let (key, number) = pair.split_once('=').context("a setting is key=number")?;
            let number: f64 = number
                .parse()
                .with_context(|| format!("{number:?} is no number"))?;
            *knobs.slot(key)? = number;
        }
        Ok(knobs)
    }

    fn slot(&mut self, key: &str) -> Result<&mut f64> {
        Ok(match key {
            "miss" => &mut self.miss,
            "flight" => &mut self.flight,
            "attention" => &mut self.attention,
            "product" => &mut self.product,
            "near" => &mut self.near,
            "nearshare" => &mut self.nearshare,
            "kv" => &mut self.kv,
            "barrier" => &mut self.barrier,
            "kvcount" => &mut self.kvcount,
            "room" => &mut self.room,
            "held" => &mut self.held,
            "progress" => &mut self.progress,
            "rankrate" => &mut self.rankrate,
            "output" => &mut self.output,
            "pending" => &mut self.pending,
            "anchor" => &mut self.anchor,
            "index" => &mut self.index,
            "evict" => &mut self.evict,
            "evictcap" => &mut self.evictcap,
            "wn" => &mut self.wn,
            "wncap" => &mut self.wncap,
            "wnlocal" => &mut self.wnlocal,
            "wage" => &mut self.wage,
            "tau" => &mut self.tau,
            "adapt" => &mut self.adapt,
            "session" => &mut self.session,
            _ => bail!("no knob {key:?}"),
        })
    }
}
