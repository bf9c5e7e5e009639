//! Clients that want to steer, blind or starve the gateway, with nothing but its address.

use crate::chance::Chance;
use crate::schedule::MS;
use crate::stream::{ClientPlan, ClientStep};
use crate::traffic::{self, SPOOFED, SPOOFED_VALUE};

/// How many of a seed's clients are hostile; some seeds have none.
const SHARES: [f64; 5] = [0.0, 0.0, 0.2, 0.5, 0.8];

/// How a hostile client goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Announces a body of a terabyte, sends its first bytes and nothing more.
    Announces,
    /// Sends a chat of thousands of parts that are no text, each of a few bytes.
    ManyParts,
    /// Stops in the middle of a body whose length it has not told.
    StopsInBody,
    /// Writes headers that only a gateway may write.
    Forges,
    /// Says in the body what a client must not say.
    SaysForbidden,
    /// Sends a prompt that ranks refuse.
    IsRefused,
    /// Asks for what makes a rank leave its cache aside.
    PassesCacheBy,
    /// Sends the body only after the gateway has given up waiting for it.
    ComesLate,
}

const ATTACKS: [Attack; 8] = [
    Attack::Announces,
    Attack::ManyParts,
    Attack::StopsInBody,
    Attack::Forges,
    Attack::IsRefused,
    Attack::PassesCacheBy,
    Attack::ComesLate,
    Attack::SaysForbidden,
];

/// What `content-length` says of a body that never comes.
const ANNOUNCED_BYTES: &str = "1000000000000";
/// Parts of a chat: many times what a rank's cache holds, if each counts as an image.
const PARTS: usize = 4_000;
/// Longer than the usual limit until a pick is made.
const LATE_NS: u64 = 120 * MS;
/// Words that make a prompt of about so many bytes are repeated.
const REFUSED_BYTES: [usize; 3] = [300, 5_000, 40_000];

/// What must never reach a rank: fields of the body that vLLM, SGLang, TensorRT-LLM or a sidecar take as orders to fetch, keep or
/// compute something for somebody else. Each with a value that would be obeyed.
const FORBIDDEN: [&str; 11] = [
    r#""kv_transfer_params":{"do_remote_prefill":true}"#,
    r#""ec_transfer_params":{"remote":"10.1.1.1"}"#,
    r#""vllm_xargs":{"ec_transfer_params":"{}"}"#,
    r#""vllm_xargs":{"kv_transfer_params":"{}"}"#,
    r#""bootstrap_host":"10.1.1.1""#,
    r#""bootstrap_port":8998"#,
    r#""bootstrap_room":7"#,
    r#""data_parallel_rank":1"#,
    r#""routed_dp_rank":1"#,
    r#""disaggregated_params":{"request_type":"generation_only"}"#,
    r#""cache_hit_threshold":0.5"#,
];

/// Draws how many of the clients of a seed are hostile.
pub(crate) fn draw_share(chance: &mut Chance) -> f64 {
    chance.pick(&SHARES)
}

/// Draws what a hostile client does; `number` is its own. Without `may_say_forbidden` it says nothing that must be refused.
pub(crate) fn draw(number: u64, chance: &mut Chance, may_say_forbidden: bool) -> ClientPlan {
    let last = ATTACKS.len() - usize::from(!may_say_forbidden);
    match chance.pick(&ATTACKS[..last]) {
        Attack::Announces => announces(number, chance),
        Attack::ManyParts => many_parts(number),
        Attack::StopsInBody => stops_in_body(number, chance),
        Attack::Forges => forges(number, chance),
        Attack::SaysForbidden => says_forbidden(number, chance),
        Attack::IsRefused => {
            let bytes = chance.pick(&REFUSED_BYTES);
            refused(
                &format!("refused {number} "),
                bytes,
                chance.pick(&[400, 401, 404, 413]),
            )
        }
        Attack::PassesCacheBy => passes_cache_by(chance.between(0, 3), chance),
        Attack::ComesLate => late(number),
    }
}

/// The body of a completion with a prompt of its own. It is streamed: of a stream a first byte is expected soon.
fn completion(start: &str, bytes: usize) -> Vec<u8> {
    let prompt = start.repeat(bytes.div_ceil(start.len().max(1)));
    format!(r#"{{"model":"h","stream":true,"prompt":"{prompt}"}}"#).into_bytes()
}

/// The same, broken off behind the prompt's last letter.
fn broken_off(mut body: Vec<u8>) -> Vec<u8> {
    body.truncate(body.len().saturating_sub(2));
    body
}

fn incomplete(start: &str, bytes: usize, chance: &mut Chance) -> ClientPlan {
    let again = completion(start, bytes);
    let mut plan = stopped(start, bytes);
    plan.abort_after_ns = chance.hits(0.3).then(|| chance.between(0, 9_000 * MS));
    plan.again = Some(again);
    plan
}

fn announces(number: u64, chance: &mut Chance) -> ClientPlan {
    let mut plan = incomplete(&format!("announced {number} "), 400, chance);
    plan.headers
        .add(b"content-length", ANNOUNCED_BYTES.as_bytes());
    plan
}

fn stops_in_body(number: u64, chance: &mut Chance) -> ClientPlan {
    let bytes = chance.pick(&[20, 400, 6_000]);
    incomplete(&format!("stopped {number} "), bytes, chance)
}

fn many_parts(number: u64) -> ClientPlan {
    let parts = vec![format!(r#"{{"image":{number}}}"#); PARTS].join(",");
    let body = format!(r#"{{"model":"h","messages":[{{"role":"user","content":[{parts}]}}]}}"#);
    let mut plan = traffic::whole("/v1/chat/completions", body.into_bytes());
    plan.verdict = Some(400);
    plan
}

fn forges(number: u64, chance: &mut Chance) -> ClientPlan {
    let body = completion(&format!("forged {number} "), 300);
    let mut plan = traffic::whole("/v1/completions", body);
    for name in SPOOFED.into_iter().chain(["x-gateway-model-name"]) {
        if chance.hits(0.5) {
            plan.headers.add(name.as_bytes(), SPOOFED_VALUE);
        }
    }
    plan
}

fn says_forbidden(number: u64, chance: &mut Chance) -> ClientPlan {
    let mut body = broken_off(completion(&format!("forbidden {number} "), 400));
    body.extend(format!(r#"",{}}}"#, chance.pick(&FORBIDDEN)).bytes());
    let mut plan = traffic::whole("/v1/completions", body);
    plan.is_forbidden = true;
    // In two pieces, of which the second may come after the pick.
    let (cut, end) = (chance.length(0, plan.body.len()), plan.body.len());
    let piece = |bytes, after_ns, is_end| ClientStep {
        after_ns,
        bytes,
        is_end,
        is_trailers: false,
    };
    plan.steps = vec![piece(0..cut, MS, false), piece(cut..end, LATE_NS, true)];
    plan
}

/// A prompt of about so many bytes that breaks off, and the client waits.
pub(crate) fn stopped(start: &str, bytes: usize) -> ClientPlan {
    let mut plan = traffic::whole("/v1/completions", broken_off(completion(start, bytes)));
    plan.steps.iter_mut().for_each(|step| step.is_end = false);
    plan
}

/// A whole prompt of about so many bytes that each rank refuses with this status.
pub(crate) fn refused(start: &str, bytes: usize, status: u32) -> ClientPlan {
    let body = completion(start, bytes);
    let mut plan = traffic::whole("/v1/completions", body.clone());
    plan.verdict = Some(status);
    plan.again = Some(body);
    plan
}

/// A whole prompt of about so many bytes that each rank serves.
pub(crate) fn served(start: &str, bytes: usize) -> ClientPlan {
    let mut plan = traffic::whole("/v1/completions", completion(start, bytes));
    plan.verdict = Some(200);
    plan
}

/// The same prompt, served without a look into the cache.
pub(crate) fn served_past_cache(start: &str, bytes: usize, number: u64) -> ClientPlan {
    let asks = match number.is_multiple_of(2) {
        true => r#"","prompt_logprobs":1}"#,
        false => r#"","echo":true,"logprobs":1,"max_tokens":1}"#,
    };
    let mut body = broken_off(completion(start, bytes));
    let tokens = body.len() as u64 / 4;
    body.extend(asks.bytes());
    let mut plan = traffic::whole("/v1/completions", body);
    plan.verdict = Some(200);
    plan.usage = Some((tokens, 0));
    plan
}

/// One of few prompts, so that most were served before.
fn passes_cache_by(topic: u64, chance: &mut Chance) -> ClientPlan {
    let start = format!("topic {topic} ");
    match chance.hits(0.5) {
        true => served(&start, 2_000),
        false => served_past_cache(&start, 2_000, chance.between(0, 1)),
    }
}

/// A prompt of its own whose body comes after the usual pick.
pub(crate) fn late(number: u64) -> ClientPlan {
    let mut plan = refused(&format!("late {number} "), 600, 400);
    plan.steps
        .iter_mut()
        .for_each(|step| step.after_ns = LATE_NS);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_off_is_the_start_of_what_is_asked_again() {
        let plan = announces(7, &mut Chance::of(1));
        let again = plan.again.unwrap();
        assert!(again.starts_with(&plan.body) && again.ends_with(b"\"}"));
        assert!(plan.steps.iter().all(|step| !step.is_end));
    }

    #[test]
    fn bodies_of_completions_are_json() {
        let mut chance = Chance::of(2);
        for number in 0..500 {
            let plan = draw(number, &mut chance, true);
            let whole = plan.again.as_ref().unwrap_or(&plan.body);
            let read: Result<serde_json::Value, _> = serde_json::from_slice(whole);
            assert!(read.is_ok(), "{}", String::from_utf8_lossy(whole));
        }
    }

    #[test]
    fn only_who_may_says_what_is_forbidden() {
        let mut chance = Chance::of(3);
        let mut says = |may| (0..500).any(|number| draw(number, &mut chance, may).is_forbidden);
        assert!(says(true) && !says(false));
    }
}
