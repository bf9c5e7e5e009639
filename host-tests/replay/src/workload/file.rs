//! Reads traces from files.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruzstd::decoding::StreamingDecoder;
use serde::Deserialize;

use super::{Trace, TraceRequest};

#[derive(Deserialize)]
struct Line {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// Reads a trace in the format of Mooncake's, a JSON object a line, compressed if its name ends in `.zst`; other fields
/// are skipped.
///
/// # Errors
/// When the file cannot be read, holds no request, or a line is no request; the error names the line.
pub fn read(path: &Path) -> Result<Trace> {
    let context = || format!("cannot read {}", path.display());
    let bytes = std::fs::read(path).with_context(context)?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
    let bytes = if is_compressed {
        decompress(&bytes).with_context(context)?
    } else {
        bytes
    };
    let text = String::from_utf8(bytes).with_context(context)?;
    let mut requests = parse(&text).with_context(context)?;
    ensure!(!requests.is_empty(), "{} holds no request", path.display());
    requests.sort_by(|one, next| one.at_ms.total_cmp(&next.at_ms));
    let name = name(path);
    Ok(Trace { name, requests })
}

fn parse(text: &str) -> Result<Vec<TraceRequest>> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let requests = lines.map(|(number, line): (usize, &str)| {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("line {number}: no request of a trace"))?;
        Ok(TraceRequest::new(
            line.timestamp,
            line.input_length,
            line.output_length,
            &line.hash_ids,
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

/// The file's name up to the first point, without a trailing `_trace`.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    stem.strip_suffix("_trace").unwrap_or(stem).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"timestamp": 27, "session_id": "a", "input_length": 1100, "output_length": 0, "hash_ids": [7, 8, 9]}"#;

    #[test]
    fn only_whole_blocks_of_a_prompt_are_shared() {
        let requests = parse(LINE).unwrap();
        let request = &requests[0];
        assert_eq!((request.at_ms, request.prompt_tokens), (27.0, 1100));
        assert_eq!(request.output_tokens, 1, "no answer is empty");
        assert_eq!(request.blocks.len(), 2);
        let other = TraceRequest::new(0.0, 2048, 1, &[7, 8, 1]);
        assert_eq!(request.blocks, other.blocks[..2]);
        assert_ne!(request.blocks[0], request.blocks[1]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = parse(&[LINE, "{}"].join("\n")).unwrap_err();
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }

    #[test]
    fn a_compressed_trace_is_the_same_trace() {
        let folder = tempfile::tempdir().unwrap();
        let frame = ruzstd::encoding::compress_to_vec(
            [LINE, "\n"].concat().as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let plain = folder.path().join("a_trace.jsonl");
        let compressed = folder.path().join("a.jsonl.zst");
        std::fs::write(&plain, [LINE, "\n"].concat().repeat(2)).unwrap();
        std::fs::write(&compressed, frame.repeat(2)).unwrap();
        assert_eq!(read(&compressed).unwrap(), read(&plain).unwrap());
        assert_eq!(read(&plain).unwrap().requests.len(), 2);
        assert_eq!(read(&plain).unwrap().name, "a");
    }

    #[test]
    fn a_file_without_requests_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = read(file.path()).unwrap_err();
        assert!(error.to_string().contains("holds no request"), "{error}");
    }
}
