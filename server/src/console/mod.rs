//! The web console: pages that are part of the binary, and the JSON behind them. It decides nothing: whatever it shows or does is asked of
//! `AdminService`, in the name and with the role of whoever looks.

mod api;
mod overview;
mod pages;
mod problem;
mod visitor;

use std::{future::Future, sync::Arc};

use axum::Router;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use self::{problem::Problem, visitor::Visitor};
use crate::{
    admin::Admin,
    auth::{Caller, Gate, Role},
};

/// Overviews that are put together at once; who comes behind waits. Connections are bounded, so these are too.
const OVERVIEWS: usize = 2;

/// What the console stands on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    admin: Admin,
    gate: Gate,
    /// Counts who was turned away.
    denied: Counter,
    overviews: Arc<Semaphore>,
}

impl Console {
    pub(crate) fn new(admin: Admin, gate: Gate, denied: Counter) -> Self {
        Self { admin, gate, denied, overviews: Arc::new(Semaphore::new(OVERVIEWS)) }
    }

    /// The pages, and what they ask for.
    pub(crate) fn routes(self) -> Router {
        pages::routes().merge(api::routes(self))
    }

    /// Who calls a method of `AdminService`, if they may.
    fn admit(&self, visitor: &Visitor, method: &'static str) -> Result<Caller, Problem> {
        self.gate.admit_to_console(method, visitor.headers()).map_err(|fault| {
            self.denied.inc();
            fault.into()
        })
    }

    /// Calls a method of `AdminService` in a caller's name.
    async fn call<Q, A, F>(
        &self,
        caller: &Caller,
        request: Q,
        method: impl FnOnce(Admin, Request<Q>) -> F,
    ) -> Result<A, Problem>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(request);
        request.extensions_mut().insert(caller.clone());
        Ok(method(self.admin.clone(), request).await?.into_inner())
    }
}

/// Who looks, and whether there is any use in showing them what steers.
fn described(caller: &Caller) -> Value {
    json!({ "name": caller.name(), "may_steer": caller.check_role(Role::Admin).is_ok() })
}
