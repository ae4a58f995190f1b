//! Other people's messages, with the fields that are used here, by the numbers in their public definitions: Envoy's
//! `envoy.service.ratelimit.v3` (which Limitador speaks as well), `throttlecrab`, and gubernator's `pb.gubernator`.

use prost::Message;
use tonic::{Request, client, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Peer, Wire};
use crate::bench::{Error, load::key_of};

pub(super) const ENVOY: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
pub(super) const THROTTLECRAB: &str = "/throttlecrab.RateLimiter/Throttle";
pub(super) const GUBERNATOR: &str = "/pb.gubernator.V1/GetRateLimits";

/// Of limits that come with the question: so much in a minute that nobody reaches it.
const AMPLE: i32 = 1_000_000_000;
const MINUTE_SECONDS: i32 = 60;

/// One caller of a server.
pub(super) struct Grpc {
    grpc: client::Grpc<Channel>,
    wire: Wire,
    domain: String,
}

impl Grpc {
    pub(super) fn new(channel: Channel, peer: &Peer) -> Self {
        Self { grpc: client::Grpc::new(channel), wire: peer.wire, domain: peer.domain.clone() }
    }

    /// # Errors
    /// If one is not granted.
    pub(super) async fn ask(&mut self, keys: &[usize]) -> Result<(), Error> {
        let granted = match self.wire {
            Wire::Envoy => {
                let entry = |key| Entry { key: "key".to_owned(), value: key_of(key) };
                let descriptors = keys.iter().map(|key| Descriptor { entries: vec![entry(*key)] }).collect();
                let asked = ShouldRateLimit { domain: self.domain.clone(), descriptors, hits: 1 };
                let answer: RateLimited = self.call(ENVOY, asked).await?;
                answer.overall_code == ENVOY_OK
            }
            Wire::Throttlecrab => {
                let mut is_granted = true;
                for key in keys {
                    let throttle = Throttle {
                        key: key_of(*key),
                        max_burst: AMPLE,
                        count_per_period: AMPLE,
                        period: MINUTE_SECONDS,
                        quantity: 1,
                    };
                    let answer: Throttled = self.call(THROTTLECRAB, throttle).await?;
                    is_granted &= answer.allowed;
                }
                is_granted
            }
            _ => {
                let limit = |key| RateLimit {
                    name: "permitd".to_owned(),
                    unique_key: key_of(key),
                    hits: 1,
                    limit: AMPLE.into(),
                    duration_ms: i64::from(MINUTE_SECONDS) * 1_000,
                };
                let asked = RateLimits { requests: keys.iter().map(|key| limit(*key)).collect() };
                let answers: RateLimitAnswers = self.call(GUBERNATOR, asked).await?;
                if let Some(failed) = answers.responses.iter().find(|answer| !answer.error.is_empty()) {
                    return Err(format!("gubernator: {}", failed.error).into());
                }
                let granted = answers.responses.iter().filter(|answer| answer.status == GUBERNATOR_UNDER);
                granted.count() == keys.len()
            }
        };
        if granted { Ok(()) } else { Err(format!("{} did not grant", self.wire.name()).into()) }
    }

    async fn call<Q, A>(&mut self, path: &'static str, question: Q) -> Result<A, Error>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        Ok(self
            .grpc
            .unary(Request::new(question), PathAndQuery::from_static(path), codec)
            .await?
            .into_inner())
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ShouldRateLimit {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimited {
    #[prost(int32, tag = "1")]
    pub(super) overall_code: i32,
}

pub(super) const ENVOY_OK: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Throttle {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(int32, tag = "2")]
    max_burst: i32,
    #[prost(int32, tag = "3")]
    count_per_period: i32,
    #[prost(int32, tag = "4")]
    period: i32,
    #[prost(int32, tag = "5")]
    quantity: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Throttled {
    #[prost(bool, tag = "1")]
    pub(super) allowed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimits {
    #[prost(message, repeated, tag = "1")]
    pub(super) requests: Vec<RateLimit>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimit {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    pub(super) unique_key: String,
    #[prost(int64, tag = "3")]
    hits: i64,
    #[prost(int64, tag = "4")]
    limit: i64,
    #[prost(int64, tag = "5")]
    duration_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitAnswers {
    #[prost(message, repeated, tag = "1")]
    pub(super) responses: Vec<RateLimitAnswer>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RateLimitAnswer {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
    #[prost(string, tag = "5")]
    pub(super) error: String,
}

const GUBERNATOR_UNDER: i32 = 0;
