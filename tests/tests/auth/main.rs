//! Who may talk to a server, and who may do what there: over real connections, judged by what the wire says.

mod support;
mod tls;
