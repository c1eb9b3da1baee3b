//! The paths that a plan works on, all below its root. Used by `workload` and `control`.

use crate::arguments::Plan;
use crate::draw::CREATED_DIGITS;

/// Names of keys and of children have one length each, so that prepared requests differ in digits
/// alone.
#[derive(Clone, Debug)]
pub struct Paths {
    root: String,
    key_digits: usize,
    child_digits: usize,
}

impl Paths {
    pub fn new(plan: &Plan) -> Paths {
        Paths {
            root: plan.root.clone(),
            key_digits: digits_of(plan.keys - 1),
            child_digits: digits_of(plan.children - 1).max(plan.name_size as usize),
        }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// The parent of the keys.
    pub fn keys(&self) -> String {
        format!("{}/keys", self.root)
    }

    /// Key `number`.
    pub fn key(&self, number: u32) -> String {
        format!("{}/keys/{number:0width$}", self.root, width = self.key_digits)
    }

    /// How many digits a key's name has.
    pub fn key_digits(&self) -> usize {
        self.key_digits
    }

    /// The parent that is listed.
    pub fn family(&self) -> String {
        format!("{}/children", self.root)
    }

    pub fn child(&self, number: u32) -> String {
        format!("{}/children/{number:0width$}", self.root, width = self.child_digits)
    }

    /// The parent of what the workloads make.
    pub fn created(&self) -> String {
        format!("{}/created", self.root)
    }

    /// What the workloads make, number 0 of it; of sequential znodes, what the server numbers.
    pub fn first_created(&self, sequential: bool) -> String {
        let digits = if sequential { 0 } else { CREATED_DIGITS };
        format!("{}/created/c{}", self.root, "0".repeat(digits))
    }
}

fn digits_of(number: u32) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::plan;

    #[test]
    fn keys_have_names_of_one_length() {
        let paths = Paths::new(&plan("--keys 1000"));
        assert_eq!(paths.key(7), "/ringkeeper-loadgen/keys/007");
        assert_eq!(paths.key(999), "/ringkeeper-loadgen/keys/999");
        assert_eq!(Paths::new(&plan("--keys 1001")).key(7), "/ringkeeper-loadgen/keys/0007");
        assert_eq!(Paths::new(&plan("--keys 1")).key(0), "/ringkeeper-loadgen/keys/0");
    }

    #[test]
    fn children_have_names_as_long_as_asked_for() {
        let paths = Paths::new(&plan("--workload children --children 11 --name-size 5"));
        assert_eq!(paths.child(3), "/ringkeeper-loadgen/children/00003");
        let paths = Paths::new(&plan("--workload children --children 11"));
        assert_eq!(paths.child(3), "/ringkeeper-loadgen/children/03");
    }
}
