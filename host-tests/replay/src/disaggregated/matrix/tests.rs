use super::*;
use crate::matrix::Site;
use crate::profile::{dense, wide_ep};
use crate::unknowns::Unknowns;
use crate::workload::{Trace, TraceRequest};

fn matrix() -> PairMatrix {
    let request = |number: u64| {
        let blocks = [number % 7, 100 + number % 7];
        TraceRequest::new(number as f64 * 50.0, 2000, 20, &blocks)
    };
    PairMatrix {
        all: Matrix {
            traces: vec![Trace {
                name: "t".to_string(),
                requests: (0..120).map(request).collect(),
            }],
            engines: vec![dense(), wide_ep()],
            loads: vec![0.5, 0.9],
            policies: vec!["round-robin".to_string(), "ours".to_string()],
            seeds: vec![1],
            requests: 60,
            site: Site {
                ranks: 16,
                ranks_per_pod: 2,
                gateways: 1,
                gateways_share: false,
                report_delay_ms: 5.0,
                report_interval_ms: None,
                unknowns: Unknowns::default(),
            },
        },
        ratios: vec!["2:1".parse().unwrap(), "1:2".parse().unwrap()],
        transfer: Transfer::NIXL,
    }
}

#[test]
fn there_is_a_row_for_everything_in_order_whatever_the_threads() {
    let rows = matrix().run(1, |_, _, _| ()).unwrap();
    assert_eq!(rows, matrix().run(3, |_, _, _| ()).unwrap());
    let engines: Vec<&str> = rows
        .iter()
        .step_by(4)
        .map(|row| row.engine.as_str())
        .collect();
    assert_eq!(
        engines,
        ["dense 2:1", "dense 1:2", "wide-ep 2:1", "wide-ep 1:2"]
    );
    assert_eq!(rows.len(), 4 * 2 * 2);
    let first: Vec<(&str, f64)> = rows[..3]
        .iter()
        .map(|row| (row.policy.as_str(), row.load))
        .collect();
    assert_eq!(
        first,
        [("round-robin", 0.5), ("ours", 0.5), ("round-robin", 0.9)]
    );
    let is_whole = |row: &Row| row.ranks == 3 && row.requests == 60 && row.figures.apart.is_some();
    assert!(rows.iter().all(is_whole));
}

#[test]
fn a_policy_that_is_not_there_is_an_error() {
    let mut matrix = matrix();
    matrix.all.policies.push("epp-guide-prefill".to_string());
    assert!(matrix.run(2, |_, _, _| ()).is_err());
}
