//! What the harness asks of a worker, as the path of a request; the answer is JSON.
//!
//! | path | answer |
//! | --- | --- |
//! | `/who` | the worker's number, null before `/join` |
//! | `/join?worker=0` | opens the worker's ends of all carriers |
//! | `/meet?workers=4` | finds those of the others, once all have joined |
//! | `/cost?carrier=ring&bytes=64` | nanoseconds of single calls |
//! | `/listen?carrier=ring&bytes=64` | receives from now on |
//! | `/pick`, `/progress` | sends the event of a pick, or of a first byte or an end |
//! | `/figures` | what was sent and received since `/listen`, and how long each event took |
//! | `/flood?carrier=ring&bytes=64&events=1000` | sends events at once |
//! | `/trap` | ends this VM as a panic does |

use std::str::FromStr;

use crate::carrier::{Carriers, Kind};
use crate::cost;
use crate::load::{Load, event};
use crate::vm::Vm;

/// Above all numbers of workers.
const MIRROR: u32 = 1000;

/// Acts on a path and answers.
pub(crate) fn answer(vm: &mut Vm, path: &str) -> String {
    let (command, query) = path.split_once('?').unwrap_or((path, ""));
    match command {
        "/who" => return vm.worker.map_or("null".into(), |worker| worker.to_string()),
        "/join" => join(vm, field(query, "worker")),
        "/meet" => meet(vm, field(query, "workers")),
        "/cost" => return cost_of(vm, kind(query), field(query, "bytes")),
        "/listen" => {
            vm.load = Load::listening(kind(query), field(query, "bytes"), &mut vm.carriers)
        }
        "/pick" => vm.load.pick(&mut vm.carriers),
        "/progress" => vm.load.progress(&mut vm.carriers),
        "/figures" => {
            vm.load.finish(&mut vm.carriers);
            return figures(&vm.load);
        }
        "/flood" => {
            let event = event(field(query, "bytes"));
            let events: u32 = field(query, "events");
            (0..events).for_each(|_| vm.carriers.send(kind(query), &event));
        }
        "/trap" => panic!("asked to"),
        _ => return format!("no command {command:?}"),
    }
    "null".into()
}

fn join(vm: &mut Vm, worker: u32) {
    vm.worker = Some(worker);
    vm.carriers = Carriers::open(worker);
    vm.mirror = Carriers::open(MIRROR + worker);
    vm.mirror.meet(&[MIRROR + worker]);
}

fn meet(vm: &mut Vm, workers: u32) {
    let others = (0..workers).filter(|worker| Some(*worker) != vm.worker);
    vm.carriers.meet(&others.collect::<Vec<_>>());
}

fn cost_of(vm: &mut Vm, kind: Kind, bytes: usize) -> String {
    let cost = cost::measure(vm, kind, bytes);
    format!(
        r#"{{"send": {}, "look": {}, "receive": {}, "receive_of_many": {}}}"#,
        cost.send, cost.look, cost.receive, cost.receive_of_many
    )
}

fn figures(load: &Load) -> String {
    format!(
        r#"{{"sent": {}, "received": {}, "lost": {}, "delays_us": {:?}, "looks_ns": {:?}, "ticks_us": {:?}}}"#,
        load.sent,
        load.delays_us.len(),
        load.received.lost,
        load.delays_us,
        load.looks_ns,
        load.ticks_us
    )
}

fn kind(query: &str) -> Kind {
    let name: String = field(query, "carrier");
    Kind::named(&name)
}

/// A field of the query; what it has when it is not there.
fn field<T: FromStr + Default>(query: &str, name: &str) -> T {
    let fields = query.split('&').filter_map(|field| field.split_once('='));
    let value = fields
        .filter(|(field, _)| *field == name)
        .map(|(_, value)| value)
        .next();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}
