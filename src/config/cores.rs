//! Which cpu each core of the server is pinned to.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::str::FromStr;

/// A cpu by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(u16);

impl CpuId {
    /// The cpu with this number.
    pub const fn new(number: u16) -> CpuId {
        CpuId(number)
    }

    /// Its number.
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A list of cpus in the kernel's notation: `0-3,8`. Never empty; order and doubles are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<CpuId>);

impl CpuList {
    /// The cpus in the order in which they were given.
    pub fn cpus(&self) -> &[CpuId] {
        &self.0
    }
}

/// Not a list of cpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACpuList;

/// The largest cpu number that is understood; Linux is built for at most 8192.
const CPU_MAX: u16 = 8191;

impl FromStr for CpuList {
    type Err = NotACpuList;

    fn from_str(text: &str) -> Result<CpuList, NotACpuList> {
        let number = |text: &str| -> Result<u16, NotACpuList> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { text.parse().ok() } else { None };
            number.filter(|&number| number <= CPU_MAX).ok_or(NotACpuList)
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first.trim())?, number(last.trim())?);
            if first > last || cpus.len() > usize::from(CPU_MAX) {
                return Err(NotACpuList);
            }
            cpus.extend((first..=last).map(CpuId));
        }
        Ok(CpuList(cpus))
    }
}

/// The cpus in the kernel's notation, ascending.
pub fn notation(cpus: &BTreeSet<CpuId>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &CpuId(cpu) in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let texts = ranges.into_iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    texts.collect::<Vec<_>>().join(",")
}

/// The cpus that the process may run on (taskset, cpuset cgroups), from the kernel.
///
/// # Errors
/// When /proc is not mounted or says something else.
pub fn allowed() -> io::Result<BTreeSet<CpuId>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list: Option<CpuList> = list.and_then(|list| list.trim().parse().ok());
    let list = list.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no Cpus_allowed_list")
    })?;
    Ok(list.0.into_iter().collect())
}

/// Where each core of the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// By reactor; at least one. `None`: not pinned.
    pub reactors: Vec<Option<CpuId>>,
    /// `None`: not pinned.
    pub consensus: Option<CpuId>,
}

impl CorePlan {
    /// The default for a process that may run on `allowed`: the last cpu for the consensus core,
    /// which is the one furthest from cpu 0, where the kernel does most of its own work; a reactor
    /// on each of the others. A lone cpu is shared.
    ///
    /// `reactors` is their number if the configuration gives it; above the number of cpus they
    /// share cpus in turn.
    ///
    /// # Panics
    /// When `allowed` is empty.
    pub fn automatic(allowed: &BTreeSet<CpuId>, reactors: Option<usize>, max: usize) -> CorePlan {
        let cpus: Vec<CpuId> = allowed.iter().copied().collect();
        let (&consensus, others) = cpus.split_last().expect("a process runs on some cpu");
        let for_reactors = if others.is_empty() { &cpus[..] } else { others };
        let count = reactors.unwrap_or(for_reactors.len().min(max));
        let reactors = for_reactors.iter().copied().cycle().take(count).map(Some).collect();
        CorePlan { reactors, consensus: Some(consensus) }
    }
}

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |cpu: &Option<CpuId>| cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        let reactors: Vec<String> = self.reactors.iter().map(name).collect();
        write!(
            f,
            "reactors on cpu {}, consensus on cpu {}",
            reactors.join(","),
            name(&self.consensus)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(numbers: &[u16]) -> BTreeSet<CpuId> {
        numbers.iter().map(|&number| CpuId(number)).collect()
    }

    #[test]
    fn a_cpu_list_is_read_in_the_kernels_notation() {
        let list: CpuList = "0-2, 8".parse().unwrap();
        assert_eq!(list.cpus(), [CpuId(0), CpuId(1), CpuId(2), CpuId(8)]);
        for wrong in ["", "a", "1-", "-1", "3-1", "1,,2", "0x1", "+1", "9000", "1;2"] {
            assert_eq!(wrong.parse::<CpuList>(), Err(NotACpuList), "{wrong:?}");
        }
    }

    #[test]
    fn cpus_are_written_as_ranges() {
        assert_eq!(notation(&cpus(&[0, 1, 2, 5, 7, 8])), "0-2,5,7-8");
    }

    #[test]
    fn one_cpu_is_shared_by_the_reactor_and_the_consensus_core() {
        let plan = CorePlan::automatic(&cpus(&[3]), None, 256);
        assert_eq!(plan, CorePlan { reactors: vec![Some(CpuId(3))], consensus: Some(CpuId(3)) });
    }

    #[test]
    fn the_last_of_several_cpus_is_the_consensus_cores() {
        let plan = CorePlan::automatic(&cpus(&[0, 2, 4]), None, 256);
        assert_eq!(plan.reactors, [Some(CpuId(0)), Some(CpuId(2))]);
        assert_eq!(plan.consensus, Some(CpuId(4)));
        assert_eq!(plan.to_string(), "reactors on cpu 0,2, consensus on cpu 4");
    }

    #[test]
    fn more_reactors_than_cpus_share_them_in_turn() {
        let plan = CorePlan::automatic(&cpus(&[0, 1, 2]), Some(3), 256);
        assert_eq!(plan.reactors, [Some(CpuId(0)), Some(CpuId(1)), Some(CpuId(0))]);
    }

    #[test]
    fn the_kernel_tells_which_cpus_are_allowed() {
        assert!(!allowed().unwrap().is_empty());
    }
}
