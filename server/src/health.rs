//! What others ask of any gRPC server: `grpc.health.v1`, NOT_SERVING until ready and while draining, and reflection.

use permitd_proto::v1::{
    admin_service_server::AdminServiceServer, cluster_service_server::ClusterServiceServer,
    permit_service_server::PermitServiceServer,
};
use tonic::{server::NamedService, service::Routes};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server::Builder as Reflection;

use crate::{admin::Admin, cluster::Service, service::Permits};

/// Everything that health is asked about; "" is the server as a whole.
const SERVICES: [&str; 4] = [
    "",
    <PermitServiceServer<Permits> as NamedService>::NAME,
    <AdminServiceServer<Admin> as NamedService>::NAME,
    <ClusterServiceServer<Service> as NamedService>::NAME,
];

/// The answers of all workers.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Not serving.
    pub(crate) async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.report(false).await;
        health
    }

    /// Tells everybody, also those who watch.
    pub(crate) async fn report(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Adds the services to those of a worker.
    pub(crate) fn mount(&self, routes: Routes) -> Routes {
        let health = HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()));
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(permitd_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = reflection().build_v1().expect("the descriptors were compiled with this program");
        let v1alpha = reflection().build_v1alpha().expect("the descriptors were compiled with this program");
        routes.add_service(health).add_service(v1).add_service(v1alpha)
    }
}
