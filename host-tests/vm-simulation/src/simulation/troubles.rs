//! Troubles that come by themselves, not on an occasion.

use super::Simulation;
use crate::envoy::Envoy;
use crate::ranks::{Mood, Ranks};
use crate::schedule::{Event, MS};
use crate::vm_record::Plugin;

/// What another plugin could take for its own.
const PREFIX: &[u8] = b"rank_router";
/// Names that it makes up; few, because keys are never removed.
const MADE_UP: [&[u8]; 4] = [
    b"rank_router",
    b"rank_router.",
    b"rank_router.vm",
    b"rank_router.\xff\x00",
];
/// How far the wall clock may jump, either way, in ms.
const JUMPS_MS: [i64; 5] = [30, 1_000, 20_000, 600_000, 3 * 3_600_000];

/// Whether an event is a trouble that repeats itself.
pub(super) fn is_trouble(event: &Event) -> bool {
    matches!(
        event,
        Event::Junk | Event::ClockJump | Event::Stall | Event::RankMood | Event::Update(_)
    )
}

/// All ranks are well again.
pub(super) fn mend(ranks: &mut Ranks) {
    for rank in &mut ranks.ranks {
        rank.mood = Mood::Well;
        rank.is_listed = true;
    }
}

impl Simulation {
    pub(super) fn begin_troubles(&mut self) {
        self.plan_update();
        for event in [Event::Junk, Event::ClockJump, Event::Stall, Event::RankMood] {
            plan_after(self.envoy(), 0, event);
        }
    }

    pub(super) fn plan_update(&mut self) {
        let gap_ms = self.envoy().chaos.update_gap_ms;
        if gap_ms > 0 && !self.is_resting {
            let plugin = self.envoy().chance.pick(&Plugin::CHAIN);
            let wait_ns = self.envoy().chance.between(0, gap_ms * MS);
            self.envoy().after(wait_ns, Event::Update(plugin));
        }
    }

    pub(super) fn trouble(&mut self, event: &Event) {
        match event {
            Event::Junk => write_junk(self.envoy()),
            Event::ClockJump => jump(self.envoy()),
            Event::Stall => return self.stall(),
            _ => change_mood(self.envoy()),
        }
        plan_after(self.envoy(), 0, event.clone());
    }

    fn stall(&mut self) {
        let most = self.threads.len() - 1;
        let envoy = self.envoy();
        envoy.findings.count("stalls");
        let thread = envoy.chance.length(0, most);
        let stall_ns = envoy.chance.between(0, envoy.chaos.longest_stall_ns);
        let until_ns = envoy.clock.now_ns() + stall_ns;
        // One at a time, or a thread might never run again.
        plan_after(envoy, stall_ns, Event::Stall);
        self.threads[thread].stalled_until_ns = until_ns;
    }
}

fn plan_after(envoy: &mut Envoy, wait_ns: u64, event: Event) {
    let gap_ms = match event {
        Event::Junk => envoy.chaos.junk_gap_ms,
        Event::ClockJump => envoy.chaos.jump_gap_ms,
        Event::Stall => envoy.chaos.stall_gap_ms,
        _ => envoy.chaos.mood_gap_ms,
    };
    if gap_ms > 0 {
        let gap_ns = envoy.chance.between(0, 2 * gap_ms * MS);
        envoy.after(wait_ns + gap_ns, event);
    }
}

/// Writes something else under one of our keys.
fn write_junk(envoy: &mut Envoy) {
    envoy.findings.count("junk written");
    let mut keys = envoy.shared_data.keys();
    keys.retain(|key| key.starts_with(PREFIX));
    keys.extend(MADE_UP.map(<[u8]>::to_vec));
    let key = envoy.chance.pick(&keys);
    let value = envoy
        .shared_data
        .get(&key)
        .map_or_else(|_| Vec::new(), |(value, _)| value);
    let junk = spoil(envoy, value);
    envoy.shared_data.set_by_another(&key, &junk);
}

fn spoil(envoy: &mut Envoy, mut value: Vec<u8>) -> Vec<u8> {
    let chance = &mut envoy.chance;
    match chance.between(0, 5) {
        0 => Vec::new(),
        1 => chance.bytes(8),
        2 => vec![0xff; 8],
        3 => vec![0; 70_000],
        4 => {
            value.truncate(chance.length(0, value.len()));
            value
        }
        _ => {
            let place = chance.length(0, value.len());
            let flip = chance.pick(&[1, 0x80, 0xff]);
            if let Some(byte) = value.get_mut(place) {
                *byte ^= flip;
            }
            value
        }
    }
}

fn jump(envoy: &mut Envoy) {
    envoy.findings.count("clock jumps");
    let by_ms = envoy.chance.pick(&JUMPS_MS) * envoy.chance.pick(&[-1, 1]);
    envoy.clock.jump(by_ms);
}

fn change_mood(envoy: &mut Envoy) {
    envoy.findings.count("changes of a rank's mood");
    let place = envoy.chance.length(0, envoy.ranks.ranks.len() - 1);
    let mood = envoy.chance.pick(&Mood::ALL);
    let is_listed = envoy.chance.hits(0.8);
    let rank = &mut envoy.ranks.ranks[place];
    rank.mood = mood;
    rank.is_listed = is_listed;
}
