//! The public traces, where they are beside this repository, or one that is made.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use host_tests::repository;

use crate::workload::{Trace, TraceRequest, read};

/// Where the public traces are looked for, from the top of the repository.
const TRACES: &str = "../shared/traces";
/// Their names there.
const TRACE_FILES: [&str; 3] = [
    "conversation_trace.jsonl",
    "synthetic_trace.jsonl",
    "weka_v6_global_b512_open.jsonl.zst",
];

/// Those that are there; when none is, one that is made, and says so.
///
/// # Errors
/// When one cannot be read.
pub fn read_all() -> Result<Vec<Trace>> {
    let folder = repository::root().join(TRACES);
    let paths = TRACE_FILES.iter().map(|file| folder.join(file));
    let paths: Vec<PathBuf> = paths.filter(|path| path.exists()).collect();
    if paths.is_empty() {
        eprintln!(
            "no trace in {}: replaying a made one of the same shape. For the public ones, put {} there, from \
             kvcache-ai/Mooncake (FAST25-release/traces), or name files by --trace",
            folder.display(),
            TRACE_FILES[..2].join(" and ")
        );
        return Ok(vec![generated()]);
    }
    paths.iter().map(|path| read(path)).collect()
}

/// An hour of the shape of the public conversation trace.
#[must_use]
pub fn generated() -> Trace {
    let made = host_tests::trace::generated(Duration::from_secs(3600), 1);
    let request = |request: &host_tests::trace::TraceRequest| {
        TraceRequest::new(
            request.at.as_secs_f64() * 1000.0,
            u64::from(request.input_tokens),
            u64::from(request.output_tokens),
            &request.blocks,
        )
    };
    Trace {
        name: "generated".to_string(),
        requests: made.iter().map(request).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_trace_comes_in_order_and_shares_prompts() {
        let trace = generated();
        let requests = &trace.requests;
        assert!(requests.len() > 10_000);
        assert!(requests.is_sorted_by(|one, next| one.at_ms <= next.at_ms));
        let first = requests.iter().filter_map(|request| request.blocks.first());
        let first: std::collections::HashSet<&u64> = first.collect();
        assert_eq!(first.len(), 1, "all begin alike");
    }
}
