//! A request inside a rank.

use std::rc::Rc;

use crate::policy::Usage;

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its place in the trace.
    pub number: usize,
    /// Chained hashes of the whole blocks of the prompt.
    pub blocks: Rc<[u64]>,
    /// Length of the prompt.
    pub prompt_tokens: u64,
    /// Length of the answer, at least 1.
    pub output_tokens: u64,
    /// Tokens of the answer that were made before it was thrown back.
    pub generated_tokens: u64,
    /// Tokens found in the cache when it was let in for the first time.
    pub cached_tokens: Option<u64>,
    /// Tokens of the prompt whose keys and values come from a prefill rank.
    pub received_tokens: u64,
}

impl Sequence {
    /// A request that has not run yet.
    #[must_use]
    pub fn new(number: usize, blocks: Rc<[u64]>, prompt_tokens: u64, output_tokens: u64) -> Self {
        Self {
            number,
            blocks,
            prompt_tokens: prompt_tokens.max(1),
            output_tokens: output_tokens.max(1),
            generated_tokens: 0,
            cached_tokens: None,
            received_tokens: 0,
        }
    }

    /// The same request, its whole prompt computed elsewhere and received.
    #[must_use]
    pub fn received(self) -> Self {
        Self {
            received_tokens: self.prompt_tokens,
            ..self
        }
    }

    /// Tokens whose keys and values the next token needs.
    #[must_use]
    pub fn known_tokens(&self) -> u64 {
        self.prompt_tokens + self.generated_tokens
    }

    /// What the answer says of the request.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens.unwrap_or(0),
            output_tokens: self.output_tokens,
        }
    }
}

/// What a step brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The first token of an answer.
    FirstToken {
        /// The request.
        number: usize,
    },
    /// The end of an answer.
    End {
        /// The request.
        number: usize,
        /// What the answer says of it.
        usage: Usage,
    },
}
