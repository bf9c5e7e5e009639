//! The naive twin: the whole page as a string, lines split, labels in a map, every series kept, then each field looked up.

#![allow(
    clippy::cast_possible_truncation,
    clippy::string_slice,
    reason = "plain code that is easy to judge; what goes wrong fails the test"
)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

struct Series {
    name: String,
    labels: HashMap<String, String>,
    /// `None` when the line behind the name is broken.
    value: Option<f64>,
}

fn series(page: &[u8]) -> Vec<Series> {
    let page = String::from_utf8_lossy(page);
    let lines = page.split('\n').filter(|line| line.len() <= MAX_LINE_BYTES);
    lines.filter_map(one).collect()
}

fn one(line: &str) -> Option<Series> {
    let blanks = [' ', '\t', '\r'];
    let line = line.trim_matches(blanks);
    if line.is_empty() || line.starts_with('#') || line.starts_with('{') {
        return None;
    }
    let name: String = line
        .chars()
        .take_while(|c| *c != '{' && !blanks.contains(c))
        .collect();
    let rest = line[name.len()..].trim_start_matches(blanks);
    let parsed = match rest.strip_prefix('{') {
        Some(rest) => labels(rest),
        None => Some((HashMap::new(), rest.to_string())),
    };
    let (labels, rest) = parsed.map_or((HashMap::new(), String::new()), |parsed| parsed);
    let value = rest
        .trim_start_matches(blanks)
        .split(blanks)
        .next()
        .unwrap_or("");
    let value = value.parse().ok();
    // A line that breaks off may have been any series of its name.
    let labels = if value.is_some() {
        labels
    } else {
        HashMap::new()
    };
    Some(Series {
        name,
        labels,
        value,
    })
}

/// One character at a time, as the format's description says it.
fn labels(text: &str) -> Option<(HashMap<String, String>, String)> {
    let mut labels = HashMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| " \t\r".contains(*c)).is_some() {}
        if chars.next_if_eq(&'}').is_some() {
            return Some((labels, chars.collect()));
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        while chars.next_if(|c| " \t\r".contains(*c)).is_some() {}
        if name.is_empty() || chars.next()? != '=' {
            return None;
        }
        while chars.next_if(|c| " \t\r".contains(*c)).is_some() {}
        if chars.next()? != '"' {
            return None;
        }
        let mut value = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                c => value.push(c),
            }
        }
        labels.entry(name).or_insert(value);
        while chars.next_if(|c| " \t\r".contains(*c)).is_some() {}
        if chars.next_if_eq(&',').is_none() && chars.peek() != Some(&'}') {
            return None;
        }
    }
}

/// All values of a name whose series `wanted` wants; `None` if there is none, or one that is not `sound`.
fn values(
    series: &[Series],
    name: &str,
    wanted: impl Fn(&Series) -> bool,
    sound: impl Fn(f64) -> bool,
) -> Option<Vec<f64>> {
    let named = series.iter().filter(|one| one.name == name && wanted(one));
    let values: Vec<Option<f64>> = named
        .map(|one| one.value.filter(|value| sound(*value)))
        .collect();
    if values.is_empty() {
        return None;
    }
    values.into_iter().collect()
}

fn sum(series: &[Series], name: &str, wanted: impl Fn(&Series) -> bool) -> Option<u64> {
    let values = values(series, name, wanted, |value| (0.0..1e19).contains(&value))?;
    Some(values.iter().map(|value| *value as u64).sum())
}

fn total(series: &[Series], name: &str) -> Option<u64> {
    sum(series, name, |_| true)
}

fn peak(series: &[Series], name: &str) -> Option<f64> {
    let values = values(
        series,
        name,
        |_| true,
        |value| (0.0..f64::INFINITY).contains(&value),
    )?;
    values
        .into_iter()
        .map(|value| value.min(1.0).abs())
        .reduce(f64::max)
}

fn config(series: &[Series], name: &str, tokens: impl Fn(&Series) -> Option<u64>) -> Option<u64> {
    let named: Vec<Option<u64>> = series
        .iter()
        .filter(|one| one.name == name)
        .map(|one| one.value.and_then(|_| tokens(one)))
        .collect();
    (!named.is_empty()).then_some(())?;
    let tokens: Option<u64> = named.into_iter().sum();
    tokens.filter(|tokens| *tokens > 0)
}

fn label(series: &Series, name: &str) -> Option<u64> {
    series.labels.get(name)?.parse().ok()
}

fn twin(page: &[u8]) -> Report {
    let all = series(page);
    let all = &all[..];
    let is_total = |one: &Series| {
        one.labels
            .get("priority")
            .is_none_or(|priority| priority.is_empty())
    };
    let running = total(all, "vllm:num_requests_running")
        .or_else(|| sum(all, "sglang:num_running_reqs", is_total));
    let waiting = total(all, "vllm:num_requests_waiting")
        .or_else(|| sum(all, "sglang:num_queue_reqs", is_total));
    let kv_usage = [
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "sglang:token_usage",
    ]
    .into_iter()
    .find_map(|name| peak(all, name));
    let blocks =
        |one: &Series| label(one, "block_size")?.checked_mul(label(one, "num_gpu_blocks")?);
    let capacity_tokens = config(all, "vllm:cache_config_info", |one| {
        label(one, "kv_cache_size_tokens")
    })
    .or_else(|| config(all, "vllm:cache_config_info", blocks));
    let start_times = values(
        all,
        "process_start_time_seconds",
        |_| true,
        |value| (0.0005..1e15).contains(&value),
    );
    let prefix = [
        (
            "vllm:prefix_cache_queries_total",
            "vllm:prefix_cache_hits_total",
        ),
        (
            "vllm:gpu_prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_hits_total",
        ),
    ]
    .into_iter()
    .find_map(|(queried, hit)| total(all, queried).zip(total(all, hit)));
    let is_awake_series = |one: &Series| {
        one.labels
            .get("sleep_state")
            .is_none_or(|state| state == "awake")
    };
    let has_state = all
        .iter()
        .filter(|one| one.name == "vllm:engine_sleep_state")
        .all(|one| one.labels.contains_key("sleep_state"));
    let awake = values(all, "vllm:engine_sleep_state", is_awake_series, |value| {
        value == 0.0 || value == 1.0
    });
    Report {
        running: running.map(|count| count.min(u64::from(u32::MAX)) as u32),
        waiting: waiting.map(|count| count.min(u64::from(u32::MAX)) as u32),
        kv_usage,
        capacity_tokens,
        start_time_ms: start_times.map(|times| {
            times
                .iter()
                .map(|seconds| (seconds * 1000.0 + 0.5) as u64)
                .max()
                .unwrap()
        }),
        prompt_tokens_total: total(all, "vllm:prompt_tokens_total"),
        generation_tokens_total: total(all, "vllm:generation_tokens_total"),
        prefix_queried_tokens_total: prefix.map(|(queried, _)| queried),
        prefix_hit_tokens_total: prefix.map(|(_, hit)| hit),
        is_awake: awake
            .filter(|_| has_state)
            .map(|values| values.iter().all(|value| *value == 1.0)),
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:num_requests_waiting_by_reason",
        "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:prompt_tokens_created",
        "vllm:generation_tokens_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_hits_total",
        "vllm:engine_sleep_state",
        "vllm:cache_config_info",
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "sglang:token_usage",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "#vllm:num_requests_running",
        "# HELP vllm:num_requests_running",
    ])
}

/// Mostly sound, and every kind of unsound.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0u32..100).prop_map(|count| format!("{count}.0")),
        4 => (0.0f64..1.2).prop_map(|share| share.to_string()),
        4 => (0.0f64..1e12).prop_map(|number| format!("{number:e}")),
        2 => Just("1".to_string()),
        2 => Just("0.0".to_string()),
        1 => prop::sample::select(vec!["NaN", "+Inf", "-Inf", "-1", "1e400", "1e-9", "", "x", "3 17955", "3 # {a=\"b\"} 4", "-0"])
            .prop_map(str::to_string),
    ]
}

fn labels_text() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "engine",
        "model_name",
        "priority",
        "sleep_state",
        "block_size",
        "num_gpu_blocks",
        "kv_cache_size_tokens",
        "x",
    ]);
    let value = prop_oneof![
        4 => (0u32..2000).prop_map(|number| number.to_string()),
        1 => Just("0".to_string()),
        3 => Just("awake".to_string()),
        1 => Just(String::new()),
        1 => Just("None".to_string()),
        2 => r#"([a-z,={}#é ]|\\n|\\"|\\\\){0,8}"#,
    ];
    let label = (name, value).prop_map(|(name, value)| format!("{name}=\"{value}\""));
    let joined = (prop::collection::vec(label, 0..6), any::<bool>()).prop_map(|(labels, comma)| {
        labels.join(",") + if comma && !labels.is_empty() { "," } else { "" }
    });
    prop_oneof![
        1 => Just(String::new()),
        8 => joined.clone().prop_map(|labels| format!("{{{labels}}}")),
        1 => joined.clone().prop_map(|labels| format!("{{ {} }}", labels.replace("=\"", " = \""))),
        1 => joined.prop_map(|labels| format!("{{{labels}")),
    ]
}

fn line() -> impl Strategy<Value = String> {
    (
        name(),
        labels_text(),
        value(),
        prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n", " \n"]),
    )
        .prop_map(|(name, labels, value, end)| format!("{name}{labels} {value}{end}"))
}

proptest! {
    #[test]
    fn generated_pages_are_read_as_the_twin_reads_them(
        lines in prop::collection::vec(line(), 0..25),
        piece in 1usize..200,
    ) {
        let page = lines.concat();
        let expected = twin(page.as_bytes());
        prop_assert_eq!(of(&page), expected, "whole");
        prop_assert_eq!(report(page.as_bytes().chunks(piece)), expected, "by {}", piece);
    }

    #[test]
    fn one_series_of_each_name_is_read_as_the_twin_reads_it(
        labels in labels_text(),
        value in value(),
        name in name(),
    ) {
        let page = format!("{name}{labels} {value}");
        prop_assert_eq!(of(&page), twin(page.as_bytes()));
    }

    #[test]
    fn any_bytes_give_one_report_however_they_are_split(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        page in prop::sample::select(vec![2usize, 3, 4, 5, 6, 7, 8]),
        at in any::<prop::sample::Index>(),
        piece in 1usize..100,
    ) {
        let (_, page) = PAGES[page];
        let at = at.index(page.len());
        let mut mixed = page[..at].to_vec();
        mixed.append(&mut bytes);
        mixed.extend_from_slice(&page[at..]);
        let whole = report([&mixed[..]]);
        prop_assert_eq!(report(mixed.chunks(piece)), whole);
        prop_assert!(whole.kv_usage.is_none_or(|share| (0.0..=1.0).contains(&share)));
    }
}

#[test]
fn the_pages_of_vllm_are_read_as_the_twin_reads_them() {
    for (name, page) in PAGES
        .into_iter()
        .filter(|(name, _)| !["sglang", "trtllm", "triton"].contains(name))
    {
        assert_eq!(report([page]), twin(page), "{name}");
    }
}
