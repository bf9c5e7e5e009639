//! Values of options, as they stand on a command line.

use clap::ValueEnum;

/// The value's word; empty for one that no option takes.
#[must_use]
pub fn option_value(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_string())
}
