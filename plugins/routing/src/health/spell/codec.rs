//! A spell as bytes, little-endian: since (8), step (8), length (4), times, cause, stage, format.

use super::{Cause, RAMP_END, Spell, Stage};
use crate::Failure;

/// Changes with every change of the layout or of what a byte means.
const FORMAT: u8 = 1;

/// The cause that is no failure of the rank's own; [`Failure::code`] never gives it.
const POD: u8 = 0;

const OUT: u8 = 0;
const IN: u8 = u8::MAX;

impl Spell {
    /// Bytes of an encoded spell.
    pub const BYTES: usize = 24;

    /// Writes it for another worker of the same process.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let tail = [self.times, self.cause_code(), self.stage_code(), FORMAT];
        let mut bytes = [0; Self::BYTES];
        let fields = self.since_ms.to_le_bytes().into_iter();
        let fields = fields
            .chain(self.step_ms.to_le_bytes())
            .chain(self.length_ms.to_le_bytes())
            .chain(tail);
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(to, byte)| *to = byte);
        bytes
    }

    /// Reads what [`Spell::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (since, rest) = bytes.split_first_chunk::<8>()?;
        let (step, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let [times, cause, stage, FORMAT] = *rest else {
            return None;
        };
        Some(Self {
            since_ms: u64::from_le_bytes(*since),
            step_ms: u64::from_le_bytes(*step),
            length_ms: u32::from_le_bytes(*length),
            times,
            cause: cause_of(cause)?,
            stage: stage_of(stage)?,
        })
    }

    fn cause_code(&self) -> u8 {
        match self.cause {
            Cause::Own(failure) => failure.code(),
            Cause::Pod => POD,
        }
    }

    fn stage_code(&self) -> u8 {
        match self.stage {
            Stage::Out => OUT,
            Stage::Ramping(limit) => limit,
            Stage::In => IN,
        }
    }
}

fn cause_of(code: u8) -> Option<Cause> {
    match code {
        POD => Some(Cause::Pod),
        _ => Failure::from_code(code).map(Cause::Own),
    }
}

fn stage_of(code: u8) -> Option<Stage> {
    match code {
        OUT => Some(Stage::Out),
        IN => Some(Stage::In),
        limit if limit <= RAMP_END && limit.is_power_of_two() => Some(Stage::Ramping(limit)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPELL: Spell = Spell {
        since_ms: 0x0102_0304_0506_0708,
        step_ms: 0x1112_1314_1516_1718,
        length_ms: 0x2122_2324,
        times: 3,
        cause: Cause::Own(Failure::Reset),
        stage: Stage::Ramping(8),
    };

    #[test]
    fn the_layout_is_as_written() {
        let expected = [
            8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23,
            0x22, 0x21, 3, 2, 8, 1,
        ];
        assert_eq!(SPELL.encode(), expected);
    }

    #[test]
    fn every_cause_and_stage_comes_back() {
        let causes = Failure::ALL.map(Cause::Own).into_iter().chain([Cause::Pod]);
        let stages = [Stage::Out, Stage::Ramping(1), Stage::Ramping(16), Stage::In];
        for cause in causes {
            for stage in stages {
                let spell = Spell {
                    cause,
                    stage,
                    ..SPELL
                };
                assert_eq!(Spell::decode(&spell.encode()), Some(spell));
            }
        }
    }

    #[test]
    fn other_lengths_and_meaningless_bytes_are_refused() {
        let bytes = SPELL.encode();
        for end in 0..Spell::BYTES {
            assert_eq!(Spell::decode(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(Spell::decode(&[&bytes[..], &[0]].concat()), None);
        for (place, byte) in [(21, 6), (22, 3), (22, 32), (23, 0), (23, 2)] {
            let mut wrong = bytes;
            wrong[place] = byte;
            assert_eq!(Spell::decode(&wrong), None, "{byte} at {place}");
        }
    }
}
