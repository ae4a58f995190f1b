//! Which roles each method wants. A method that stands here nowhere is for nobody.

use super::Role;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever can connect, without a word about who they are: what balancers ask.
    Open,
    /// Whoever is known.
    Known,
    /// Whoever has one of these roles.
    Roles(&'static [Role]),
}

const ADMIN: Access = Access::Roles(&[Role::Admin]);
const OBSERVE: Access = Access::Roles(&[Role::Observe, Role::Admin]);

/// Our own methods. In a session, each item wants its role once more.
const METHODS: [(&str, Access); 19] = [
    ("/permitd.v1.PermitService/Acquire", Access::Roles(&[Role::Acquire])),
    ("/permitd.v1.PermitService/Report", Access::Roles(&[Role::Report])),
    ("/permitd.v1.PermitService/Session", Access::Roles(&[Role::Acquire, Role::Report])),
    ("/permitd.v1.AdminService/GetBudget", OBSERVE),
    ("/permitd.v1.AdminService/ExplainBudget", OBSERVE),
    ("/permitd.v1.AdminService/ListBudgets", OBSERVE),
    ("/permitd.v1.AdminService/GetPool", OBSERVE),
    ("/permitd.v1.AdminService/ListPools", OBSERVE),
    ("/permitd.v1.AdminService/WatchBudgets", OBSERVE),
    ("/permitd.v1.AdminService/ListChanges", OBSERVE),
    ("/permitd.v1.AdminService/DiffBudgets", OBSERVE),
    ("/permitd.v1.AdminService/SetBudget", ADMIN),
    ("/permitd.v1.AdminService/DeleteBudget", ADMIN),
    ("/permitd.v1.AdminService/ResetBudget", ADMIN),
    ("/permitd.v1.AdminService/PauseBudget", ADMIN),
    ("/permitd.v1.AdminService/ResumeBudget", ADMIN),
    ("/permitd.v1.ClusterService/GetCluster", OBSERVE),
    ("/permitd.v1.ClusterService/MoveBudget", ADMIN),
    ("/permitd.v1.ClusterService/DrainServer", ADMIN),
];

/// Services of others, as a whole.
const SERVICES: [(&str, Access); 3] = [
    ("/grpc.health.v1.Health/", Access::Open),
    ("/grpc.reflection.v1.ServerReflection/", Access::Known),
    ("/grpc.reflection.v1alpha.ServerReflection/", Access::Known),
];

/// Who may call the method at that path; `None` for nobody.
pub(super) fn access(path: &str) -> Option<Access> {
    let method = METHODS.iter().find(|(method, _)| *method == path);
    let service = || SERVICES.iter().find(|(service, _)| path.starts_with(service));
    method.or_else(service).map(|(_, access)| *access)
}

/// Who may read metrics.
pub(super) const METRICS: Access = OBSERVE;
