//! The wire contract: every message and stub of the gRPC package `permitd.v1`, generated from the `.proto` files beside
//! this one. The comments there are the reference.

/// Package `permitd.v1`.
#[expect(missing_docs, clippy::all, reason = "generated; documented in the .proto files")]
pub mod v1 {
    tonic::include_proto!("permitd.v1");
}

/// The compiled descriptors of the package, for server reflection: an encoded `FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/permitd.v1.bin"));
