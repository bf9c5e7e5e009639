//! Measures what reading answers for their usage adds to Envoy's CPU time, for each chunk of a stream.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use host_tests::bootstrap::Bootstrap;
use host_tests::distribution::{median, rounded};
use host_tests::envoy::Envoy;
use host_tests::{process_usage, repository};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a chunk: an event with one token, and what a fast rank sends at once.
const CHUNK_BYTES: [usize; 2] = [220, 16 << 10];
const CHUNKS: usize = 10_000;
const ROUNDS: usize = 9;

/// An answer that is read, and one that is not.
const READ: &str = "text/event-stream";
const UNREAD: &str = "text/plain";

/// One in each chunk.
const MARK: u8 = b'~';

#[derive(Parser)]
#[command(about = "CPU time per chunk that reading an answer adds in a real Envoy")]
struct Arguments {
    /// Envoy version, as fetched by scripts/setup-envoy.
    #[arg(long, default_value = repository::ENVOY_VERSIONS[0])]
    envoy: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let rank = listener.local_addr()?;
    let received = Arc::new(Semaphore::new(0));
    tokio::spawn(serve(listener, received.clone()));
    let bootstrap = Bootstrap::with_rank_router(&[rank])?;
    let envoy = Envoy::start_at_level(&arguments.envoy, 1, &bootstrap, "warning").await?;
    for bytes in CHUNK_BYTES {
        let (mut read, mut unread, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = turn(&envoy, &received, READ, bytes).await?;
            let other = turn(&envoy, &received, UNREAD, bytes).await?;
            read.push(one);
            unread.push(other);
            added.push(one - other);
        }
        let row = json!({
            "chunk_bytes": bytes, "read_us": rounded(median(read), 2), "unread_us": rounded(median(unread), 2),
            "added_us": rounded(median(added), 2),
        });
        println!("{row}");
    }
    Ok(())
}

/// Microseconds of CPU time that Envoy takes for a chunk.
async fn turn(envoy: &Envoy, received: &Semaphore, kind: &str, bytes: usize) -> Result<f64> {
    let mut stream = TcpStream::connect(envoy.gateway()).await?;
    let body = json!({"prompt": "tides", "kind": kind, "bytes": bytes}).to_string();
    let length = body.len();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    let before = cpu_time(envoy)?;
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 1 << 16];
    let mut chunks = 0;
    while chunks < CHUNKS {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            bail!("the answer ended after {chunks} chunks");
        }
        let marks = buffer[..count].iter().filter(|byte| **byte == MARK).count();
        chunks += marks;
        received.add_permits(marks);
    }
    let taken = cpu_time(envoy)?.saturating_sub(before);
    Ok(taken.as_secs_f64() * 1e6 / CHUNKS as f64)
}

fn cpu_time(envoy: &Envoy) -> Result<Duration> {
    process_usage::cpu_time(envoy.process_id().context("Envoy has ended")?)
}

/// A rank that sends a chunk whenever the client has got the one before: so each is a chunk to the filters, too.
async fn serve(listener: TcpListener, received: Arc<Semaphore>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = received.clone();
        tokio::spawn(async move { answer(stream, &received).await });
    }
}

async fn answer(mut stream: TcpStream, received: &Semaphore) -> Result<()> {
    let request = read_request(&mut stream).await?;
    let Some(asked) = request.filter(|asked| asked["kind"].is_string()) else {
        let nothing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        return Ok(stream.write_all(nothing.as_bytes()).await?);
    };
    let kind = asked["kind"].as_str().unwrap_or_default();
    let bytes = usize::try_from(asked["bytes"].as_u64().unwrap_or(1))?;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let chunk = [
        format!("{bytes:x}\r\n").into_bytes(),
        vec![b'x'; bytes - 1],
        vec![MARK],
        b"\r\n".to_vec(),
    ];
    let chunk = chunk.concat();
    for _ in 0..CHUNKS {
        stream.write_all(&chunk).await?;
        received.acquire().await?.forget();
    }
    Ok(stream.write_all(b"0\r\n\r\n").await?)
}

/// The body of a request; `None` if it has none.
async fn read_request(stream: &mut TcpStream) -> Result<Option<serde_json::Value>> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        request.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return Ok(None);
            }
            continue;
        };
        if head.starts_with("GET") || count == 0 {
            return Ok(None);
        }
        if let Ok(body) = serde_json::from_str(body) {
            return Ok(Some(body));
        }
    }
}
