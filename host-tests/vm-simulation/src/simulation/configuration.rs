//! What an operator writes, and rewrites while traffic runs.

use crate::chance::Chance;
use crate::ranks::Ranks;
use crate::vm_record::Plugin;

/// How often a new configuration is wrong.
const WRONG_SHARE: f64 = 0.1;

/// The newest configuration of each filter.
#[derive(Debug)]
pub(crate) struct Configuration {
    texts: [String; 2],
    wrong: Option<String>,
    generation: u32,
}

impl Configuration {
    pub(crate) fn draw(ranks: &Ranks, chance: &mut Chance) -> Self {
        Self {
            texts: [r#"{"filter": "reader"}"#.to_string(), picker(ranks, chance)],
            wrong: None,
            generation: 0,
        }
    }

    pub(crate) fn of(&self, plugin: Plugin) -> &str {
        &self.texts[plugin.place()]
    }

    /// The last rewriting, when it was wrong.
    pub(crate) fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// Rewrites the configuration of a filter; false when the result is wrong, and then the old one stays.
    pub(crate) fn renew(&mut self, plugin: Plugin, ranks: &Ranks, chance: &mut Chance) -> bool {
        self.generation += 1;
        if chance.hits(WRONG_SHARE) {
            self.wrong = Some(
                chance
                    .pick(&["", "{}", r#"{"filter": "picker"}"#, "\u{0}"])
                    .to_string(),
            );
            return false;
        }
        self.wrong = None;
        let text = match plugin {
            // The reader has no settings: only white space can differ.
            Plugin::Reader => format!(
                "{{\"filter\":{:1$}\"reader\"}}",
                "",
                self.generation as usize % 9
            ),
            Plugin::Picker => picker(ranks, chance),
        };
        self.texts[plugin.place()] = text;
        true
    }
}

/// A picker of all ranks or some, or of those that Envoy lists, which decides sooner or later.
fn picker(ranks: &Ranks, chance: &mut Chance) -> String {
    let count = chance.length(1, ranks.ranks.len());
    let named: Vec<String> = ranks.ranks[..count]
        .iter()
        .map(|rank| format!("\"{}\"", rank.address))
        .collect();
    let clusters = chance.pick(&["", r#", "clusters": ["po*"]"#]);
    format!(
        r#"{{"filter": "picker", "ranks": [{}], "pool": "{}", "decideAfterBytes": {}, "decideAfterIdleMs": {}, "blockBytes": {}{clusters}}}"#,
        named.join(","),
        chance.pick(&["default", "default", "other"]),
        chance.pick(&[1024, 4096, 786_432]),
        chance.pick(&[10, 50, 50, 400]),
        chance.pick(&[64, 256]),
    )
}
