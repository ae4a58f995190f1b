//! A connection on which every call carries the same token, or none.

use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// A connection on which every call carries the same token, or none.
pub type Line = InterceptedService<Channel, Signature>;

/// What every call carries.
#[derive(Clone, Debug)]
pub struct Signature(Option<AsciiMetadataValue>);

/// Puts the token on every call.
pub(crate) fn sign(channel: Channel, token: Option<&str>) -> Line {
    let value = token.map(|token| format!("Bearer {token}").parse().expect("a token that can be sent"));
    InterceptedService::new(channel, Signature(value))
}

impl Interceptor for Signature {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
