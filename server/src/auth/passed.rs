//! How a server of a cluster tells another whose call it passes on. The other believes it: only with the role `peer`, where callers have
//! to prove who they are.

use tonic::{
    codegen::http::HeaderMap,
    metadata::{MetadataMap, MetadataValue},
};

use super::{Caller, Holder};
use crate::status::Fault;

/// Whose permits and sessions they are, as a number.
const HOLDER: &str = "permitd-holder";
/// What the audit trail calls them.
const NAME: &str = "permitd-name-bin";

/// Says whose call it is.
pub(crate) fn write(caller: &Caller, to: &mut MetadataMap) {
    to.insert(HOLDER, caller.holder().0.into());
    to.insert_bin(NAME, MetadataValue::from_bytes(caller.name().as_bytes()));
}

/// Whose call it is, if another server passes it on.
pub(super) fn read(headers: &HeaderMap) -> Option<Result<Caller, Fault>> {
    let holder = headers.get(HOLDER)?;
    let read = || {
        let holder = holder.to_str().ok()?.parse().ok()?;
        let metadata = MetadataMap::from_headers(headers.clone());
        let name = metadata.get_bin(NAME)?.to_bytes().ok()?;
        Some(Caller::passed(String::from_utf8(name.into()).ok()?, Holder(holder)))
    };
    Some(read().ok_or_else(|| Fault::invalid(HOLDER, "is written by other servers of the cluster only")))
}
