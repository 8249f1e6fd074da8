use pointsman_comfyui::graph;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::payload;
pub use crate::payload::PayloadError;

/// What a ComfyUI job brings: `{"workflow": …}`, the workflow in API format.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComfyUiPayload {
    /// The graph in API format: node id → `{class_type, inputs}`.
    pub workflow: Value,
    /// Handed to ComfyUI as it is, such as `{"extra_pnginfo": …}` or an API key of a partner node.
    #[serde(default)]
    pub extra_data: Map<String, Value>,
    /// Take the results when a part of the graph was refused. Otherwise such a job fails.
    #[serde(default)]
    pub allow_partial: bool,
}

impl ComfyUiPayload {
    /// Reads and checks a payload. What the nodes mean is the service's business.
    ///
    /// # Errors
    /// [`PayloadError`] with the first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let payload: Self = payload::read(bytes)?;
        graph::validate_api_format(&payload.workflow).map_err(|error| {
            PayloadError::new(format!("/workflow{}", error.pointer), error.reason)
        })?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_payload_says_where() {
        for (payload, pointer) in [
            ("nonsense", ""),
            ("[]", ""),
            ("{}", "/workflow"),
            (r#"{"workflow": {}, "prompt": {}}"#, "/prompt"),
            (r#"{"workflow": []}"#, "/workflow"),
            (r#"{"workflow": {"nodes": [], "links": []}}"#, "/workflow"),
            (r#"{"workflow": {"1": {"inputs": {}}}}"#, "/workflow/1/class_type"),
            (r#"{"workflow": {}, "allow_partial": 1}"#, "/allow_partial"),
        ] {
            let error = ComfyUiPayload::parse(payload.as_bytes()).unwrap_err();
            assert_eq!(error.pointer, pointer, "{payload}: {error}");
        }
    }
}
