//! Properties: what Envoy knows of a stream, and words that filters leave on it.

use proxy_wasm::types::Status;

use super::Envoy;
use crate::stream::Stream;
use crate::trace::Detail;

impl Envoy {
    /// A path's parts are separated by zero bytes.
    pub(crate) fn property(&mut self, path: &[u8]) -> Result<Vec<u8>, Status> {
        self.note(Detail::HostCalls, ("property", path), || {
            format!("      property({})", path.escape_ascii())
        });
        let (id, plugin) = self.stream_at_work().map_err(|_| Status::NotFound)?;
        let stream = self.streams.get(&id).ok_or(Status::NotFound)?;
        if path == b"plugin_name" {
            return Ok(format!("{plugin:?}").to_lowercase().into_bytes());
        }
        let found = of_envoy(stream, path).or_else(|| stream.properties.get(path).cloned());
        found.ok_or(Status::NotFound)
    }

    /// A word is written once; a second under its name is refused, and so is one outside a stream.
    pub(crate) fn set_property(&mut self, path: &[u8], value: &[u8]) -> Result<(), Status> {
        self.note(Detail::HostCalls, ("set_property", path, value), || {
            format!(
                "      set_property({}, {})",
                path.escape_ascii(),
                value.escape_ascii()
            )
        });
        let (id, _) = self.stream_at_work().map_err(|_| Status::NotFound)?;
        let words = &mut self.stream_mut(id)?.properties;
        if words.contains_key(path) {
            return Err(Status::BadArgument);
        }
        words.insert(path.to_vec(), value.to_vec());
        Ok(())
    }
}

/// What Envoy itself knows. Numbers are eight bytes, little endian; where a stream went is known once it is answered.
fn of_envoy(stream: &Stream, path: &[u8]) -> Option<Vec<u8>> {
    let exchange = &stream.exchange;
    let number = |value: u64| Some(value.to_le_bytes().to_vec());
    match path {
        b"xds\0cluster_name" => Some(b"pool".to_vec()),
        b"request\0id" => Some(b"00000000-0000-4000-8000-000000000000".to_vec()),
        b"upstream\0request_attempt_count" => number(exchange.attempt.into()),
        b"response\0flags" => number(stream.flag.map_or(0, |flag| flag as u64)),
        b"response\0code" => number(stream.code?.into()),
        b"upstream\0address" => {
            let address = exchange.address.as_ref();
            let is_known = stream.code.is_some() || stream.flag.is_some();
            Some(address.filter(|_| is_known)?.clone().into_bytes())
        }
        _ => None,
    }
}
