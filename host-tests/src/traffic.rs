//! Requests that keep coming while something happens to the ranks.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::caller::{Call, Caller, Question};
use crate::outcome::Outcome;
use crate::prompt_text::{ChatRequest, chat_request};
use crate::trace::TraceRequest;

/// The model of simulated ranks, unless they are told another.
const MODEL: &str = "simulated";
const PROMPT_TOKENS: u32 = 300;
const ANSWER_TOKENS: u32 = 5;
/// How long a condition on the traffic is waited for: long, for slow and busy machines.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Streamed chats at a steady pace, each with a prompt of its own; they end when this is dropped.
#[derive(Debug)]
pub struct Traffic {
    calls: Arc<Mutex<Vec<Call>>>,
    sender: JoinHandle<()>,
    stop: watch::Sender<()>,
}

impl Traffic {
    /// Starts to ask, once in so long, whether or not earlier requests were answered. Numbers and prompts start at `first`.
    #[must_use]
    pub fn start(caller: Caller, first: u64, every: Duration) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(());
        let sender = tokio::spawn(send(caller, first, every, calls.clone(), stopped));
        Self {
            calls,
            sender,
            stop,
        }
    }

    /// The requests that have ended, in the order of their ends.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `is_so` holds for the calls that were sent after `since`.
    ///
    /// # Errors
    /// When it does not come in a minute; `what` is in the error.
    pub async fn wait_until(
        &self,
        what: &str,
        since: SystemTime,
        is_so: impl Fn(&[Call]) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut calls = self.calls();
            calls.retain(|call| call.sent >= since);
            if is_so(&calls) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not in a minute: {what}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until a rank answers requests that were sent after `since`; gives how long after it the first was sent.
    ///
    /// # Errors
    /// When it does not come in a minute.
    pub async fn wait_until_answered_by(
        &self,
        rank: SocketAddr,
        since: SystemTime,
    ) -> Result<Duration> {
        let what = format!("{rank} answers");
        self.wait_until(&what, since, |calls| first_of(calls, rank).is_some())
            .await?;
        let first = first_of(&self.calls_since(since), rank);
        Ok(first
            .and_then(|sent| sent.duration_since(since).ok())
            .unwrap_or_default())
    }

    /// Waits until `calls` requests in a row, sent after `since`, were answered by other ranks; gives how long after it
    /// the last was sent that was not.
    ///
    /// # Errors
    /// When it does not come in a minute.
    pub async fn wait_until_left(
        &self,
        ranks: &[SocketAddr],
        calls: usize,
        since: SystemTime,
    ) -> Result<Duration> {
        let is_theirs = |call: &Call| call.rank.is_some_and(|rank| ranks.contains(&rank));
        let what = format!("{ranks:?} are left alone");
        self.wait_until(&what, since, |all| {
            all.len() >= calls && !all.iter().rev().take(calls).any(is_theirs)
        })
        .await?;
        let last = self
            .calls_since(since)
            .into_iter()
            .filter(is_theirs)
            .map(|call| call.sent)
            .max();
        Ok(last
            .and_then(|sent| sent.duration_since(since).ok())
            .unwrap_or_default())
    }

    /// Stops asking and waits for what is under way.
    pub async fn stop(mut self) -> Vec<Call> {
        let _ = self.stop.send(());
        let _ = (&mut self.sender).await;
        self.calls()
    }

    fn calls_since(&self, since: SystemTime) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.sent >= since);
        calls
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

/// A short chat that no other number shares a prefix with.
#[must_use]
pub fn chat(number: u64) -> ChatRequest {
    let request = TraceRequest {
        at: Duration::ZERO,
        input_tokens: PROMPT_TOKENS,
        output_tokens: ANSWER_TOKENS,
        blocks: vec![number],
    };
    chat_request(&request, MODEL)
}

/// Asks these chats, `at_once` at a time, and waits for all.
///
/// # Errors
/// As [`Question::chat`].
pub async fn ask(caller: &Caller, numbers: Range<u64>, at_once: usize) -> Result<Vec<Call>> {
    let (mut running, mut calls) = (JoinSet::new(), Vec::new());
    for number in numbers {
        if running.len() >= at_once.max(1) {
            calls.extend(running.join_next().await.transpose()?);
        }
        let (caller, question) = (caller.clone(), Question::chat(&chat(number), true)?);
        running.spawn(async move { caller.call(number, &question, &[]).await });
    }
    calls.extend(running.join_all().await);
    Ok(calls)
}

/// How many of the calls a rank answered.
#[must_use]
pub fn share(calls: &[Call], rank: SocketAddr) -> usize {
    calls.iter().filter(|call| call.rank == Some(rank)).count()
}

/// The calls that did not get their whole answer.
#[must_use]
pub fn lost(calls: &[Call]) -> Vec<&Call> {
    let is_lost = |call: &&Call| call.outcome != Outcome::Complete;
    calls.iter().filter(is_lost).collect()
}

async fn send(
    caller: Caller,
    first: u64,
    every: Duration,
    calls: Arc<Mutex<Vec<Call>>>,
    mut stopped: watch::Receiver<()>,
) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running = JoinSet::new();
    for number in first.. {
        tokio::select! {
            _ = clock.tick() => {}
            _ = stopped.changed() => break,
        }
        while running.try_join_next().is_some() {}
        running.spawn(call(caller.clone(), number, calls.clone()));
    }
    while running.join_next().await.is_some() {}
}

async fn call(caller: Caller, number: u64, calls: Arc<Mutex<Vec<Call>>>) {
    if let Ok(question) = Question::chat(&chat(number), true) {
        let call = caller.call(number, &question, &[]).await;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
    }
}

fn first_of(calls: &[Call], rank: SocketAddr) -> Option<SystemTime> {
    let own = calls.iter().filter(|call| call.rank == Some(rank));
    own.map(|call| call.sent).min()
}
