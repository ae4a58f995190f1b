//! gRPC calls with whatever bytes where the message belongs.

use bytes::{Buf as _, BufMut as _};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::{line::Line, wait::soon};

/// Every method whose messages have fields.
pub const METHODS: [&str; 18] = [
    "/permitd.v1.PermitService/Acquire",
    "/permitd.v1.PermitService/Report",
    "/permitd.v1.PermitService/Session",
    "/permitd.v1.AdminService/GetBudget",
    "/permitd.v1.AdminService/ListBudgets",
    "/permitd.v1.AdminService/SetBudget",
    "/permitd.v1.AdminService/DeleteBudget",
    "/permitd.v1.AdminService/PauseBudget",
    "/permitd.v1.AdminService/ResumeBudget",
    "/permitd.v1.AdminService/WatchBudgets",
    "/permitd.v1.AdminService/ListChanges",
    "/permitd.v1.AdminService/DiffBudgets",
    "/permitd.v1.AdminService/ResetBudget",
    "/permitd.v1.AdminService/ExplainBudget",
    "/permitd.v1.AdminService/GetPool",
    "/permitd.v1.AdminService/ListPools",
    "/permitd.v1.ClusterService/MoveBudget",
    "/permitd.v1.ClusterService/DrainServer",
];

/// Calls a method with these bytes, and gives its first answer.
///
/// # Errors
/// The refusal.
///
/// # Panics
/// If nothing comes.
pub async fn call_with_bytes(channel: Line, method: &str, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
    let mut grpc = Grpc::new(channel).max_encoding_message_size(usize::MAX);
    soon("a channel", grpc.ready()).await.expect("it is connected");
    let path = PathAndQuery::try_from(method).expect("a path");
    let answer = soon("an answer", grpc.server_streaming(Request::new(bytes), path, RawCodec)).await?;
    soon("a message", answer.into_inner().message()).await
}

/// Calls a method with these messages, half-closes, and gives all its answers.
///
/// # Errors
/// How it failed.
///
/// # Panics
/// If it does not end.
pub async fn stream_of_bytes(
    channel: Line,
    method: &str,
    messages: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Status> {
    let mut grpc = Grpc::new(channel);
    soon("a channel", grpc.ready()).await.expect("it is connected");
    let path = PathAndQuery::try_from(method).expect("a path");
    let messages = Request::new(tokio_stream::iter(messages));
    let mut answers = soon("an answer", grpc.streaming(messages, path, RawCodec)).await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = soon("a message", answers.message()).await? {
        all.push(answer);
    }
    Ok(all)
}

/// Messages that are whatever bytes they are.
#[derive(Clone, Copy, Debug)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
