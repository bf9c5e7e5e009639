use super::*;

fn row(trace: &str, policy: &str, seed: u64, seconds: f64) -> Row {
    Row {
        trace: trace.to_string(),
        load: 0.9,
        engine: "dense".to_string(),
        policy: policy.to_string(),
        seed,
        ranks: 16,
        gateways: 1,
        gateways_share: false,
        requests: 10,
        requests_per_second: 3.5,
        figures: Figures {
            ttft_mean_s: seconds,
            hit_rate: 0.25,
            ..Figures::default()
        },
    }
}

fn rows() -> Vec<Row> {
    vec![
        row("a", "random", 1, 1.0),
        row("a", "random", 2, 3.0),
        row("a", "ours", 1, 1.0),
        row("a", "ours", 2, 1.0),
        row("b", "random", 1, 8.0),
        row("b", "ours", 1, 1.0),
    ]
}

#[test]
fn seeds_are_averaged_and_cases_weigh_the_same() {
    let rows = rows();
    let first = rows[0].case();
    assert_eq!(mean(&rows, &first, "random", |f| f.ttft_mean_s), Some(2.0));
    assert_eq!(mean(&rows, &first, "none", |f| f.ttft_mean_s), None);
    // 1/2 and 1/8: a quarter in the geometric mean.
    let relative = relative(&rows, "ours", "random", |f| f.ttft_mean_s).unwrap();
    assert!((relative - 0.25).abs() < 1e-12);
}

#[test]
fn the_table_has_a_part_for_each_case_with_a_line_for_each_policy() {
    let text = markdown(&rows());
    assert!(
        text.contains("as a multiple of random"),
        "no round robin was run"
    );
    assert!(text.contains("### a, dense, load 0.9") && text.contains("### b, dense, load 0.9"));
    assert!(text.contains("| random | 0.250 | 2.000 |"));
    assert!(text.contains("| ours | 0.250 | 1.000 |"));
    assert!(
        text.contains("| ours | 0.250 | - | - | 0.000 |"),
        "the summary"
    );
    assert_eq!(text.matches("| ours |").count(), 3);
}

#[test]
fn a_row_of_the_json_names_its_run_and_all_figures() {
    let value = serde_json::to_value(row("a", "ours", 1, 1.0)).unwrap();
    for column in [
        "trace",
        "load",
        "engine",
        "policy",
        "seed",
        "hit_rate",
        "ttft_mean_s",
        "ttft_p50_s",
        "ttft_p90_s",
        "ttft_p99_s",
        "tpot_p50_ms",
        "tpot_p99_ms",
        "goodput",
        "max_mean_load",
    ] {
        assert!(value.get(column).is_some(), "{column}");
    }
}

#[test]
fn a_table_without_rows_is_empty() {
    assert_eq!(markdown(&[]), "");
}
