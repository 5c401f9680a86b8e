//! Who is read next of the lanes that want rows: tenants in turn, each with the lane that has waited longest. Pure.
//!
//! A lane that is known to have something to read is in a hurry. One that a sweep has found waits for the others, since there is
//! something new in few of those; but of every refill some lanes are for them.

use std::collections::{HashMap, VecDeque};

use crate::types::{EndpointId, TenantId};

/// How much a lane wants to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hunger {
    Swept,
    Hurried,
}

/// Lanes in line. One that has become hurried while it was there as a swept one is there twice, and one that is gone still is:
/// whoever takes it out looks.
#[derive(Default)]
pub struct Hungry {
    hurried: Turns,
    swept: Turns,
}

impl Hungry {
    pub fn push(&mut self, hunger: Hunger, tenant: TenantId, lane: EndpointId) {
        self.turns(hunger).push(tenant, lane);
    }

    pub fn pop(&mut self, hunger: Hunger) -> Option<EndpointId> {
        self.turns(hunger).pop()
    }

    pub fn retain(&mut self, keeps: impl Fn(&EndpointId) -> bool) {
        self.hurried.retain(&keeps);
        self.swept.retain(&keeps);
    }

    fn turns(&mut self, hunger: Hunger) -> &mut Turns {
        match hunger {
            Hunger::Swept => &mut self.swept,
            Hunger::Hurried => &mut self.hurried,
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.hurried.tenants.is_empty() && self.swept.tenants.is_empty()
    }
}

#[derive(Default)]
struct Turns {
    /// Those with lanes, each once.
    tenants: VecDeque<TenantId>,
    lanes: HashMap<TenantId, VecDeque<EndpointId>>,
}

impl Turns {
    fn push(&mut self, tenant: TenantId, lane: EndpointId) {
        let lanes = self.lanes.entry(tenant).or_default();
        if lanes.is_empty() {
            self.tenants.push_back(tenant);
        }
        lanes.push_back(lane);
    }

    fn pop(&mut self) -> Option<EndpointId> {
        let tenant = self.tenants.pop_front()?;
        let lanes = self.lanes.get_mut(&tenant)?;
        let lane = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        lane
    }

    fn retain(&mut self, keeps: impl Fn(&EndpointId) -> bool) {
        self.lanes.retain(|_, lanes| {
            lanes.retain(&keeps);
            !lanes.is_empty()
        });
        self.tenants.retain(|tenant| self.lanes.contains_key(tenant));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn lane(number: u32) -> EndpointId {
        Uuid::from_u128(u128::from(number)).into()
    }

    fn tenant(number: u8) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(u128::from(number)))
    }

    proptest! {
        /// However many lanes of however few others wait: who comes waits for one lane of each tenant that is there, and for
        /// the lanes of its own.
        #[test]
        fn a_lane_waits_for_one_of_each_tenant_and_for_its_own(
            before in proptest::collection::vec(0_u8..5, 0..60),
            meanwhile in proptest::collection::vec(0_u8..5, 0..60),
        ) {
            let mut hungry = Hungry::default();
            for (number, of) in (0..).zip(&before) {
                hungry.push(Hunger::Hurried, tenant(*of), lane(number));
            }
            let one = lane(1_000_000);
            hungry.push(Hunger::Hurried, tenant(4), one);
            let own = before.iter().filter(|of| **of == 4).count();
            let mut others = meanwhile.iter();
            for round in 0_u32.. {
                if hungry.pop(Hunger::Hurried) == Some(one) {
                    let waited = usize::try_from(round).unwrap();
                    prop_assert!(waited <= own + 4 * (own + 1), "{waited}");
                    break;
                }
                if let Some(of) = others.next() {
                    hungry.push(Hunger::Hurried, tenant(*of), lane(2_000_000 + round));
                }
            }
        }
    }
}
