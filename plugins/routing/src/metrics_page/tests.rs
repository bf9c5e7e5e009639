use super::lines::MAX_LINE_BYTES;
use super::*;

mod splits;
mod twin;

const PAGES: [(&str, &[u8]); 9] = [
    (
        "idle",
        include_bytes!("../../corpus/metrics/vllm-0.25.1-idle.txt"),
    ),
    (
        "after",
        include_bytes!("../../corpus/metrics/vllm-0.25.1-after.txt"),
    ),
    (
        "several",
        include_bytes!("../../corpus/metrics/several_engines.txt"),
    ),
    ("0.10", include_bytes!("../../corpus/metrics/vllm_0.10.txt")),
    ("0.11", include_bytes!("../../corpus/metrics/vllm_0.11.txt")),
    ("sglang", include_bytes!("../../corpus/metrics/sglang.txt")),
    (
        "trtllm",
        include_bytes!("../../corpus/metrics/trtllm_serve.txt"),
    ),
    ("triton", include_bytes!("../../corpus/metrics/triton.txt")),
    ("odd", include_bytes!("../../corpus/metrics/odd.txt")),
];
const BROKEN: &[u8] = include_bytes!("../../corpus/metrics/broken.txt");

fn report<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Report {
    let mut page = MetricsPage::default();
    pieces.into_iter().for_each(|piece| page.feed(piece));
    page.finish()
}

fn of(page: &str) -> Report {
    report([page.as_bytes()])
}

fn of_file(name: &str) -> Report {
    let (_, page) = PAGES.iter().find(|(file, _)| *file == name).unwrap();
    report([*page])
}

#[test]
fn a_recorded_page_of_an_idle_rank() {
    // Read off the page by eye.
    let expected = Report {
        running: Some(0),
        waiting: Some(0),
        kv_usage: Some(0.0),
        capacity_tokens: Some(219_680),
        start_time_ms: Some(1_795_578_310_370),
        prompt_tokens_total: Some(0),
        generation_tokens_total: Some(0),
        prefix_queried_tokens_total: Some(0),
        prefix_hit_tokens_total: Some(0),
        is_awake: Some(true),
    };
    assert_eq!(of_file("idle"), expected);
}

#[test]
fn a_recorded_page_after_requests() {
    let expected = Report {
        prompt_tokens_total: Some(156_658),
        generation_tokens_total: Some(108),
        prefix_queried_tokens_total: Some(156_658),
        prefix_hit_tokens_total: Some(78_640),
        ..of_file("idle")
    };
    assert_eq!(of_file("after"), expected);
}

#[test]
fn several_engines_are_summed_and_the_fullest_counts() {
    let expected = Report {
        running: Some(37 + 5),
        waiting: Some(4 + 1),
        kv_usage: Some(0.412_968_300_180_8),
        capacity_tokens: Some(64 * (13_273 + 13_000 + 13_200)),
        start_time_ms: None,
        prompt_tokens_total: Some(1_285_000),
        generation_tokens_total: Some(40_300),
        prefix_queried_tokens_total: Some(1_285_000),
        prefix_hit_tokens_total: Some(902_400),
        is_awake: Some(false),
    };
    assert_eq!(of_file("several"), expected);
}

#[test]
fn older_names_of_vllm_are_known() {
    let expected = Report {
        running: Some(2),
        waiting: Some(1),
        kv_usage: Some(0.5),
        capacity_tokens: Some(1600),
        start_time_ms: Some(1_750_000_000_000),
        prompt_tokens_total: Some(1000),
        prefix_queried_tokens_total: Some(1000),
        prefix_hit_tokens_total: Some(640),
        ..Report::default()
    };
    assert_eq!(of_file("0.10"), expected);
}

#[test]
fn where_old_and_new_names_stand_together_the_new_ones_win() {
    let expected = Report {
        kv_usage: Some(0.5),
        prefix_queried_tokens_total: Some(20),
        prefix_hit_tokens_total: Some(7),
        ..Report::default()
    };
    assert_eq!(of_file("0.11"), expected);
}

#[test]
fn sglang_is_known_and_its_priorities_are_not_counted_twice() {
    let expected = Report {
        running: Some(6),
        waiting: Some(3),
        kv_usage: Some(0.28),
        capacity_tokens: Some(120_001),
        prompt_tokens_total: Some(8000),
        generation_tokens_total: Some(90),
        prefix_queried_tokens_total: Some(8000),
        prefix_hit_tokens_total: Some(5120),
        ..Report::default()
    };
    assert_eq!(of_file("sglang"), expected);
}

#[test]
fn sglangs_pages_say_its_capacity_when_it_does_not() {
    let page = r#"sglang:cache_config_info{num_pages="1875",page_size="64"} 1"#;
    assert_eq!(of(page).capacity_tokens, Some(120_000));
}

#[test]
fn both_servers_of_tensorrt_llm_are_known() {
    let expected = Report {
        running: Some(8),
        waiting: Some(2),
        kv_usage: Some(0.125),
        capacity_tokens: Some(6239 * 64),
        prompt_tokens_total: Some(777),
        generation_tokens_total: Some(33),
        ..Report::default()
    };
    assert_eq!(of_file("trtllm"), expected);
    let expected = Report {
        running: Some(5),
        waiting: Some(3),
        kv_usage: Some(0.5),
        capacity_tokens: Some(6400),
        ..Report::default()
    };
    assert_eq!(of_file("triton"), expected);
}

#[test]
fn every_spelling_of_the_format_is_read() {
    let expected = Report {
        running: Some(3),
        waiting: Some(7),
        kv_usage: Some(0.25),
        capacity_tokens: Some(160),
        start_time_ms: Some(1500),
        prompt_tokens_total: Some(12),
        generation_tokens_total: Some(34),
        ..Report::default()
    };
    assert_eq!(of_file("odd"), expected);
}

#[test]
fn what_makes_no_sense_is_unknown() {
    assert_eq!(report([BROKEN]), Report::default());
    for page in ["", "\n", "#", "<html>", "404 page not found\n", "{\"a\":1}"] {
        assert_eq!(of(page), Report::default(), "{page}");
    }
}

#[test]
fn one_unreadable_series_leaves_no_part_of_a_sum() {
    for line in [
        "vllm:num_requests_running{engine=\"1\"} NaN",
        "vllm:num_requests_running{engine=\"1\"} -1",
        "vllm:num_requests_running{engine=\"1\"} Infinity",
        "vllm:num_requests_running{engine=\"1\"}",
        "vllm:num_requests_running{engine=\"1} 5",
        "vllm:num_requests_running",
    ] {
        let good = "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_waiting 4";
        for page in [format!("{good}\n{line}"), format!("{line}\n{good}")] {
            let report = of(&page);
            assert_eq!((report.running, report.waiting), (None, Some(4)), "{page}");
        }
    }
}

#[test]
fn an_older_name_stands_in_for_a_newer_one_that_says_nothing() {
    let page = "vllm:kv_cache_usage_perc NaN\nvllm:gpu_cache_usage_perc 0.5\n";
    assert_eq!(of(page).kv_usage, Some(0.5));
}

#[test]
fn usage_stays_within_its_range() {
    for (value, expected) in [
        ("1.0", Some(1.0)),
        ("1.0000000000000002", Some(1.0)),
        ("37.5", Some(1.0)),
        ("1e-300", Some(1e-300)),
        ("-0", Some(0.0)),
        ("-1e-300", None),
        ("+Inf", None),
        ("NaN", None),
    ] {
        let report = of(&format!("vllm:kv_cache_usage_perc {value}"));
        assert_eq!(
            report.kv_usage.map(f64::to_bits),
            expected.map(f64::to_bits),
            "{value}"
        );
    }
}

#[test]
fn capacity_is_what_the_server_says_before_what_its_blocks_hold() {
    let capacity =
        |labels: &str| of(&format!("vllm:cache_config_info{{{labels}}} 1.0")).capacity_tokens;
    let blocks = r#"block_size="16",num_gpu_blocks="100""#;
    assert_eq!(
        capacity(&format!(r#"{blocks},kv_cache_size_tokens="900""#)),
        Some(900)
    );
    assert_eq!(
        capacity(&format!(r#"{blocks},kv_cache_size_tokens="None""#)),
        Some(1600)
    );
    assert_eq!(capacity(blocks), Some(1600));
    assert_eq!(capacity(r#"block_size="16",num_gpu_blocks="None""#), None);
    assert_eq!(capacity(r#"block_size="16""#), None);
    assert_eq!(
        capacity(r#"block_size="4294967296",num_gpu_blocks="4294967296""#),
        None
    );
}

#[test]
fn the_two_ways_to_say_a_capacity_are_not_summed_into_one() {
    let page = r#"
vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="900",num_gpu_blocks="100"} 1
vllm:cache_config_info{block_size="16",engine="1",kv_cache_size_tokens="None",num_gpu_blocks="10"} 1
"#;
    assert_eq!(of(page).capacity_tokens, Some(1760));
}

#[test]
fn a_capacity_of_0_is_not_set_yet() {
    let gauges = "trtllm_kv_cache_max_blocks 0.0\ntrtllm_kv_cache_tokens_per_block 64.0\n";
    assert_eq!(of(gauges).capacity_tokens, None);
    let labels = r#"block_size="16",kv_cache_size_tokens="0",num_gpu_blocks="100""#;
    let page = format!("vllm:cache_config_info{{{labels}}} 1");
    assert_eq!(of(&page).capacity_tokens, Some(1600));
}

#[test]
fn blocks_of_different_sizes_count_as_the_smallest() {
    let page = "trtllm_kv_cache_max_blocks 10\ntrtllm_kv_cache_max_blocks 20\n\
                trtllm_kv_cache_tokens_per_block 32\ntrtllm_kv_cache_tokens_per_block 64\n";
    assert_eq!(of(page).capacity_tokens, Some(30 * 32));
}

#[test]
fn a_line_that_could_be_any_of_several_counts_makes_all_of_them_unknown() {
    let good = "nv_trt_llm_request_metrics{request_type=\"waiting\"} 3\n\
                nv_trt_llm_request_metrics{request_type=\"scheduled\"} 5\n";
    assert_eq!((of(good).waiting, of(good).running), (Some(3), Some(5)));
    for line in [
        "nv_trt_llm_request_metrics 4",
        "nv_trt_llm_request_metrics{request_type=\"wai",
    ] {
        let report = of(&format!("{good}{line}"));
        assert_eq!((report.waiting, report.running), (None, None), "{line}");
    }
    let page = "vllm:engine_sleep_state{sleep_state=\"awake\"} 1\nvllm:engine_sleep_state 0\n";
    assert_eq!(of(page).is_awake, None);
}

#[test]
fn hits_without_look_ups_are_no_rate() {
    let report = of("vllm:prefix_cache_hits_total 5\nvllm:gpu_prefix_cache_queries_total 9\n");
    let both = (
        report.prefix_queried_tokens_total,
        report.prefix_hit_tokens_total,
    );
    assert_eq!(both, (None, None));
}

#[test]
fn each_field_comes_from_one_server() {
    let page = "sglang:num_running_reqs 5\nvllm:num_requests_running 3\nsglang:num_queue_reqs 2\n";
    let report = of(page);
    assert_eq!((report.running, report.waiting), (Some(3), Some(2)));
}

#[test]
fn the_last_process_to_start_counts() {
    let page =
        "process_start_time_seconds{pid=\"1\"} 20.25\nprocess_start_time_seconds{pid=\"2\"} 10\n";
    assert_eq!(of(page).start_time_ms, Some(20_250));
    assert_eq!(of("process_start_time_seconds 0.0").start_time_ms, None);
    assert_eq!(of("process_start_time_seconds -5").start_time_ms, None);
}

#[test]
fn counts_stop_at_their_limits() {
    let page = "vllm:num_requests_running 1e15\nvllm:prompt_tokens_total 1.8e19\nvllm:prompt_tokens_total 1.8e19\n";
    let report = of(page);
    assert_eq!(
        (report.running, report.prompt_tokens_total),
        (Some(u32::MAX), Some(u64::MAX))
    );
}

#[test]
fn an_overlong_line_is_left_out_and_the_next_one_read() {
    let label = "x".repeat(MAX_LINE_BYTES);
    let page =
        format!("vllm:num_requests_waiting{{a=\"{label}\"}} 5\nvllm:num_requests_running 3\n");
    assert_eq!((of(&page).waiting, of(&page).running), (None, Some(3)));
    assert_eq!(report(page.as_bytes().chunks(100)), of(&page));
}

/// By hand: `cargo test --release -p routing --lib -- --ignored --nocapture reading_speed`.
#[test]
#[ignore = "prints how fast it is"]
#[allow(
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "it measures"
)]
fn reading_speed() {
    let (_, page) = PAGES[1];
    for piece in [page.len(), 16_384, 1024] {
        let best_ns = (0..2000)
            .map(|_| {
                let start = std::time::Instant::now();
                std::hint::black_box(report(std::hint::black_box(page).chunks(piece)));
                start.elapsed().as_nanos()
            })
            .min()
            .unwrap();
        let bytes = page.len();
        println!(
            "{bytes} bytes by {piece}: {best_ns} ns, {:.3} ns a byte",
            best_ns as f64 / bytes as f64
        );
    }
}
