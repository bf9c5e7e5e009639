//! What one call costs: loops inside one callback, which nothing interrupts but the machine.

use std::hint::black_box;

use crate::carrier::{Carriers, Kind, Received};
use crate::clock::now_ns;
use crate::load::event;
use crate::vm::Vm;

/// Short, so that what the owner of a mailbox does meanwhile on another core stays small.
const TIMES: u64 = 100;

/// Nanoseconds of each part.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Tell one event to all other workers.
    pub(crate) send: u64,
    /// Find nothing new from all other workers.
    pub(crate) look: u64,
    /// Take one event that came alone.
    pub(crate) receive: u64,
    /// Take one of many events that came since the last look.
    pub(crate) receive_of_many: u64,
}

/// Sends to the other workers, which have to be quiet, and receives from the own mirror, so that nothing waits for
/// another core.
pub(crate) fn measure(vm: &mut Vm, kind: Kind, bytes: usize) -> Cost {
    let event = event(bytes);
    let mut nothing = Received::default();
    vm.carriers.receive(kind, &mut nothing);
    Cost {
        send: timed(|| vm.carriers.send(kind, &event)),
        look: timed(|| vm.carriers.receive(kind, &mut nothing)),
        receive: received_one_by_one(&mut vm.mirror, kind, &event),
        receive_of_many: received_together(&mut vm.mirror, kind, &event),
    }
}

fn received_one_by_one(mirror: &mut Carriers, kind: Kind, event: &[u8]) -> u64 {
    let clock = timed(|| {
        black_box(now_ns());
    });
    let (mut received, mut spent) = (Received::default(), 0);
    for _ in 0..TIMES {
        mirror.send(kind, event);
        let start = now_ns();
        mirror.receive(kind, &mut received);
        spent += now_ns() - start;
    }
    assert_eq!(u64::try_from(received.events.len()), Ok(TIMES));
    (spent / TIMES).saturating_sub(clock)
}

fn received_together(mirror: &mut Carriers, kind: Kind, event: &[u8]) -> u64 {
    let mut received = Received::default();
    (0..TIMES).for_each(|_| mirror.send(kind, event));
    let start = now_ns();
    mirror.receive(kind, &mut received);
    let spent = now_ns() - start;
    assert_eq!(u64::try_from(received.events.len()), Ok(TIMES));
    spent / TIMES
}

fn timed(mut act: impl FnMut()) -> u64 {
    let start = now_ns();
    (0..TIMES).for_each(|_| act());
    (now_ns() - start) / TIMES
}
