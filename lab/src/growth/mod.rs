//! What a cluster would meet as it grows far beyond one machine: what one budget and one server ask for is measured on a real cluster
//! ([`Each`]), what many ask for is reckoned from that ([`Size`]); and a limit that several regions share is tried in virtual time
//! ([`Regions`]).

mod each;
mod regions;
mod size;

pub use each::Each;
pub use regions::{Regions, Shared, Sharing};
pub use size::Size;
