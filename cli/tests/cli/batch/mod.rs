//! `permitd batch`: the real binary against providers on real sockets.

mod bench;
mod calls;
mod files;
mod kill;
mod lines;
mod scripted;
mod stop;
mod tls;
