//! How many ranks prefill and how many decode.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use anyhow::{Context, Error, ensure};

/// Prefill ranks and decode ranks, at least one each; written `16:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Ranks that prefill.
    pub prefill: usize,
    /// Ranks that decode.
    pub decode: usize,
}

impl FromStr for Ratio {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ranks = || {
            let (prefill, decode) = text.split_once(':')?;
            Some((prefill.parse().ok()?, decode.parse().ok()?))
        };
        let refusal = || format!("{text:?} is not prefill ranks:decode ranks, as 16:8");
        let (prefill, decode) = ranks().with_context(refusal)?;
        ensure!(prefill > 0 && decode > 0, refusal());
        Ok(Self { prefill, decode })
    }
}

impl Display for Ratio {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.prefill, self.decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_read_as_it_is_written() {
        let ratio: Ratio = "8:16".parse().unwrap();
        assert_eq!((ratio.prefill, ratio.decode), (8, 16));
        assert_eq!(ratio.to_string(), "8:16");
    }

    #[test]
    fn what_is_no_ratio_is_refused_with_what_was_given() {
        for text in ["", "8", "8:", "0:8", "8:0", "8:-1", "8:8:8"] {
            let error = text.parse::<Ratio>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
