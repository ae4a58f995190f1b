//! Several servers as one, on a real etcd.

mod crowd;
mod encrypted;
mod faults;
mod fleet;
mod joining;
mod late;
mod steered;
mod strays;
mod together;
