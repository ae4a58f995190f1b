//! The profiles that are part of the binary, each in a file of its own under `server/profiles`.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../profiles/", $name, ".toml")))),*]
    };
}

/// Name and text, sorted by name.
pub(super) const FILES: [(&str, &str); 15] = files![
    "anthropic",
    "azure-openai",
    "bedrock",
    "cohere",
    "gemini",
    "generic",
    "github",
    "groq",
    "mistral",
    "openai",
    "shopify",
    "slack",
    "stripe",
    "vertex",
    "zhipu",
];
