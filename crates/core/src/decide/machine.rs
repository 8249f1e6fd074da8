//! Machines with an agent of their own: registration and state.

use super::{Rejected, Stop, draft::Draft, worker::push_newest};
use crate::{
    command::{Answer, RegisterMachine, SetMachine},
    event::EventName,
    record::{Machine, MachineStatus, Worker},
};

pub(super) fn register(draft: &mut Draft<'_>, register: &RegisterMachine) -> Result<Answer, Stop> {
    let before = draft.machine(&register.machine)?;
    let mut former = Vec::new();
    if let Some(machine) = &before {
        if machine.incarnation == Some(register.incarnation) && !machine.status.is_gone() {
            return again(draft, machine.clone(), register);
        }
        former.clone_from(&machine.former_incarnations);
        if former.contains(&register.incarnation) {
            return Err(Rejected::Superseded(register.incarnation).into());
        }
        if let Some(previous) = machine.incarnation.filter(|i| *i != register.incarnation) {
            push_newest(&mut former, previous, Worker::MAX_FORMER);
        }
    }
    let before = before.as_ref();
    let machine = Machine {
        id: register.machine.clone(),
        rev: 0,
        status: MachineStatus::Starting,
        reason: None,
        action: None,
        incarnation: Some(register.incarnation),
        orders: before.map(|m| m.orders).unwrap_or_default(),
        gpus: register.gpus.clone(),
        connected_at: draft.now,
        last_status_change: None,
        former_incarnations: former,
        extra: before.map(|m| m.extra.clone()).unwrap_or_default(),
    };
    draft.put_machine(EventName::MachineRegistered, machine)?;
    Ok(Answer::Done)
}

/// The same process once more, after a lost answer, say: only its GPUs may be others.
fn again(
    draft: &mut Draft<'_>,
    machine: Machine,
    register: &RegisterMachine,
) -> Result<Answer, Stop> {
    if machine.gpus != register.gpus {
        let machine = Machine { gpus: register.gpus.clone(), ..machine };
        draft.put_machine(EventName::MachineStateChanged, machine)?;
    }
    Ok(Answer::Done)
}

/// The agent's word about its machine; saying the same again changes nothing.
pub(super) fn set(draft: &mut Draft<'_>, set: &SetMachine) -> Result<Answer, Stop> {
    // One that only its workers told of has no agent: this one was forgotten.
    let machine = draft.machine(&set.machine)?.filter(|machine| machine.incarnation.is_some());
    let machine = machine.ok_or_else(|| Rejected::MachineNotFound(set.machine.to_string()))?;
    if machine.incarnation != Some(set.incarnation) {
        return Err(Rejected::Superseded(set.incarnation).into());
    }
    let same = machine.status == set.status
        && machine.reason == set.reason
        && machine.action == set.action;
    if !same {
        let machine = Machine {
            status: set.status,
            reason: set.reason.clone(),
            action: set.action.clone(),
            ..machine
        };
        draft.put_machine(EventName::MachineStateChanged, machine)?;
    }
    Ok(Answer::Done)
}
