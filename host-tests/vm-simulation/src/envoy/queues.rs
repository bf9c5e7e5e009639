//! Shared queues: each calls the last that registered its name, and keeps what is not taken.

use std::collections::{BTreeMap, VecDeque};

use proxy_wasm::types::Status;

/// The one that is called. Envoy looks the VM up when the call is made, by thread: after a reload the root of the same
/// number in the new VM gets calls that were meant for the old one, and so does a thread's VM for those of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registrant {
    pub(crate) thread: usize,
    pub(crate) root: u32,
}

#[derive(Debug)]
struct Queue {
    registrant: Registrant,
    items: VecDeque<Vec<u8>>,
}

/// All queues, by token.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tokens: BTreeMap<Vec<u8>, u32>,
    queues: BTreeMap<u32, Queue>,
}

impl Queues {
    /// Gives the token of a name; what is in the queue stays.
    pub(crate) fn register(&mut self, name: &[u8], registrant: Registrant) -> u32 {
        let next = u32::try_from(self.tokens.len() + 1).expect("few queues");
        let token = *self.tokens.entry(name.to_vec()).or_insert(next);
        let queue = self.queues.entry(token).or_insert(Queue {
            registrant,
            items: VecDeque::new(),
        });
        queue.registrant = registrant;
        token
    }

    pub(crate) fn resolve(&self, name: &[u8]) -> Result<u32, Status> {
        self.tokens.get(name).copied().ok_or(Status::NotFound)
    }

    /// Gives whom to call, and how many items there are now.
    pub(crate) fn push(&mut self, token: u32, item: &[u8]) -> Result<(Registrant, usize), Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item.to_vec());
        Ok((queue.registrant, queue.items.len()))
    }

    pub(crate) fn pop(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    /// How many queues there are.
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Registrant = Registrant { thread: 1, root: 2 };
    const SECOND: Registrant = Registrant { thread: 2, root: 4 };

    #[test]
    fn the_last_to_register_a_name_is_called_and_nothing_is_lost() {
        let mut queues = Queues::default();
        let token = queues.register(b"bell", FIRST);
        assert_eq!(queues.push(token, b"a"), Ok((FIRST, 1)));
        assert_eq!(queues.register(b"bell", SECOND), token);
        assert_eq!(queues.push(token, b"b"), Ok((SECOND, 2)));
        assert_eq!(queues.pop(token), Ok(b"a".to_vec()));
        assert_eq!(queues.pop(token), Ok(b"b".to_vec()));
        assert_eq!(queues.pop(token), Err(Status::Empty));
        assert_ne!(queues.register(b"other", FIRST), token);
        assert_eq!(queues.resolve(b"bell"), Ok(token));
        assert_eq!(queues.push(99, b""), Err(Status::NotFound));
    }
}
