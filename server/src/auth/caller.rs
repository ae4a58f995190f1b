//! Somebody who was let in, and what they may do: the one place that says so. Where nobody has to prove who they are, everybody is
//! the same caller and may do everything.

use std::{fmt, sync::Arc, time::SystemTime};

use permitd_budget::{EACH, Glob};
use ring::digest::{SHA256, digest};
use tonic::Code;

use super::{
    Role,
    methods::Access,
    over::{Over, Waiting},
};
use crate::{
    config::{BudgetName, IdentityConfig, priority_name},
    status::Fault,
    wire::decode::Ask,
};

/// Whoever calls where nobody has to prove who they are.
const ANYBODY: &str = "loopback";

/// Somebody who was let in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Who);

#[derive(Clone, Debug)]
enum Who {
    Anybody,
    Known(Arc<Known>),
    /// Somebody whom another server of the cluster let in, and whose call it passes on.
    Passed(Arc<Passed>),
}

#[derive(Debug)]
struct Passed {
    name: String,
    holder: Holder,
}

/// Whose permits and sessions they are. Written into each permit's id, so that nobody else's id of it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Holder(pub(crate) u64);

#[derive(Debug)]
struct Known {
    name: String,
    holder: Holder,
    rules: Arc<Rules>,
    /// When what they showed ends.
    until: Option<SystemTime>,
}

/// What an identity of the configuration may do.
pub(super) struct Rules {
    identity: String,
    config: IdentityConfig,
    budgets: Vec<Glob>,
    tenants: Vec<Glob>,
    /// Once the configuration has others in their place.
    over: Over,
}

impl Rules {
    pub(super) fn new(identity: &str, config: &IdentityConfig) -> Self {
        let globs = |patterns: &[String]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        let (budgets, tenants) = (globs(&config.budgets), globs(&config.tenants));
        let over = Over::default();
        Self { identity: identity.to_owned(), config: config.clone(), budgets, tenants, over }
    }

    /// Whether they are what this configuration says.
    pub(super) fn are(&self, config: &IdentityConfig) -> bool {
        self.config == *config
    }

    /// Others are in their place: streams of whoever was let in by them end.
    pub(super) fn end(&self) {
        self.over.end();
    }

    /// The identity's name.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Caller {
    /// Whoever it is, where that is all the same.
    pub(super) fn anybody() -> Self {
        Self(Who::Anybody)
    }

    /// Somebody called `name` under these rules, until what they showed ends.
    pub(super) fn identified(name: String, rules: Arc<Rules>, until: Option<SystemTime>) -> Self {
        let hash = digest(&SHA256, name.as_bytes());
        let holder = Holder(u64::from_be_bytes(hash.as_ref()[..8].try_into().expect("8 of 32 bytes")));
        Self(Who::Known(Arc::new(Known { name, holder, rules, until })))
    }

    /// Somebody whose call another server passes on: it has checked what they may do.
    pub(super) fn passed(name: String, holder: Holder) -> Self {
        Self(Who::Passed(Arc::new(Passed { name, holder })))
    }

    /// Whether another server passes their call on.
    pub(crate) fn is_passed(&self) -> bool {
        matches!(self.0, Who::Passed(_))
    }

    fn known(&self) -> Option<&Known> {
        match &self.0 {
            Who::Known(known) => Some(known),
            Who::Anybody | Who::Passed(_) => None,
        }
    }

    /// For the audit trail.
    pub(crate) fn name(&self) -> &str {
        match &self.0 {
            Who::Anybody => ANYBODY,
            Who::Known(known) => &known.name,
            Who::Passed(passed) => &passed.name,
        }
    }

    /// Whose permits and sessions theirs are.
    pub(crate) fn holder(&self) -> Holder {
        match &self.0 {
            Who::Anybody => Holder::default(),
            Who::Known(known) => known.holder,
            Who::Passed(passed) => passed.holder,
        }
    }

    /// When what they showed ends; `None` for never.
    pub(super) fn until(&self) -> Option<SystemTime> {
        self.known()?.until
    }

    /// Resolves when the rules that let them in are over; `None` for never.
    pub(super) fn over(&self) -> Option<Waiting> {
        Some(self.known()?.rules.over.wait())
    }

    /// The tenant of requests that name none: the caller's own name if they may be that tenant, else the first that they may be.
    /// Empty if there is none, or no rule.
    pub(crate) fn tenant(&self) -> &str {
        let Some(known) = self.known() else { return "" };
        let rules = &known.rules;
        if rules.tenants.is_empty() || rules.tenants.iter().any(|tenant| tenant.matches(&known.name)) {
            return &known.name;
        }
        let literal = rules.config.tenants.iter().find(|tenant| !is_glob(tenant));
        literal.map(String::as_str).unwrap_or_default()
    }

    /// Whether they have that role.
    pub(crate) fn check_role(&self, role: Role) -> Result<(), Fault> {
        let Some(known) = self.known() else { return Ok(()) };
        if known.rules.config.roles.contains(&role) {
            return Ok(());
        }
        Err(role_missing(format!("{} lacks the role {role}", known.name)))
    }

    /// Whether they may call a method.
    pub(super) fn check_access(&self, access: Option<Access>) -> Result<(), Fault> {
        let Some(known) = self.known() else { return Ok(()) };
        match access {
            Some(Access::Open | Access::Known) => Ok(()),
            Some(Access::Roles(roles))
                if roles.iter().any(|role| known.rules.config.roles.contains(role)) =>
            {
                Ok(())
            }
            Some(Access::Roles(roles)) => {
                let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
                Err(role_missing(format!("{} lacks the role {}", known.name, names.join(" or "))))
            }
            None => Err(role_missing("there is no role for this method".to_owned())),
        }
    }

    /// Whether they may see that a budget of this name exists, if it does.
    pub(crate) fn may_see(&self, budget: &BudgetName) -> bool {
        let Some(known) = self.known() else { return true };
        let budgets = &known.rules.budgets;
        budgets.is_empty() || {
            let name = budget.to_string();
            budgets.iter().any(|glob| glob.matches(&name))
        }
    }

    /// Whether they see every budget that there can be.
    pub(crate) fn may_see_all(&self) -> bool {
        self.known().is_none_or(|known| {
            let budgets = &known.rules.budgets;
            budgets.is_empty() || budgets.iter().any(Glob::matches_all)
        })
    }

    /// Whether they may use a budget of this name, if it exists.
    pub(crate) fn check_budget(&self, budget: &BudgetName) -> Result<(), Fault> {
        if self.may_see(budget) {
            return Ok(());
        }
        let message = format!("{} may not use {budget}; whoever runs the server can allow it", self.name());
        Err(Fault::new(Code::PermissionDenied, "BUDGET_DENIED", message))
    }

    /// Whether they may have what tells of every budget.
    pub(super) fn check_all_budgets(&self) -> Result<(), Fault> {
        if self.may_see_all() {
            return Ok(());
        }
        let message = format!(
            "{} may not see every budget, and this tells of all; whoever runs the server can allow it",
            self.name()
        );
        Err(Fault::new(Code::PermissionDenied, "BUDGET_DENIED", message))
    }

    /// Whether they may be this tenant.
    pub(crate) fn check_tenant(&self, tenant: &str) -> Result<(), Fault> {
        let Some(known) = self.known() else { return Ok(()) };
        let tenants = &known.rules.tenants;
        let bound = if tenants.is_empty() {
            tenant == known.name
        } else {
            tenants.iter().any(|glob| glob.matches(tenant))
        };
        if bound {
            return Ok(());
        }
        let instead = match self.tenant() {
            "" => "name one that it may be".to_owned(),
            tenant => format!("leave it out to be {tenant}"),
        };
        let message = format!("{} may not be the tenant {tenant:?}; {instead}", known.name);
        Err(Fault::new(Code::PermissionDenied, "TENANT_DENIED", message))
    }

    /// Whether they may be one of the tenants that a limit is for.
    pub(crate) fn may_be_one_of(&self, tenants: &str) -> bool {
        let Some(known) = self.known() else { return true };
        if tenants == EACH {
            return true;
        }
        let (those, own) = (Glob::new(tenants), &known.rules.tenants);
        if own.is_empty() { those.matches(&known.name) } else { own.iter().any(|glob| glob.meets(&those)) }
    }

    /// Whether they may ask for that, whatever the budget.
    pub(crate) fn check_ask(&self, ask: &Ask<'_>) -> Result<(), Fault> {
        let Some(known) = self.known() else { return Ok(()) };
        self.check_role(Role::Acquire)?;
        self.check_tenant(ask.tenant)?;
        let priorities = &known.rules.config.priorities;
        if priorities.is_empty() || priorities.contains(&ask.priority) {
            return Ok(());
        }
        let allowed: Vec<&str> = priorities.iter().map(|priority| priority_name(*priority)).collect();
        let message = format!(
            "{} may not ask with priority {}; use {}",
            known.name,
            priority_name(ask.priority),
            allowed.join(" or ")
        );
        Err(Fault::new(Code::PermissionDenied, "PRIORITY_DENIED", message))
    }
}

/// Whether a pattern stands for more than itself.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

fn role_missing(message: String) -> Fault {
    let message = format!("{message}; whoever runs the server can give it");
    Fault::new(Code::PermissionDenied, "ROLE_MISSING", message)
}
