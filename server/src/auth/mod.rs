//! Who calls, and what they may do. A call is let in before anything of it is read: its credentials are checked once, the role that
//! its method wants with them, and what comes out is a `Caller`, which answers every further question. What a caller may not do
//! is refused before it is looked at whether the thing exists.

mod caller;
mod directory;
mod gate;
mod jwks;
mod jwt;
mod layer;
mod methods;
mod over;
pub(crate) mod passed;
mod role;
mod token;

use crate::config::AuthConfig;

pub(crate) use self::{
    caller::{Caller, Holder},
    gate::Gate,
    layer::GateLayer,
};
pub use self::{
    jwks::JwksError,
    role::{Role, RoleError},
    token::{TokenHash, TokenHashError, new_token},
};

/// Says what is wrong with the files that `config` names.
///
/// # Errors
/// The first thing that is.
pub fn check(config: &AuthConfig) -> Result<(), JwksError> {
    config.jwt.as_ref().map_or(Ok(()), jwt::check)
}
