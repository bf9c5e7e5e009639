//! What clients send: prompts that share their starts, and oddities.

use routing::default_refused_keys;

use crate::chance::Chance;
use crate::envoy::HeaderMap;
use crate::schedule::MS;
use crate::stream::{ClientPlan, ClientStep, LocalReply};

/// The endpoints of the model servers, and paths that are none.
const PATHS: [&str; 9] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/tokenize",
    "/v1/models",
    "/v1/audio/transcriptions",
    "/",
];

/// Headers that no client may set; a few try.
pub(crate) const SPOOFED: [&str; 6] = [
    "x-gateway-destination-endpoint",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
    "x-data-parallel-rank",
];
/// What they write there: no rank's address.
pub(crate) const SPOOFED_VALUE: &[u8] = b"1.2.3.4:5";

/// Draws what a client does; so many say what they must not say.
pub(crate) fn draw(chance: &mut Chance, forbidden_share: f64) -> ClientPlan {
    let path = chance.pick(&PATHS);
    let has_body = chance.hits(0.95);
    let mut body = match has_body {
        true => body(path, chance),
        false => Vec::new(),
    };
    let is_forbidden = chance.hits(forbidden_share) && forbid(&mut body, chance);
    let steps = match has_body {
        true => steps(body.len(), chance),
        false => Vec::new(),
    };
    ClientPlan {
        headers: headers(path, has_body, body.len(), chance),
        has_body,
        body,
        is_forbidden,
        steps,
        abort_after_ns: chance.hits(0.15).then(|| chance.between(0, 400 * MS)),
        local_reply: local_reply(chance),
        verdict: None,
        usage: None,
        again: None,
    }
}

/// A request that nothing bad happens to: the last of each worker.
pub(crate) fn plain(chance: &mut Chance) -> ClientPlan {
    whole("/v1/completions", body("/v1/completions", chance))
}

/// A body in one piece, to this path, to whose end the client waits.
pub(crate) fn whole(path: &str, body: Vec<u8>) -> ClientPlan {
    let end = body.len();
    ClientPlan {
        headers: HeaderMap::of(&[
            (":method", "POST"),
            (":path", path),
            (":authority", "models"),
        ]),
        has_body: true,
        body,
        is_forbidden: false,
        steps: vec![ClientStep {
            after_ns: MS,
            bytes: 0..end,
            is_end: true,
            is_trailers: false,
        }],
        abort_after_ns: None,
        local_reply: LocalReply::Never,
        verdict: None,
        usage: None,
        again: None,
    }
}

fn local_reply(chance: &mut Chance) -> LocalReply {
    match chance.between(0, 39) {
        0 => LocalReply::BeforeReader,
        1 => LocalReply::BetweenFilters,
        2 => LocalReply::BehindPicker,
        _ => LocalReply::Never,
    }
}

fn headers(path: &str, has_body: bool, bytes: usize, chance: &mut Chance) -> HeaderMap {
    let method = if has_body { "POST" } else { "GET" };
    let mut headers = HeaderMap::of(&[
        (":method", method),
        (":path", path),
        (":authority", "models"),
    ]);
    if chance.hits(0.5) {
        headers.add(b"content-length", bytes.to_string().as_bytes());
    }
    if chance.hits(0.05) {
        headers.add(
            b"content-encoding",
            chance.pick(&[b"gzip".as_slice(), b"identity", b"\xff"]),
        );
    }
    if chance.hits(0.1) {
        headers.add(chance.pick(&SPOOFED).as_bytes(), SPOOFED_VALUE);
    }
    headers
}

/// A body for this path: most are understood, some are broken off, some are no JSON.
fn body(path: &str, chance: &mut Chance) -> Vec<u8> {
    let prompt = prompt(chance);
    let mut body = match path {
        "/v1/chat/completions" => format!(
            r#"{{"messages":[{{"role":"system","content":"{prompt}"}},{{"role":"user","content":"go on"}}],"model":"m"}}"#
        ),
        "/v1/responses" | "/v1/embeddings" => format!(r#"{{"model":"m","input":"{prompt}"}}"#),
        _ => format!(r#"{{"model":"m","prompt":"{prompt}"}}"#),
    }
    .into_bytes();
    match chance.between(0, 19) {
        0 => body.truncate(chance.length(0, body.len())),
        1 => {
            let length = chance.pick(&[0, 1, 100, 5000]);
            body = chance.bytes(length);
        }
        _ => {}
    }
    body
}

/// Lets a body that is whole end with a key that no client may set, in one of the places where it counts and maybe with an
/// escape in it.
fn forbid(body: &mut Vec<u8>, chance: &mut Chance) -> bool {
    let is_whole = body.starts_with(b"{\"m") && body.ends_with(b"}");
    if is_whole {
        let keys: Vec<&str> = default_refused_keys().collect();
        let key = match chance.hits(0.5) {
            true => chance.pick(&keys).to_string(),
            false => chance.pick(&keys).replacen('_', "\\u005f", 1),
        };
        let field = format!(r#""{key}":{{"do_remote_prefill":true}}"#);
        let end = match chance.between(0, 2) {
            0 => format!(",{field}}}"),
            1 => format!(r#","vllm_xargs":{{{field}}}}}"#),
            _ => format!(r#","sampling_params":{{"extra_args":{{{field}}}}}}}"#),
        };
        body.pop();
        body.extend(end.into_bytes());
    }
    is_whole
}

/// One of four conversations, to some length, and an end of its own.
fn prompt(chance: &mut Chance) -> String {
    let words = chance.pick(&["alpha ", "beta \\n", "gamma \\\"", "delta "]);
    let longest = chance.pick(&[50, 500, 500, 2000, 8000]);
    let count = chance.length(0, longest);
    format!("{}{}", words.repeat(count / 8), chance.between(0, 999))
}

/// Cuts a body into pieces, with pauses.
fn steps(bytes: usize, chance: &mut Chance) -> Vec<ClientStep> {
    let pieces = chance.length(1, 5);
    let mut cuts: Vec<usize> = (1..pieces).map(|_| chance.length(0, bytes)).collect();
    cuts.sort_unstable();
    cuts.push(bytes);
    let mut start = 0;
    let mut steps: Vec<ClientStep> = Vec::new();
    for cut in cuts {
        steps.push(step(start..cut, chance));
        start = cut;
    }
    close(&mut steps, bytes, chance);
    steps
}

/// Ends the request in one of the ways that HTTP/1.1 and HTTP/2 have, or never.
fn close(steps: &mut Vec<ClientStep>, bytes: usize, chance: &mut Chance) {
    match chance.between(0, 19) {
        0 => {}
        1 | 2 => {
            let mut trailers = step(bytes..bytes, chance);
            trailers.is_trailers = true;
            steps.push(trailers);
        }
        3..10 => {
            let mut end = step(bytes..bytes, chance);
            end.is_end = true;
            steps.push(end);
        }
        _ => {
            if let Some(last) = steps.last_mut() {
                last.is_end = true;
            }
        }
    }
}

fn step(bytes: std::ops::Range<usize>, chance: &mut Chance) -> ClientStep {
    let longest_ms = chance.pick(&[0, 1, 5, 5, 20, 100, 900]);
    ClientStep {
        after_ns: chance.between(0, longest_ms * MS),
        bytes,
        is_end: false,
        is_trailers: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_body_are_the_body() {
        let mut chance = Chance::of(7);
        for _ in 0..500 {
            let plan = draw(&mut chance, 0.05);
            let sent: Vec<u8> = plan
                .steps
                .iter()
                .flat_map(|step| plan.body[step.bytes.clone()].to_vec())
                .collect();
            assert_eq!(sent, plan.body);
            let ends = plan
                .steps
                .iter()
                .filter(|step| step.is_end || step.is_trailers);
            assert!(ends.count() <= 1);
            assert_eq!(plan.steps.is_empty(), !plan.has_body);
        }
    }
}
