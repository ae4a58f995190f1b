//! What any gRPC tool expects of a server: health for each service, and reflection in both versions.

use tokio_stream::iter;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Server, soon};

const SERVICES: [&str; 3] =
    ["permitd.v1.PermitService", "permitd.v1.AdminService", "permitd.v1.ClusterService"];

/// Goal: health answers for the server and each service, and for nothing else.
#[tokio::test]
async fn health_by_service() {
    let server = Server::start(&[]).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in [""].into_iter().chain(SERVICES) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = soon("health", health.check(request)).await.expect("an answer").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(health.check(request).await.expect_err("unknown").code(), Code::NotFound);
    server.stop().await;
}

/// Goal: both versions of reflection list the services.
#[tokio::test]
async fn reflection_lists_services() {
    let server = Server::start(&[]).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(iter([request])).await.expect("a stream").into_inner();
    let answer = soon("v1", answers.message()).await.expect("no error").expect("an answer");
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("a list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(SERVICES.iter().all(|service| names.iter().any(|name| name == service)), "{names:?}");

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            SERVICES[0].to_owned(),
        )),
    };
    let mut answers = client.server_reflection_info(iter([request])).await.expect("a stream").into_inner();
    let answer = soon("v1alpha", answers.message()).await.expect("no error").expect("an answer");
    assert!(matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
    server.stop().await;
}
