//! The answer to a request that says what only a sidecar may say, in the form in which OpenAI and vLLM report errors.

/// A bad request.
pub const REFUSAL_STATUS: u32 = 400;

/// The headers of the answer, beside those that Envoy adds.
pub const REFUSAL_HEADERS: [(&str, &str); 1] = [("content-type", "application/json")];

/// The body of the answer. `type` is the word that vLLM has for this status.
pub const REFUSAL_BODY: &str = concat!(
    r#"{"error":{"message":"kv_transfer_params cannot be set by clients of this gateway.","#,
    r#""type":"BadRequestError","param":"kv_transfer_params","code":400}}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_form_of_openai_s_errors() {
        let body: serde_json::Value = serde_json::from_str(REFUSAL_BODY).unwrap();
        let error = &body["error"];
        assert_eq!(body.as_object().unwrap().len(), 1);
        assert_eq!(error["code"], REFUSAL_STATUS);
        assert_eq!(error["param"], "kv_transfer_params");
        assert_eq!(error["type"], "BadRequestError");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("kv_transfer_params")
        );
    }
}
