//! SEMANTICS, "Acquire and queue" (1 to 17): each question asked of a server as a caller would.

mod amounts;
mod order;
mod parts;
mod shadow;
mod support;
mod waiting;
