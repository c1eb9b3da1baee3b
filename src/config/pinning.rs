//! `ringkeeper.reactors`, `.reactorCores` and `.consensusCore`: how many reactors there are and
//! which cpu each core of the server runs on.

use std::collections::BTreeSet;

use super::cores::{CorePlan, CpuId, CpuList, notation};
use super::error::ConfigError;
use super::values::{Given, Values};
use crate::limits::REACTORS_MAX;

const REACTORS: &str = "ringkeeper.reactors";
const REACTOR_CORES: &str = "ringkeeper.reactorCores";
const CONSENSUS_CORE: &str = "ringkeeper.consensusCore";

/// What a pinning key asks for.
enum Pinning {
    /// Chosen from the cpus that the process may run on.
    Automatic,
    /// Not pinned: the kernel's scheduler decides.
    None,
    /// These, given here.
    Cpus(CpuList, Given),
}

/// Where each core runs, for a process that may run on `cpus`.
pub fn core_plan(values: &mut Values, cpus: &BTreeSet<CpuId>) -> Result<CorePlan, ConfigError> {
    let count = values.number(REACTORS, 1..=REACTORS_MAX, "reactors")?;
    let mut plan = CorePlan::automatic(cpus, count, REACTORS_MAX);
    match pinning(values, REACTOR_CORES, cpus)? {
        Pinning::Automatic => {}
        Pinning::None => plan.reactors.fill(None),
        Pinning::Cpus(list, at) => {
            let given = list.cpus().len();
            let reactors = count.unwrap_or(given.min(REACTORS_MAX));
            if given != reactors {
                let place = values.place(at.line);
                return Err(ConfigError::CpuCount { place, key: REACTOR_CORES, given, reactors });
            }
            plan.reactors = list.cpus().iter().copied().map(Some).collect();
        }
    }
    match pinning(values, CONSENSUS_CORE, cpus)? {
        Pinning::Automatic => {}
        Pinning::None => plan.consensus = None,
        Pinning::Cpus(list, at) => match list.cpus() {
            &[cpu] => plan.consensus = Some(cpu),
            _ => return Err(values.wrong(CONSENSUS_CORE, &at, "auto, none or one cpu")),
        },
    }
    Ok(plan)
}

fn pinning(
    values: &mut Values,
    key: &'static str,
    cpus: &BTreeSet<CpuId>,
) -> Result<Pinning, ConfigError> {
    let Some(given) = values.text(key) else { return Ok(Pinning::Automatic) };
    match given.text.as_str() {
        "auto" => return Ok(Pinning::Automatic),
        "none" => return Ok(Pinning::None),
        _ => {}
    }
    let Ok(list) = given.text.parse::<CpuList>() else {
        return Err(values.wrong(key, &given, "auto, none or cpus such as 0-3,8"));
    };
    match list.cpus().iter().find(|cpu| !cpus.contains(cpu)) {
        None => Ok(Pinning::Cpus(list, given)),
        Some(&cpu) => Err(ConfigError::CpuNotAllowed {
            place: values.place(given.line),
            key,
            cpu,
            allowed: notation(cpus),
        }),
    }
}
