use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BODY, CUT, LIMITS};
use crate::{Endpoint, Exchanges};

#[derive(Clone, Debug)]
enum Step {
    Open(u32),
    Join(u32),
    Feed(u32, Vec<u8>),
    EndBody(u32),
    Close(u32),
    Expire(u64),
    TakeDue,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reader = || 0u32..4;
    let piece = prop_oneof![
        3 => Just(BODY.to_vec()),
        1 => Just(b"{\"prompt\":\"".to_vec()),
        1 => Just(vec![b' '; 600]),
        1 => Just(b"}".to_vec()),
    ];
    let step = prop_oneof![
        3 => reader().prop_map(Step::Open),
        3 => reader().prop_map(Step::Join),
        3 => (reader(), piece).prop_map(|(reader, piece)| Step::Feed(reader, piece)),
        1 => reader().prop_map(Step::EndBody),
        2 => reader().prop_map(Step::Close),
        1 => (0u64..100).prop_map(Step::Expire),
        2 => Just(Step::TakeDue),
    ];
    vec(step, 0..80)
}

/// Which picker holds behind which reader, as the filters see it.
#[derive(Default)]
struct Gateway {
    exchanges: Exchanges,
    held: BTreeMap<u32, Option<u32>>,
    pickers: u32,
}

impl Gateway {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Open(reader) if !self.held.contains_key(&reader) => {
                self.exchanges.open(reader, Endpoint::Completions);
                self.held.insert(reader, None);
            }
            Step::Open(_) => {}
            Step::Join(reader) => {
                self.pickers += 1;
                let joins = self.exchanges.join(reader, self.pickers, CUT, LIMITS, 0);
                prop_assert_eq!(joins, self.held.get(&reader) == Some(&None));
                if joins {
                    self.held.insert(reader, Some(self.pickers));
                }
            }
            Step::Feed(reader, piece) => {
                self.exchanges.feed(reader, &piece, 0);
            }
            Step::EndBody(reader) => {
                self.exchanges.end_body(reader);
            }
            Step::Close(reader) => {
                let was_held = self.held.remove(&reader).flatten().is_some();
                prop_assert_eq!(self.exchanges.close(reader), was_held);
            }
            Step::Expire(now_ms) => self.exchanges.expire(now_ms),
            Step::TakeDue => self.take_due()?,
        }
        let held = self.held.values().flatten().count();
        prop_assert_eq!(self.exchanges.held_requests(), held);
        Ok(())
    }

    fn take_due(&mut self) -> Result<(), TestCaseError> {
        for decidable in self.exchanges.take_due() {
            let reader = self
                .held
                .iter()
                .find(|(_, picker)| **picker == Some(decidable.picker));
            let reader = reader.map(|(reader, _)| *reader);
            prop_assert!(
                reader.is_some(),
                "picker {} holds nothing",
                decidable.picker
            );
            self.held.retain(|open, _| Some(*open) != reader);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_held_request_is_decided_once_or_closed(steps in steps()) {
        let mut gateway = Gateway::default();
        for step in steps {
            gateway.step(step)?;
        }
        gateway.exchanges.expire(u64::MAX);
        gateway.take_due()?;
        prop_assert_eq!(gateway.exchanges.held_requests(), 0);
        prop_assert!(gateway.held.values().all(Option::is_none), "held and not decided: {:?}", gateway.held);
    }
}
