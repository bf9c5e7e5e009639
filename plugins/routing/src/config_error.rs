//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the field stands: empty, or `pools[1].`.
    pub place: String,
    /// The field, as it is written in the configuration.
    pub field: &'static str,
    /// The value given, as JSON.
    pub given: String,
    /// What is accepted there.
    pub accepted: &'static str,
}

/// All mistakes of a configuration, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}: {} given, {} accepted",
            self.place, self.field, self.given, self.accepted
        )
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("; "))
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_reads_as_field_given_and_accepted() {
        let mistake = |field| ConfigError {
            place: String::new(),
            field,
            given: "7".to_string(),
            accepted: "1 to 3",
        };
        assert_eq!(
            mistake("size").to_string(),
            "size: 7 given, 1 to 3 accepted"
        );
        let inner = ConfigError {
            place: "pools[1].".to_string(),
            ..mistake("size")
        };
        assert_eq!(inner.to_string(), "pools[1].size: 7 given, 1 to 3 accepted");
        let all = ConfigErrors(vec![mistake("size"), mistake("depth")]);
        assert_eq!(
            all.to_string(),
            "size: 7 given, 1 to 3 accepted; depth: 7 given, 1 to 3 accepted"
        );
    }
}
