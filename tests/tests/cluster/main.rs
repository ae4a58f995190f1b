//! Several servers as one, on a real etcd.

mod configured;
mod crowd;
mod encrypted;
mod faults;
mod fleet;
mod followed;
mod joining;
mod late;
mod leaving;
mod lost;
mod namespaces;
mod steered;
mod strays;
mod together;
