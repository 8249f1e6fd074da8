//! Which row is whose: jobs have a small number beside their id, under which the tables keep
//! everything of them.

use std::collections::HashMap;

use parking_lot::RwLock;
use pointsman_core::JobId;

/// The row numbers of all jobs. The writer changes it; readers look payloads and results up in it.
#[derive(Debug, Default)]
pub(crate) struct Rows(RwLock<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    last: i64,
    of: HashMap<JobId, i64>,
}

impl Rows {
    /// Takes note of a stored row. `false` when the job has one already.
    pub fn restore(&self, job: JobId, n: i64) -> bool {
        let mut numbers = self.0.write();
        numbers.last = numbers.last.max(n);
        if numbers.of.contains_key(&job) {
            return false;
        }
        numbers.of.insert(job, n);
        true
    }

    /// Numbers up to this are taken.
    pub fn skip_to(&self, n: i64) {
        let mut numbers = self.0.write();
        numbers.last = numbers.last.max(n);
    }

    pub fn of(&self, job: &JobId) -> Option<i64> {
        self.0.read().of.get(job).copied()
    }

    pub fn of_each(&self, jobs: &[JobId]) -> Vec<Option<i64>> {
        let numbers = self.0.read();
        jobs.iter().map(|job| numbers.of.get(job).copied()).collect()
    }

    /// The numbers of these jobs, and whether each is new.
    pub fn number<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> Vec<(i64, bool)> {
        let mut numbers = self.0.write();
        let number = |job: &JobId| match numbers.of.get(job) {
            Some(&n) => (n, false),
            None => {
                numbers.last += 1;
                let n = numbers.last;
                numbers.of.insert(*job, n);
                (n, true)
            }
        };
        jobs.map(number).collect()
    }

    /// The stretches of numbers that no job has, from the first to the last of each.
    pub fn gaps(&self) -> Vec<(i64, i64)> {
        let mut taken: Vec<i64> = self.0.read().of.values().copied().collect();
        taken.sort_unstable();
        let from = [i64::MIN].into_iter().chain(taken.iter().map(|n| n + 1));
        let to = taken.iter().map(|n| n - 1).chain([i64::MAX]);
        from.zip(to).filter(|(from, to)| from <= to).collect()
    }

    pub fn clear(&self) {
        *self.0.write() = Numbers::default();
    }

    pub fn forget<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) {
        let mut numbers = self.0.write();
        for job in jobs {
            numbers.of.remove(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_all_numbers_that_no_job_has() {
        let rows = Rows::default();
        assert_eq!(rows.gaps(), [(i64::MIN, i64::MAX)]);
        for n in [3, 4, 7] {
            rows.restore(JobId::from_uuid(uuid::Uuid::from_u128(n)), n.try_into().unwrap());
        }
        assert_eq!(rows.gaps(), [(i64::MIN, 2), (5, 6), (8, i64::MAX)]);
    }
}
