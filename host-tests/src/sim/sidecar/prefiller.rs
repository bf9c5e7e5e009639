//! Who runs the prefill leg, as the gateway names it.

use hyper::HeaderMap;
use hyper::http::uri::Authority;

/// Names the prefill rank: `host:port`, IPv6 in brackets.
pub(super) const HEADER: &str = "x-prefiller-host-port";

/// The rank that is named first: of several in one header or in several. The sidecar's option to choose one at random is
/// left out, so that tests know whom it asks. `None` when nobody is named.
pub(super) fn first(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(HEADER)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let named = text.split(',').next().unwrap_or("").trim().to_string();
    (!named.is_empty()).then_some(named)
}

/// Where it is: `None` for what is no host, or a host with a port that is none. `http://` before it is passed over.
pub(super) fn parse(named: &str) -> Option<Authority> {
    let authority: Authority = named
        .strip_prefix("http://")
        .unwrap_or(named)
        .parse()
        .ok()?;
    let (_, port) = authority
        .as_str()
        .rsplit_once(']')
        .unwrap_or(("", authority.as_str()));
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    port.rsplit_once(':')
        .is_none_or(|(_, port)| is_port(port))
        .then_some(authority)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn first_of(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        first(&headers)
    }

    #[test]
    fn the_first_of_several_is_asked_and_an_empty_one_is_none() {
        assert_eq!(
            first_of(&["10.0.0.1:8000, 10.0.0.2:8000"]).as_deref(),
            Some("10.0.0.1:8000")
        );
        assert_eq!(
            first_of(&["10.0.0.3:8000", "10.0.0.2:8000"]).as_deref(),
            Some("10.0.0.3:8000")
        );
        assert_eq!(first_of(&[]), None);
        assert_eq!(first_of(&["  "]), None);
    }

    #[test]
    fn hosts_with_ports_are_understood_and_anything_else_is_not() {
        for named in [
            "10.0.0.1:8000",
            "[fd00::1]:8000",
            "http://10.0.0.1:8000",
            "rank.prefill:8000",
            "10.0.0.1",
        ] {
            assert!(parse(named).is_some(), "{named}");
        }
        for named in [
            "10.0.0.1:port",
            "fd00::1:8000",
            "[fd00::1:8000",
            "10.0.0.1:99999",
            "10.0.0.1:8000/x",
            "a b",
            ":",
        ] {
            assert!(parse(named).is_none(), "{named}");
        }
    }
}
