//! What the VMs of one Envoy tell each other, so that every worker decides as if it had picked for all.
//!
//! Each VM owns a *slot* by a lease that it renews with each beat, and the slot's *ring* of segments in shared data,
//! which it alone writes. The others look at a metric (0.1 us) before each pick and at each tick, and read the ring
//! where the metric moved. So a pick knows everything that was told before it.
//!
//! - Nothing waits for a reader: a ring has a fixed number of segments, and who falls behind begins again with the
//!   newest one, whose snapshot holds all loads. Only prompts can be missed that way.
//! - A VM that dies is forgotten with its lease. Its ring stays, and the slot's next owner goes on in it.
//! - A new VM takes the loads from the newest segments and then, a few segments at a time, the prompts that the rings
//!   still hold.
//! - Whatever else stands under the keys is skipped, and made good with the next beats.

mod lease;
mod news;
mod office;
mod outbox;
mod peer;
mod segment;
mod shared_memory;

use crate::{RankLoad, Spell};

pub use lease::{BEAT_MS, LEASE_MS};
pub use news::{News, RankKey, Sent, SentBlock, SentBlocks, Span, TakenBack, Totals};
pub use office::Office;
pub use peer::Heard;
pub use shared_memory::{SharedMemory, Stored};

use lease::Lease;
use outbox::Outbox;
use peer::Peer;
use segment::slot_key;

/// More slots than any Envoy has threads: a VM that finds none is on its own.
const MAX_SLOTS: u16 = 256;

/// Not a slot: what is told here is that a VM has joined.
const JOINED: u16 = MAX_SLOTS;

/// How often a race for a lease is run again: moving to another slot costs the others more than a few more calls.
const RACES: usize = 8;

/// Older segments read at each tick, in all: about 50 prompts, below half a millisecond.
const CAUGHT_UP_AT_ONCE: usize = 8;

/// A VM among its peers.
#[derive(Debug)]
pub struct Peers {
    vm: u64,
    outbox: Outbox,
    /// By slot.
    peers: Vec<Peer>,
    last_beat_ms: Option<u64>,
    /// What was told of VMs that joined when this one last looked at all slots.
    joined: Option<u64>,
}

impl Peers {
    /// A VM that knows no other yet; `vm` is its number, which no other has and which is not 0.
    #[must_use]
    pub fn new(vm: u64) -> Self {
        Self {
            vm,
            outbox: Outbox::new(vm),
            peers: Vec::new(),
            last_beat_ms: None,
            joined: None,
        }
    }

    /// This VM's slot; `None` while the others do not hear it.
    #[must_use]
    pub fn slot(&self) -> Option<u16> {
        self.outbox.slot()
    }

    /// Slots whose VM is alive, this one's not counted.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_alive()).count()
    }

    /// Whether there were VMs and none is alive any more: then nobody has anything on any rank. For a VM that has not
    /// joined; cost: one get for each slot.
    #[must_use]
    pub fn nobody_is_left(&self, memory: &impl SharedMemory, now_ms: u64) -> bool {
        let stored = (0..MAX_SLOTS).map(|slot| memory.get(&slot_key(slot)));
        let known = stored.take_while(|stored| stored.version.is_some());
        let mut leases = known.map(|stored| Lease::from_bytes(&stored.bytes).unwrap_or_default());
        leases.all(|lease| lease.is_over(now_ms))
    }

    /// What this VM has on ranks and holds.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.outbox.totals()
    }

    /// Renews the lease and looks at those of the others, if it is time; to be called often.
    pub fn beat(
        &mut self,
        memory: &mut impl SharedMemory,
        now_ms: u64,
        heard: &mut dyn FnMut(Heard<'_>),
    ) {
        let is_early = |last_ms: u64| (last_ms..last_ms.saturating_add(BEAT_MS)).contains(&now_ms);
        if self.last_beat_ms.is_some_and(is_early) {
            return;
        }
        self.last_beat_ms = Some(now_ms);
        if self
            .outbox
            .slot()
            .is_some_and(|slot| !self.renew(memory, slot, now_ms))
        {
            self.outbox.leave();
        }
        self.look_around(memory, now_ms, heard);
        self.outbox.repeat(memory);
    }

    /// Looks at all slots; who joins lets the others know, or they would first look with their next beat.
    fn look_around(
        &mut self,
        memory: &mut impl SharedMemory,
        now_ms: u64,
        heard: &mut dyn FnMut(Heard<'_>),
    ) {
        let had_joined = self.slot().is_some();
        self.joined = Some(memory.told(JOINED));
        for slot in 0..MAX_SLOTS {
            let stored = memory.get(&slot_key(slot));
            if stored.version.is_none() && self.slot().is_some() {
                break;
            }
            let lease = Lease::from_bytes(&stored.bytes).unwrap_or_default();
            self.look(memory, slot, stored.version, lease, now_ms, heard);
        }
        if self.slot().is_some() && !had_joined {
            self.outbox.repeat(memory);
            memory.tell(JOINED);
        }
    }

    /// Looks at one slot, and takes it if it is free and this VM has none.
    fn look(
        &mut self,
        memory: &mut impl SharedMemory,
        slot: u16,
        version: Option<u32>,
        lease: Lease,
        now_ms: u64,
        heard: &mut dyn FnMut(Heard<'_>),
    ) {
        self.grow(slot);
        let Some(peer) = self.peers.get_mut(usize::from(slot)) else {
            return;
        };
        // Above what this VM wrote itself, too: a number never stands for two contents.
        let number = lease.head.max(self.outbox.head()).saturating_add(1);
        let is_wanted = self.outbox.slot().is_none() && lease.is_over(now_ms);
        if is_wanted
            && claim(
                memory,
                slot,
                version,
                new_lease(self.vm, number, now_ms),
                now_ms,
            )
        {
            self.outbox.join(slot, number);
            peer.take(number, heard);
        } else if self.outbox.slot() != Some(slot) {
            bury(memory, slot, version, lease, now_ms);
            peer.beat(&lease, now_ms, heard);
        }
    }

    /// Reads what the others told since the last time. Cost: 0.1 us for each other VM where there is nothing new.
    pub fn hear(
        &mut self,
        memory: &mut impl SharedMemory,
        now_ms: u64,
        heard: &mut dyn FnMut(Heard<'_>),
    ) {
        if self.joined.is_some() && self.joined != Some(memory.told(JOINED)) {
            self.look_around(memory, now_ms, heard);
        }
        for peer in &mut self.peers {
            peer.hear(memory, heard);
        }
    }

    /// Reads a few older segments for their prompts; to be called at each tick.
    pub fn catch_up(&mut self, memory: &impl SharedMemory, heard: &mut dyn FnMut(Heard<'_>)) {
        let mut left = CAUGHT_UP_AT_ONCE;
        for peer in self.peers.iter_mut().filter(|peer| peer.is_behind()) {
            left = left.saturating_sub(peer.catch_up(memory, left, heard));
        }
    }

    /// Forgets what was heard, to hear it again with the next beat: there is someone new to listen.
    pub fn start_over(&mut self, heard: &mut dyn FnMut(Heard<'_>)) {
        self.last_beat_ms = None;
        for peer in &mut self.peers {
            peer.start_over(heard);
        }
    }

    /// How many requests this VM holds from now on.
    pub fn held(&mut self, requests: u32) {
        self.outbox.held(requests);
    }

    /// What this VM has on a rank from now on.
    pub fn load(&mut self, key: RankKey, load: RankLoad) {
        self.outbox.load(key, load);
    }

    /// A prompt went to a rank that was picked at `at_ms`.
    pub fn prompt(&mut self, key: RankKey, at_ms: u64, sent: &Sent) {
        self.outbox.prompt(key, at_ms, sent);
    }

    /// At `at_ms` it was found that a rank has not taken in a prompt that it was sent.
    pub fn taken_back(&mut self, key: RankKey, at_ms: u64, taken: &TakenBack) {
        self.outbox.taken_back(key, at_ms, taken);
    }

    /// A rank may have lost all that it held.
    pub fn doubted(&mut self, key: RankKey) {
        self.outbox.doubted(key);
    }

    /// A rank delivered what a request of this kind was expected to find: the others know the kind from now on.
    pub fn delivered(&mut self, key: RankKey, kind: u64) {
        self.outbox.delivered(key, kind);
    }

    /// A rank has lost what it was sent before `at_ms`; what it holds again is to be told after that.
    pub fn forgotten(&mut self, key: RankKey, at_ms: u64) {
        self.outbox.forgotten(key, at_ms);
    }

    /// How much room a rank was found to have, in 1,024ths.
    pub fn capacity(&mut self, key: RankKey, share: u32) {
        self.outbox.capacity(key, share);
    }

    /// An attempt on a rank failed, in the way of `code`.
    pub fn failed(&mut self, key: RankKey, code: u8, span: Span) {
        self.outbox.failed(key, code, span);
    }

    /// How a rank stands that is not plainly in.
    pub fn standing(&mut self, key: RankKey, spell: &Spell) {
        self.outbox.standing(key, spell);
    }

    /// A rank gave the first byte of a good answer.
    pub fn answered(&mut self, key: RankKey, span: Span, is_streamed: bool) {
        self.outbox.answered(key, span, is_streamed);
    }

    /// Whether anything was told since the last [`flush`](Self::flush).
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.outbox.is_dirty()
    }

    /// Lets the others see what was told since the last time; to be called at the end of each callback.
    ///
    /// A VM that was asleep for long does not write: its slot may belong to another by now, which the next beat tells.
    pub fn flush(&mut self, memory: &mut impl SharedMemory, now_us: u64) {
        let now_ms = now_us / 1000;
        let is_fresh = |last_ms: u64| now_ms.abs_diff(last_ms) < LEASE_MS;
        if self.last_beat_ms.is_some_and(is_fresh) {
            self.outbox.flush(memory, now_us);
        }
    }

    /// False when the slot is another's. A race that is lost to someone who left the lease as it was is run again.
    fn renew(&self, memory: &impl SharedMemory, slot: u16, now_ms: u64) -> bool {
        let key = slot_key(slot);
        let lease = new_lease(self.vm, self.outbox.head(), now_ms).to_bytes();
        let mut tries = (0..RACES).map(|_| memory.get(&key)).map_while(|stored| {
            let known = Lease::from_bytes(&stored.bytes);
            let is_own = known.is_some_and(|lease| lease.vm == self.vm);
            is_own.then(|| memory.set(&key, &lease, stored.version))
        });
        tries.any(|is_stored| is_stored)
    }

    fn grow(&mut self, slot: u16) {
        let known = u16::try_from(self.peers.len()).unwrap_or(u16::MAX);
        self.peers.extend((known..=slot).map(Peer::new));
    }
}

fn new_lease(vm: u64, head: u64, now_ms: u64) -> Lease {
    Lease {
        vm,
        expires_ms: now_ms.saturating_add(LEASE_MS),
        head,
    }
}

/// Ends a lease that is over for good: after the clock was set back it could seem to live again.
fn bury(memory: &impl SharedMemory, slot: u16, version: Option<u32>, lease: Lease, now_ms: u64) {
    if lease.vm != 0 && lease.is_over(now_ms) {
        let nobody = Lease {
            vm: 0,
            expires_ms: 0,
            head: lease.head,
        };
        memory.set(&slot_key(slot), &nobody.to_bytes(), version);
    }
}

/// Takes a free slot; false when another VM was faster.
fn claim(
    memory: &impl SharedMemory,
    slot: u16,
    version: Option<u32>,
    lease: Lease,
    now_ms: u64,
) -> bool {
    let key = slot_key(slot);
    if version.is_none() {
        // Nothing compares with an absent key: seed it, and race for the seeded value.
        memory.set(&key, &Lease::default().to_bytes(), None);
    }
    let mut tries = (0..RACES).map(|_| memory.get(&key)).map_while(|stored| {
        let known = Lease::from_bytes(&stored.bytes).unwrap_or_default();
        known
            .is_over(now_ms)
            .then(|| memory.set(&key, &lease.to_bytes(), stored.version))
    });
    tries.any(|is_stored| is_stored)
}

#[cfg(test)]
mod tests;
