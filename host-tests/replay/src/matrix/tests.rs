use super::*;
use crate::profile::{dense, wide_ep};
use crate::workload::TraceRequest;

fn matrix() -> Matrix {
    let request = |number: u64| {
        TraceRequest::new(
            number as f64 * 50.0,
            2000,
            20,
            &[number % 7, 100 + number % 7],
        )
    };
    Matrix {
        traces: vec![Trace {
            name: "t".to_string(),
            requests: (0..200).map(request).collect(),
        }],
        engines: vec![dense(), wide_ep()],
        loads: vec![0.5, 0.9],
        policies: vec!["random".to_string(), "ours".to_string()],
        seeds: vec![1, 2],
        requests: 120,
        site: Site {
            ranks: 4,
            ranks_per_pod: 2,
            gateways: 1,
            gateways_share: false,
            report_delay_ms: 5.0,
            report_interval_ms: None,
            unknowns: Unknowns::default(),
        },
    }
}

#[test]
fn there_is_a_row_for_everything_in_order_whatever_the_threads() {
    let rows = matrix().run(1, |_, _, _| ()).unwrap();
    assert_eq!(rows.len(), 2 * 2 * 2 * 2);
    assert_eq!(rows, matrix().run(3, |_, _, _| ()).unwrap());
    let policies: Vec<&str> = rows.iter().map(|row| row.policy.as_str()).collect();
    assert_eq!(policies[..3], ["random", "ours", "random"]);
    assert_eq!((rows[0].load, rows[2].load, rows[4].seed), (0.5, 0.9, 2));
    assert_eq!(
        (rows[7].engine.as_str(), rows[8].engine.as_str()),
        ("dense", "wide-ep")
    );
    assert!(
        rows.iter()
            .all(|row| row.requests == 120 && row.figures.hit_rate > 0.0)
    );
    let rate = rows[2].requests_per_second / rows[0].requests_per_second;
    assert!((rate - 1.8).abs() < 1e-9, "one saturation for all loads");
}

#[test]
fn progress_counts_to_the_end() {
    let last = std::cell::Cell::new((0, 0));
    matrix().run(2, |_, done, of| last.set((done, of))).unwrap();
    assert_eq!(last.get(), (16, 16));
}

#[test]
fn a_policy_that_is_not_there_is_an_error() {
    let mut matrix = matrix();
    matrix.policies.push("none".to_string());
    assert!(matrix.run(2, |_, _, _| ()).is_err());
}
