//! Logs of an Envoy: what became of each request, and of each attempt to get it answered.

use std::path::Path;

use routing::{DESTINATION_HEADER, PREFILLER_HEADER};
use serde_json::{Value, json};

use super::Bootstrap;
use crate::gateway_log::{ATTEMPTS_FILE, NUMBER_HEADER, REQUESTS_FILE};

impl Bootstrap {
    /// Logs requests and attempts into this folder, for [`crate::gateway_log`].
    #[must_use]
    pub fn logs(mut self, folder: &Path) -> Self {
        let number = format!("%REQ({NUMBER_HEADER})%");
        let named = format!("%REQ({DESTINATION_HEADER})%");
        let requests = json!({
            "named": named,
            "number": number, "status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%",
            "details": "%RESPONSE_CODE_DETAILS%", "rank": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        });
        let attempts = json!({
            "number": number, "status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "rank": "%UPSTREAM_HOST%",
            "prefiller": format!("%REQ({PREFILLER_HEADER})%"), "started": "%START_TIME(%s.%6f)%",
        });
        let manager = self.connection_manager();
        manager["access_log"] = file(&folder.join(REQUESTS_FILE), &requests);
        let filters = manager["http_filters"].as_array_mut();
        if let Some(router) = filters.and_then(|filters| filters.last_mut()) {
            router["typed_config"]["upstream_log"] = file(&folder.join(ATTEMPTS_FILE), &attempts);
        }
        self
    }
}

fn file(path: &Path, line: &Value) -> Value {
    json!([{"name": "file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": path, "log_format": {"json_format": line},
    }}])
}
