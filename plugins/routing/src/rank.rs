//! A rank's identity and the notation of static lists.

use std::net::{IpAddr, SocketAddr};

/// A rank's place in the tables of one pool; stable while the rank is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RankId(pub u16);

impl RankId {
    /// The place as an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Ranks of one pod on consecutive ports: `10.0.0.7:8000-8007`, `[fd00::7]:8000`, `10.0.0.7:8000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankRange {
    ip: IpAddr,
    first_port: u16,
    last_port: u16,
}

impl RankRange {
    /// Reads the notation; `None` for anything else, port 0 and falling ranges included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, last_port) = match text.rsplit_once('-') {
            Some((host, last)) => (
                host,
                Some(last.parse().ok().filter(|_| !last.starts_with('+'))?),
            ),
            None => (text, None),
        };
        let first: SocketAddr = host.parse().ok()?;
        let range = Self {
            ip: first.ip(),
            first_port: first.port(),
            last_port: last_port.unwrap_or(first.port()),
        };
        (range.first_port > 0 && range.first_port <= range.last_port).then_some(range)
    }

    /// How many ranks the range names.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.last_port.saturating_sub(self.first_port)).saturating_add(1)
    }

    /// Whether the range names no rank; a parsed one names at least one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The ranks, by rising port.
    pub fn ranks(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let ip = self.ip;
        (self.first_port..=self.last_port).map(move |port| SocketAddr::new(ip, port))
    }
}

/// Writes addresses as the destination header wants them: `ip:port,ip:port`, IPv6 in brackets.
#[must_use]
pub fn rank_list(ranks: &[SocketAddr]) -> String {
    let names: Vec<String> = ranks.iter().map(SocketAddr::to_string).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<String> {
        let ranks: Vec<SocketAddr> = RankRange::parse(text)?.ranks().collect();
        Some(rank_list(&ranks))
    }

    #[test]
    fn a_range_names_every_port_of_a_pod() {
        let expected = "10.0.0.7:8000,10.0.0.7:8001,10.0.0.7:8002";
        assert_eq!(names("10.0.0.7:8000-8002").as_deref(), Some(expected));
        assert_eq!(
            names("[fd00::7]:8000-8001").as_deref(),
            Some("[fd00::7]:8000,[fd00::7]:8001")
        );
        assert_eq!(names("10.0.0.7:65535").as_deref(), Some("10.0.0.7:65535"));
    }

    #[test]
    fn a_range_knows_how_many_ranks_it_names() {
        for (text, ranks) in [
            ("10.0.0.7:8000", 1),
            ("10.0.0.7:8000-8000", 1),
            ("10.0.0.7:1-65535", 65_535),
        ] {
            let range = RankRange::parse(text).unwrap();
            assert_eq!(
                (range.len(), range.is_empty(), range.ranks().count()),
                (ranks, false, ranks),
                "{text}"
            );
        }
    }

    #[test]
    fn a_list_of_no_ranks_is_empty() {
        assert_eq!(rank_list(&[]), "");
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for text in [
            "",
            "10.0.0.7",
            "10.0.0.7:0",
            "10.0.0.7:8001-8000",
            "pod-a:8000",
            "10.0.0.7:1-x",
            "1:2-3-4",
            "10.0.0.7:8000-",
            "10.0.0.7:-8000",
            "10.0.0.7:65536",
            "10.0.0.7:8000-65536",
            "10.0.0.7:8000-+8001",
            " 10.0.0.7:8000",
            "10.0.0.7:8000 ",
            "10.0.0.256:8000",
            "fd00::7:8000",
            "[fd00::7]",
            "10.0.0.7:8000,10.0.0.7:8001",
        ] {
            assert_eq!(RankRange::parse(text), None, "{text}");
        }
    }
}
