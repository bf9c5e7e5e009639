//! The answer to a request whose body says what no client may say, in the form in which OpenAI and vLLM report errors.

/// A bad request.
pub const REFUSAL_STATUS: u32 = 400;

/// The headers of the answer, beside those that Envoy adds.
pub const REFUSAL_HEADERS: [(&str, &str); 1] = [("content-type", "application/json")];

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body has this key, which no client may set.
    Key(String),
    /// The body names a model behind the one by which its route was chosen.
    SecondModel,
}

impl Refusal {
    /// The body of the answer. `type` is the word that vLLM has for this status.
    #[must_use]
    pub fn body(&self) -> String {
        // Keys are letters, digits and what stands in names: nothing that JSON escapes.
        let (param, message) = match self {
            Self::Key(key) => (
                key.as_str(),
                format!("{key} cannot be set by clients of this gateway."),
            ),
            Self::SecondModel => (
                "model",
                "model comes again after its first value has chosen the route.".to_string(),
            ),
        };
        format!(
            r#"{{"error":{{"message":"{message}","type":"BadRequestError","param":"{param}","code":{REFUSAL_STATUS}}}}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::default_refused_keys;

    fn error(refusal: &Refusal) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&refusal.body()).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1);
        body["error"].clone()
    }

    #[test]
    fn the_answer_has_the_form_of_openai_s_errors_and_names_the_key() {
        for key in default_refused_keys() {
            let error = error(&Refusal::Key(key.to_string()));
            assert_eq!(error["code"], REFUSAL_STATUS);
            assert_eq!(error["type"], "BadRequestError");
            assert_eq!(error["param"], key);
            assert!(error["message"].as_str().unwrap().contains(key));
        }
    }

    #[test]
    fn a_second_model_is_told_in_other_words() {
        let error = error(&Refusal::SecondModel);
        assert_eq!(error["param"], "model");
        assert!(error["message"].as_str().unwrap().contains("again"));
    }
}
