//! Counts of all outcomes, by reason.

use std::{collections::BTreeMap, fmt};

use crate::api::{ReasonCount, reason_counts};

use super::MapResult;

/// Counts over all bodies.
#[derive(Debug, Default)]
pub struct PreviewSummary {
    bodies: u64,
    forwarded: u64,
    skipped: BTreeMap<String, u64>,
    rejected: BTreeMap<String, u64>,
    warnings: BTreeMap<String, u64>,
}

impl PreviewSummary {
    /// Adds the result of one body.
    pub fn add(&mut self, result: &MapResult) {
        self.bodies += 1;
        let mapped = match result {
            Ok(mapped) => mapped,
            Err(error) => return count(&mut self.rejected, error.reason(), 1),
        };
        self.forwarded += mapped.events.len() as u64;
        for skipped in &mapped.skipped {
            count(&mut self.skipped, skipped.reason.as_str(), 1);
        }
        for rejected in &mapped.rejected {
            let times = u64::from(rejected.count);
            count(&mut self.rejected, rejected.reason.as_str(), times);
        }
        for (warning, times) in mapped.warnings.iter() {
            count(&mut self.warnings, warning.as_str(), times);
        }
    }

    /// Returns the number of rejected events, plus bodies that can't be parsed.
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

fn count(counts: &mut BTreeMap<String, u64>, reason: &str, times: u64) {
    *counts.entry(reason.to_owned()).or_default() += times;
}

impl fmt::Display for PreviewSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: u64 = self.skipped.values().sum();
        writeln!(
            f,
            "{} {}: {} forwarded, {skipped} skipped, {} rejected",
            self.bodies,
            if self.bodies == 1 { "body" } else { "bodies" },
            self.forwarded,
            self.rejected(),
        )?;
        let groups = [
            ("skipped", &self.skipped),
            ("rejected", &self.rejected),
            ("warnings", &self.warnings),
        ];
        for (group, counts) in groups {
            for ReasonCount { reason, count } in reason_counts(counts) {
                writeln!(f, "  {group:<8}  {count:>6}  {reason}")?;
            }
        }
        Ok(())
    }
}
