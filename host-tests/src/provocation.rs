//! Requests that keep coming and that every rank fails, as from an attacker or from one client with a bug.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::caller::{Caller, Question};
use crate::outcome::Outcome;
use crate::prompt_text::ChatRequest;

/// Makes a simulated rank answer a prompt with this status.
pub const STATUS: &str = "x-simulated-status";

/// Such requests at a steady pace, whether or not earlier ones were answered; they end when this is dropped.
#[derive(Debug)]
pub struct Provocation {
    failed: Arc<AtomicU64>,
    sender: JoinHandle<()>,
}

impl Provocation {
    /// Starts to ask these chats, once in so long, all of which are to get this status.
    #[must_use]
    pub fn start(
        caller: Caller,
        status: u16,
        every: Duration,
        chats: impl Fn(u64) -> ChatRequest + Send + 'static,
    ) -> Self {
        let failed = Arc::new(AtomicU64::new(0));
        let sender = tokio::spawn(send(caller, status, every, chats, failed.clone()));
        Self { failed, sender }
    }

    /// How many were answered with the status that they asked for, by a rank.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Provocation {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

async fn send(
    caller: Caller,
    status: u16,
    every: Duration,
    chats: impl Fn(u64) -> ChatRequest,
    failed: Arc<AtomicU64>,
) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    for number in 0.. {
        clock.tick().await;
        while running.try_join_next().is_some() {}
        let Ok(question) = Question::chat(&chats(number), true) else {
            return;
        };
        running.spawn(provoke(
            caller.clone(),
            number,
            question,
            status,
            failed.clone(),
        ));
    }
}

async fn provoke(
    caller: Caller,
    number: u64,
    question: Question,
    status: u16,
    failed: Arc<AtomicU64>,
) {
    let headers = [(STATUS, &*status.to_string())];
    let call = caller.call(number, &question, &headers).await;
    if call.outcome == Outcome::RankError(status) {
        failed.fetch_add(1, Ordering::Relaxed);
    }
}
