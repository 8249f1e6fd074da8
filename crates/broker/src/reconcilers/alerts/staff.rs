//! Who is there for a service, as the view tells it.

use std::{collections::BTreeMap, sync::Arc};

use pointsman_core::{
    ConnectorId, ServiceName, Timestamp, View, WorkerId,
    bounds::brief,
    decide::{availability, unready},
    matching::{Availability, Class, Crowd, Throttle, able, excludes, explain},
    record::{Connector, Worker},
};

use super::stuck::Profiles;

/// A worker with a service.
pub(super) struct Member {
    pub worker: Arc<Worker>,
    connector: Option<Arc<Connector>>,
    availability: Availability,
}

/// The workers that have a service.
#[derive(Default)]
pub(super) struct Staff {
    pub members: Vec<Member>,
    /// Those that work, with or without a free slot.
    pub working: Crowd,
}

impl Member {
    fn works(&self) -> bool {
        matches!(self.availability, Availability::Free | Availability::Full)
    }
}

impl Staff {
    /// Everybody, by service.
    pub fn of(view: &View, now: Timestamp) -> BTreeMap<ServiceName, Self> {
        let mut all: BTreeMap<ServiceName, Self> = BTreeMap::new();
        for worker in view.workers.values() {
            for slots in &worker.services {
                let connector = ConnectorId::new(worker.id.clone(), slots.name.clone());
                let connector = view.connectors.get(&connector).cloned();
                let availability = availability(worker, connector.as_deref(), now);
                let member = Member { worker: worker.clone(), connector, availability };
                all.entry(slots.name.clone()).or_default().members.push(member);
            }
        }
        for Self { members, working } in all.values_mut() {
            let ids = members.iter().filter(|member| member.works()).map(|member| &member.worker);
            *working = ids.map(|worker| (worker.capabilities_digest, worker.id.clone())).collect();
        }
        all
    }

    /// Those that may run jobs of a class.
    pub fn able(&self, class: &Class, profiles: &Profiles) -> Vec<&Member> {
        let may = |worker: &Worker| {
            let offer = profiles.get(&worker.capabilities_digest);
            offer.is_some_and(|offer| able(class, offer)) && !excludes(class, &worker.id)
        };
        self.members.iter().filter(|member| may(&member.worker)).collect()
    }

    /// What those that are there lack of what a class asks for, with one of them as an example: not how
    /// many, as they come and go.
    pub fn lacking(&self, class: &Class, profiles: &Profiles, now: Timestamp) -> String {
        let there = self.members.iter().filter(|m| m.availability != Availability::Offline);
        let offers = there.filter_map(|Member { worker, availability, .. }| {
            let offer = profiles.get(&worker.capabilities_digest)?;
            Some((&worker.id, &**offer, *availability))
        });
        let why = |id: &WorkerId| {
            let member = self.members.iter().find(|member| member.worker.id == *id)?;
            unready(&member.worker, member.connector.as_deref(), now)
        };
        let explanation = explain(class, Throttle::default(), offers, why);
        let Some(hardest) = explanation.hardest() else { return "nothing".to_owned() };
        let example = match (hardest.unreached(), hardest.failing.first()) {
            (Some((worker, why)), _) => Some(format!(" ({worker} is not ready: {})", brief(why))),
            (None, first) => first.and_then(|failing| {
                Some(format!(" ({}: {})", failing.worker.as_ref()?, brief(&failing.found)))
            }),
        };
        brief(hardest.lacked()) + &example.unwrap_or_default()
    }
}

/// Why none of these workers works, with one of them as an example, and what mends it.
pub(super) fn plight(members: &[&Member], now: Timestamp) -> (String, &'static str) {
    use Availability as A;
    let of = |kind| members.iter().filter(move |member| member.availability == kind);
    let [broken, drained, stopping, gone] =
        [A::NotReady, A::Draining, A::Stopping, A::Offline].map(|k| of(k).count());
    let counts =
        [(broken, "not ready"), (drained, "draining"), (stopping, "stopping"), (gone, "offline")];
    let counts = counts.into_iter().filter(|(n, _)| *n > 0);
    let counts: Vec<_> = counts.map(|(n, what)| format!("{n} {what}")).collect();
    let mut ordered = of(A::NotReady).chain(of(A::Draining)).chain(of(A::Offline)).chain(members);
    let first = ordered.next();
    let example = first.map(|Member { worker, connector, availability }| {
        let why = match availability {
            A::NotReady => unready(worker, connector.as_deref(), now),
            _ => worker.reason.as_deref().map(brief),
        };
        why.map_or_else(|| worker.id.to_string(), |why| format!("{}: {why}", worker.id))
    });
    let cure = match (broken, drained) {
        (0, 0) if gone == 0 && members.iter().any(|member| member.worker.orders.drain) => {
            "start them again once they have left and let them take jobs again, or start others"
        }
        (0, 0) if gone == 0 => "start them again once they have left, or others",
        (0, 0) => "look whether their machines run and reach the server, or start others",
        (0, _) => "let them take jobs again, or start others",
        _ => "mend their services, or start others; `pointsman workers` has each one's reason",
    };
    (format!("{} ({})", counts.join(", "), example.unwrap_or_default()), cure)
}
