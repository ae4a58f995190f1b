//! How the messages of single calls are framed: as prost's own codec does, but with buffers for messages that are small, and through
//! slices, which prost reads and writes in half of the instructions that a chain of buffers takes.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Room for a usual message. Two of these are made for each call; larger messages make them grow.
const BUFFER_BYTES: usize = 512;
/// What a stream of answers collects before it is sent; tonic's own.
const COLLECTED_BYTES: usize = 32 * 1024;

/// Reads `D` and writes `E`.
#[derive(Debug)]
pub(crate) struct CallCodec<E, D>(PhantomData<fn(D) -> E>);

/// Half of it.
#[derive(Debug)]
pub(crate) struct Half<M>(PhantomData<fn() -> M>);

impl<E, D> Default for CallCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: prost::Message + 'static, D: prost::Message + Default + 'static> Codec for CallCodec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Half<E>;
    type Decoder = Half<D>;

    fn encoder(&mut self) -> Half<E> {
        Half(PhantomData)
    }

    fn decoder(&mut self) -> Half<D> {
        Half(PhantomData)
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, COLLECTED_BYTES)
}

impl<M: prost::Message> Encoder for Half<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = message.encode_to_vec();
        to.reserve(bytes.len());
        to.put_slice(&bytes);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

impl<M: prost::Message + Default> Decoder for Half<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let bytes = message.copy_to_bytes(message.remaining());
        M::decode(&*bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
