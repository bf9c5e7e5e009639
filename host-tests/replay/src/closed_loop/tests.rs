use super::*;
use crate::matrix::Site;
use crate::profile::dense;
use crate::workload::{Trace, TraceRequest};

/// Conversations of growing prompts behind one start, each turn long after the one before.
fn matrix() -> Matrix {
    let request = |number: u64| {
        let (conversation, turn) = (number % 120, number / 120);
        let own = (0..8 + 14 * turn).map(|place| (1 + conversation) * 1000 + place);
        let blocks: Vec<u64> = (0..4).chain(own).collect();
        let tokens = blocks.len() as u64 * 512 + 9;
        TraceRequest::new(number as f64 * 20.0, tokens, 20, &blocks)
    };
    Matrix {
        traces: vec![Trace {
            name: "t".to_string(),
            requests: (0..360).map(request).collect(),
        }],
        engines: vec![dense()],
        loads: vec![0.7],
        policies: Vec::new(),
        seeds: vec![1],
        requests: 360,
        site: Site {
            ranks: 8,
            ranks_per_pod: 8,
            gateways: 1,
            gateways_share: false,
            report_delay_ms: 5.0,
            report_interval_ms: None,
            unknowns: Unknowns::default(),
        },
    }
}

#[test]
fn a_capacity_believed_too_small_costs_hits_until_answers_correct_it() {
    let conditions = run(&matrix(), 2, |_, _, _| ()).unwrap();
    let rate = |name: &str, policy| {
        let rows = conditions.iter().find(|(other, _)| *other == name);
        hit_rate(&rows.unwrap().1, policy)
    };
    let small = "a quarter of the capacity believed";
    let [corrected, open, perfect, _] = NAMES.map(|policy| rate(small, policy));
    assert!(open < 0.8 * perfect, "{open} and {perfect}");
    assert!(corrected > 0.95 * perfect, "{corrected} and {perfect}");
    let told = NAMES.map(|policy| rate("all is as told", policy));
    assert!(told.iter().all(|rate| *rate > 0.95 * told[2]), "{told:?}");
}

#[test]
fn there_is_a_line_for_each_condition() {
    let conditions: Vec<_> = conditions()
        .into_iter()
        .map(|(name, _)| (name, Vec::new()))
        .collect();
    let text = markdown(&conditions);
    assert_eq!(text.lines().count(), 2 + conditions.len());
    let columns = text.lines().map(|line| line.matches('|').count());
    assert!(columns.collect::<Vec<_>>().iter().all(|count| *count == 10));
}
