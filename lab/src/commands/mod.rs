//! One module per subcommand.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod depth;
pub(crate) mod growth;
pub(crate) mod instructions;
pub(crate) mod provider;
pub(crate) mod refill;
pub(crate) mod scenarios;
pub(crate) mod siege;
