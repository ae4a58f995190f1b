//! What is declared, as the command that declares it, ready for a shell.

use permitd_proto::v1;

use super::{facts, name};

/// What is declared about a budget, as `permitd budgets set` would take it.
#[must_use]
pub fn command(budget: &v1::Budget) -> String {
    let mut flags: Vec<String> =
        facts(budget).iter().map(|fact| format!("--{} {}", fact.flag, quoted(&fact.value))).collect();
    if budget.limits.is_empty() {
        flags.insert(0, "--unlimited".to_owned());
    }
    format!("permitd budgets set {} {}", quoted(&name(budget)), flags.join(" "))
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=,:@%+".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
