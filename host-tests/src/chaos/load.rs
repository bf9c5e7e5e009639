//! Steady traffic with shared prefixes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::caller::{Call, Caller, Question};
use crate::prompt_text::chat_request;
use crate::replay::Progress;
use crate::trace::{self, BLOCK_TOKENS, TraceRequest};

/// Requests a second of a trace as [`trace::generated`] makes it.
const TRACE_RATE: f64 = 3.34;
const SEED: u64 = 7;
/// Short prompts and answers: requests must come often enough to show what happens within a second, on two cores.
const MAX_BLOCKS: usize = 10;
const OUTPUT_TOKENS: std::ops::RangeInclusive<u32> = 10..=60;
/// Of so many requests one is answered in one piece: such an answer can be asked for again until its very end.
const WHOLE_ANSWERS: u64 = 4;

/// Requests for so many seconds at so many a second; their times are those at which to send them.
#[must_use]
pub fn requests(seconds: f64, per_second: f64) -> Vec<TraceRequest> {
    let speed = per_second / TRACE_RATE;
    let trace = trace::generated(Duration::from_secs_f64(seconds * speed), SEED);
    trace
        .into_iter()
        .map(|request| shortened(request, speed))
        .collect()
}

fn shortened(mut request: TraceRequest, speed: f64) -> TraceRequest {
    request.blocks.truncate(MAX_BLOCKS);
    let most_tokens = u32::try_from(request.blocks.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(BLOCK_TOKENS);
    TraceRequest {
        at: request.at.div_f64(speed),
        input_tokens: request.input_tokens.min(most_tokens),
        output_tokens: request
            .output_tokens
            .clamp(*OUTPUT_TOKENS.start(), *OUTPUT_TOKENS.end()),
        blocks: request.blocks,
    }
}

/// The question of a request of this number.
///
/// # Errors
/// As [`Question::chat`].
pub fn question(number: u64, request: &TraceRequest, model: &str) -> Result<Question> {
    let streams = !number.is_multiple_of(WHOLE_ANSWERS);
    Question::chat(&chat_request(request, model), streams)
}

/// Sends each request when it is due, whether or not earlier ones were answered, and waits for all.
///
/// # Errors
/// As [`question`].
pub async fn send(
    caller: Caller,
    model: String,
    requests: Vec<TraceRequest>,
    progress: Arc<Progress>,
) -> Result<Vec<Call>> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (number, request) in (1..).zip(requests) {
        let question = question(number, &request, &model)?;
        sleep_until(start + request.at).await;
        progress.sent.fetch_add(1, Ordering::Relaxed);
        let (caller, progress) = (caller.clone(), progress.clone());
        running.spawn(async move {
            let call = caller.call(number, &question, &[]).await;
            progress.done.fetch_add(1, Ordering::Relaxed);
            call
        });
    }
    Ok(running.join_all().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_as_dense_as_asked_for_and_shares_prefixes() {
        let requests = requests(20.0, 50.0);
        assert!((900..1100).contains(&requests.len()), "{}", requests.len());
        assert!(
            requests
                .iter()
                .all(|request| request.at < Duration::from_secs(20))
        );
        assert!(
            requests
                .iter()
                .all(|request| request.input_tokens <= 5120 && request.output_tokens <= 60)
        );
        let share = trace::repeated_share(&requests);
        assert!(share > 0.4, "{share}");
    }
}
