//! How a stream begins: with a Hello, and nothing else before it.

use std::sync::Arc;

use tonic::Code;

use super::{message::Message, table::Session};
use crate::{auth::Caller, shared::Shared, status::Fault, wire::decode};

/// How it began.
pub(super) struct Greeted {
    pub(super) session: Arc<Session>,
    /// The number of the stream within the session.
    pub(super) stream: u64,
    /// What else the first message asked for, and how many permits in it were never given to who names them.
    pub(super) items: usize,
    pub(super) forged: usize,
}

/// Begins or resumes the session that the first message names, and does what else it asks for.
pub(super) fn greet(
    shared: &Arc<Shared>,
    caller: &Caller,
    mut message: Message<'_>,
) -> Result<Greeted, Fault> {
    let Some(hello) = message.hello.take() else {
        return Err(hello_missing());
    };
    decode::hello(&hello)?;
    if !hello.tenant.is_empty() {
        caller.check_tenant(&hello.tenant)?;
    }
    if shared.is_draining() {
        return Err(Fault::draining());
    }
    loop {
        let (session, resumed) = shared.sessions.open(shared, caller, hello.session_id.clone())?;
        let Some(mut state) = session.attach() else {
            // Buried between the two: it has left the table by the time that its lock was free.
            continue;
        };
        let stream = state.stream;
        // Not its id, which is all that it takes to resume it.
        tracing::debug!(client = hello.client, resumed, "session begins");
        if resumed {
            let mut arrived = Vec::new();
            session.inbox.take(&mut arrived);
            state.core.take_in(shared, &mut arrived);
        }
        // The same somebody; but perhaps another server passed the call on before, or does now.
        state.core.caller = caller.clone();
        state.core.greet(shared, hello, session.id().to_owned(), resumed);
        let items = state.core.handle(shared, message);
        let forged = state.core.take_forged();
        drop(state);
        return Ok(Greeted { session, stream, items, forged });
    }
}

/// A stream that begins with something else, or with nothing for too long.
pub(super) fn hello_missing() -> Fault {
    let message = "the stream did not begin with a hello; send one in the first message, at once";
    Fault::new(Code::FailedPrecondition, "HELLO_MISSING", message)
}

/// A Hello that comes later.
pub(super) fn second_hello() -> Fault {
    Fault::invalid(
        "hello",
        "only the first message of a stream has one; open another stream for another session",
    )
}
