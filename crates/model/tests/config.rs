//! Values of a `config.json` whose meaning depends on the family or on the program that wrote them.

#![allow(clippy::unwrap_used)]

use modelgate_model::{Config, ConfigError};
use serde_json::{Value, json};

fn text_config() -> Value {
    json!({
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 64,
    })
}

#[test]
fn the_thinker_of_an_omni_model_decides_whether_embeddings_are_tied() {
    // transformers 5 writes `true` into the config of the text model, and loads a separate matrix
    for (thinker, text, tied) in [
        (json!(false), json!(true), false),
        (json!(true), json!(false), true),
        (json!(null), json!(true), false),
    ] {
        let mut text_config = text_config();
        text_config["tie_word_embeddings"] = text;
        let thinker = json!({
            "model_type": "qwen2_5_omni_thinker", "text_config": text_config,
            "tie_word_embeddings": thinker,
        });
        let complete = json!({ "model_type": "qwen2_5_omni", "thinker_config": thinker });
        for config in [thinker, complete] {
            assert_eq!(Config::from_json(&config.to_string()).unwrap().tied_embeddings, tied);
        }
    }
}

#[test]
fn constants_of_python_are_accepted_unless_the_model_needs_the_value() {
    let text = text_config().to_string();
    let with = |more: &str| Config::from_json(&text.replacen('{', &format!("{{{more},"), 1));
    let expected = Config::from_json(&text).unwrap();
    assert_eq!(with(r#""initializer_range": NaN, "a": [Infinity, -Infinity]"#), Ok(expected));
    for more in [r#""rope_theta": Infinity"#, r#""rms_norm_eps": NaN"#, r#""head_dim": -Infinity"#]
    {
        let Err(ConfigError::Malformed(what)) = with(more) else { panic!("{more} is accepted") };
        let value = more.split(": ").nth(1).unwrap();
        assert!(what.contains(value), "{more}: {what}");
    }
}

#[test]
fn a_negative_stop_token_means_that_there_is_none() {
    let mut config = text_config();
    for (value, expected) in [(json!(-1), vec![]), (json!([7, -1]), vec![7])] {
        config["eos_token_id"] = value;
        assert_eq!(Config::from_json(&config.to_string()).unwrap().stop_tokens, expected);
    }
    config["eos_token_id"] = json!("7");
    let Err(ConfigError::Malformed(what)) = Config::from_json(&config.to_string()) else {
        panic!("a text is accepted")
    };
    assert!(what.contains("eos_token_id"), "{what}");
}

#[test]
fn the_parameters_of_mlx_are_named() {
    let mut config = text_config();
    config["quantization_config"] = json!({ "group_size": 64, "bits": 4 });
    let Err(ConfigError::Unsupported(what)) = Config::from_json(&config.to_string()) else {
        panic!("a quantized checkpoint is accepted")
    };
    assert!(what.contains("MLX, 4 bits in groups of 64"), "{what}");
}
