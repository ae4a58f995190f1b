//! Who shares the budget: weight, guarantee, counts, and the meters of limits that every tenant has for itself.

use smallvec::SmallVec;

use crate::{
    fair::Flow,
    guarantee::Guarantee,
    limit::{Limit, LimitSet},
    meter::Meter,
    spec::{CheckedSpec, TenantSpec},
    time::Time,
};

/// Tenants known at once; of those, one that is idle makes room for a new one.
pub(crate) const TENANTS_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) weight: u32,
    pub(crate) max_waiting: u32,
    pub(crate) waiting: u32,
    pub(crate) in_flight: u32,
    pub(crate) granted_total: u64,
    pub(crate) guarantee: Option<Guarantee>,
    /// Limits that match this tenant.
    pub(crate) limits: LimitSet,
    /// By class.
    pub(crate) flows: [Flow; 3],
    /// For limits that every tenant has for itself, by their place in the budget, ascending.
    each: SmallVec<[(u8, Meter); 1]>,
}

impl Tenant {
    pub(crate) fn new(name: &str, spec: &CheckedSpec, limits: &[Limit], now: Time) -> Self {
        let mut tenant = Self {
            weight: 1,
            max_waiting: 0,
            waiting: 0,
            in_flight: 0,
            granted_total: 0,
            guarantee: None,
            limits: 0,
            flows: Default::default(),
            each: SmallVec::new(),
        };
        tenant.configure(name, spec, limits, now);
        tenant
    }

    /// Takes a declaration in; meters of limits that stay are kept and those of new limits start full.
    pub(crate) fn configure(&mut self, name: &str, spec: &CheckedSpec, limits: &[Limit], now: Time) {
        let declared = spec.tenants.get(name).copied().unwrap_or_default();
        let TenantSpec { weight, max_waiting, .. } = declared;
        (self.weight, self.max_waiting) = (weight.max(1), max_waiting);
        self.guarantee = Guarantee::of(declared, self.guarantee, now);
        self.limits = 0;
        for (at, limit) in limits.iter().enumerate() {
            if limit.matches_tenant(name) {
                self.limits |= 1 << at;
                if limit.is_each() && self.meter(at).is_none() {
                    self.each.push((at as u8, limit.rule.newcomers_meter(now)));
                }
            }
        }
        self.each.sort_unstable_by_key(|(at, _)| *at);
    }

    /// Its own meter of a limit.
    pub(crate) fn meter(&mut self, limit: usize) -> Option<&mut Meter> {
        self.each.iter_mut().find(|(at, _)| usize::from(*at) == limit).map(|(_, meter)| meter)
    }

    /// All its own meters, by the place of their limit.
    pub(crate) fn meters(&mut self) -> impl Iterator<Item = (u8, &mut Meter)> {
        self.each.iter_mut().map(|(at, meter)| (*at, meter))
    }

    /// Moves the meters to the places that their limits have now; `moved` says where, and makes them anew.
    pub(crate) fn move_meters(&mut self, mut moved: impl FnMut(usize, Meter) -> Option<(usize, Meter)>) {
        let before = std::mem::take(&mut self.each);
        self.each = before
            .into_iter()
            .filter_map(|(at, meter)| moved(usize::from(at), meter))
            .map(|(at, meter)| (at as u8, meter))
            .collect();
        self.each.sort_unstable_by_key(|(at, _)| *at);
    }

    /// Whether nothing would be lost by forgetting it.
    pub(crate) fn is_idle(&mut self, now: Time) -> bool {
        self.waiting == 0
            && self.in_flight == 0
            && self.each.iter_mut().all(|(_, meter)| {
                meter.advance(now);
                meter.available() == meter.capacity()
            })
    }
}
