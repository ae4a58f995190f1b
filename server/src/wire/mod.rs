//! Between the wire's words and the heart's. What comes in is checked here, once, with the field named; what goes out is total.

pub(crate) mod budget;
pub(crate) mod codec;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod items;
pub(crate) mod reader;
pub(crate) mod writer;
