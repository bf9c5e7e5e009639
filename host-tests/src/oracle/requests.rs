//! Requests of a trace as pieces of known length.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use routing::hash_bytes;
use ruzstd::decoding::StreamingDecoder;
use serde::Deserialize;

use crate::trace::{BLOCK_TOKENS, TraceRequest};

/// Tokens of one prompt that come together: a block of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Equal for equal prompts up to here, whatever comes behind.
    pub id: u64,
    /// Length, at least 1.
    pub tokens: u32,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Requests of one session are the turns of one conversation.
    pub session: u64,
    /// The prompt.
    pub pieces: Vec<Piece>,
    /// Length of the answer.
    pub output_tokens: u32,
}

impl Request {
    /// Length of the prompt.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| u64::from(piece.tokens))
            .sum()
    }

    fn new(session: Option<&str>, blocks: &[u64], input_tokens: u32, output_tokens: u32) -> Self {
        let befores = (0u32..).map(|place| place.saturating_mul(BLOCK_TOKENS));
        let pieces = befores.zip(blocks).map(|(before, id)| Piece {
            id: *id,
            tokens: input_tokens.saturating_sub(before).min(BLOCK_TOKENS),
        });
        // Nearly all requests share their first block, so the second one tells conversations apart.
        let start = blocks.get(1).or(blocks.first()).copied().unwrap_or(0);
        Self {
            session: session.map_or(start, |session| hash_bytes(session.as_bytes())),
            pieces: pieces.filter(|piece| piece.tokens > 0).collect(),
            output_tokens,
        }
    }
}

impl From<&TraceRequest> for Request {
    fn from(request: &TraceRequest) -> Self {
        Self::new(
            None,
            &request.blocks,
            request.input_tokens,
            request.output_tokens,
        )
    }
}

#[derive(Deserialize)]
struct Line {
    session_id: Option<String>,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace, a JSON object a line, compressed if its name ends in `.zst`.
///
/// # Errors
/// When the file cannot be read or a line is no request; the error names the line.
pub fn read(path: &Path) -> Result<Vec<Request>> {
    let context = || format!("cannot read {}", path.display());
    let bytes = std::fs::read(path).with_context(context)?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
    let bytes = if is_compressed {
        decompress(&bytes).with_context(context)?
    } else {
        bytes
    };
    let text = String::from_utf8(bytes).with_context(context)?;
    parse(&text).with_context(|| path.display().to_string())
}

/// Reads the lines of a trace. Tokens behind the last block are left out: some traces have no number for a last, partial
/// block.
///
/// # Errors
/// When a line is no request; the error names it.
pub fn parse(text: &str) -> Result<Vec<Request>> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let requests = lines.map(|(number, line): (usize, &str)| {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("line {number}: no request of a trace"))?;
        Ok(Request::new(
            line.session_id.as_deref(),
            &line.hash_ids,
            line.input_length,
            line.output_length,
        ))
    });
    requests.collect()
}

fn decompress(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while !bytes.is_empty() {
        StreamingDecoder::new(&mut bytes)?.read_to_end(&mut text)?;
    }
    Ok(text)
}

/// The requests that are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In the order of the trace.
    pub requests: Vec<Request>,
    /// Sessions in the sample.
    pub sessions: usize,
    /// Sessions in the trace.
    pub of_sessions: usize,
}

/// Whole sessions of together at most `most_tokens`, always the same ones: those whose numbers have the lowest hashes.
#[must_use]
pub fn sample(mut requests: Vec<Request>, most_tokens: u64) -> Sample {
    let mut tokens: HashMap<u64, u64> = HashMap::new();
    for request in &requests {
        *tokens.entry(request.session).or_default() += request.tokens();
    }
    let mut sessions: Vec<(u64, u64)> = tokens.into_iter().collect();
    sessions.sort_unstable_by_key(|(session, _)| hash_bytes(&session.to_le_bytes()));
    let of_sessions = sessions.len();
    let mut left = most_tokens;
    let fits = |(_, tokens): &(u64, u64)| match left.checked_sub(*tokens) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let chosen: std::collections::HashSet<u64> = sessions
        .into_iter()
        .take_while(fits)
        .map(|(session, _)| session)
        .collect();
    requests.retain(|request| chosen.contains(&request.session));
    Sample {
        requests,
        sessions: chosen.len(),
        of_sessions,
    }
}

/// The same request with pieces of 256 to 768 tokens instead of 512, by their id: as much is shared, and prompts part
/// anywhere.
#[must_use]
pub fn ragged(request: &Request) -> Request {
    let length = |piece: &Piece| {
        let longer = hash_bytes(&piece.id.to_le_bytes()) % u64::from(BLOCK_TOKENS + 1);
        let whole = u64::from(BLOCK_TOKENS / 2) + longer;
        let tokens = (u64::from(piece.tokens) * whole).div_ceil(u64::from(BLOCK_TOKENS));
        u32::try_from(tokens).unwrap_or(u32::MAX)
    };
    let pieces = request.pieces.iter().map(|piece| Piece {
        id: piece.id,
        tokens: length(piece),
    });
    Request {
        pieces: pieces.collect(),
        ..request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(request: &Request) -> Vec<(u64, u32)> {
        request
            .pieces
            .iter()
            .map(|piece| (piece.id, piece.tokens))
            .collect()
    }

    fn line(session: &str, tokens: u32, blocks: &[u64]) -> String {
        format!(
            "{{\"timestamp\":0,\"session_id\":\"{session}\",\"input_length\":{tokens},\"output_length\":1,\"hash_ids\":{blocks:?}}}\n"
        )
    }

    #[test]
    fn the_last_piece_has_the_rest_of_the_tokens() {
        let text = line("a", 1100, &[7, 8, 9]) + "\n" + &line("b", 1024, &[7, 8]);
        let requests = parse(&text).unwrap();
        assert_eq!(lengths(&requests[0]), [(7, 512), (8, 512), (9, 76)]);
        assert_eq!(lengths(&requests[1]), [(7, 512), (8, 512)]);
    }

    #[test]
    fn tokens_without_a_block_and_blocks_without_tokens_are_left_out() {
        let text = line("a", 1100, &[7, 8]) + &line("a", 100, &[7, 8]) + &line("a", 0, &[7]);
        let requests = parse(&text).unwrap();
        let lengths: Vec<_> = requests.iter().map(lengths).collect();
        assert_eq!(lengths, [vec![(7, 512), (8, 512)], vec![(7, 100)], vec![]]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = parse(&(line("a", 5, &[1]) + "{}\n")).unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }

    #[test]
    fn a_compressed_trace_is_the_same_trace() {
        let folder = tempfile::tempdir().unwrap();
        let text = line("a", 1100, &[7, 8, 9]);
        let frame = ruzstd::encoding::compress_to_vec(
            text.as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let (plain, compressed) = (folder.path().join("a.jsonl"), folder.path().join("a.zst"));
        std::fs::write(&plain, text.repeat(2)).unwrap();
        std::fs::write(&compressed, frame.repeat(2)).unwrap();
        assert_eq!(read(&compressed).unwrap(), read(&plain).unwrap());
        assert_eq!(read(&plain).unwrap().len(), 2);
    }

    #[test]
    fn a_sample_holds_whole_sessions_and_keeps_the_order() {
        let lines: Vec<String> = (0..40u64)
            .map(|turn| line(&format!("s{}", turn % 8), 100, &[turn]))
            .collect();
        let all = parse(&lines.concat()).unwrap();
        let half = sample(all.clone(), 2000);
        assert_eq!((half.sessions, half.of_sessions), (4, 8));
        assert_eq!(half.requests.len(), 20);
        assert!(
            half.requests
                .is_sorted_by_key(|request| request.pieces[0].id)
        );
        assert_eq!(half, sample(all.clone(), 2000));
        assert_eq!(sample(all.clone(), u64::MAX).requests, all);
    }

    #[test]
    fn ragged_prompts_share_the_same_pieces_at_other_places() {
        let text = line("a", 512 * 99 + 100, &(0..100).collect::<Vec<_>>())
            + &line("a", 512 * 100, &(0..100).collect::<Vec<_>>());
        let requests = parse(&text).unwrap();
        let (one, other) = (ragged(&requests[0]), ragged(&requests[1]));
        assert_eq!(one.pieces[..99], other.pieces[..99]);
        assert!(one.pieces[99].tokens < other.pieces[99].tokens);
        let lengths: std::collections::HashSet<u32> =
            other.pieces.iter().map(|piece| piece.tokens).collect();
        assert!(lengths.len() > 50 && lengths.iter().all(|tokens| (256..=768).contains(tokens)));
        let mean = other.tokens() / 100;
        assert!((480..544).contains(&mean), "{mean}");
    }
}
