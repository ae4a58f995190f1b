//! Who may talk to a server, and who may do what there: over real connections, judged by what the wire says.

mod access;
mod bound;
mod certificates;
mod followed;
mod jwt;
mod owned;
mod pools;
mod secrets;
mod support;
mod tls;
