//! One run: empties one SQS queue into Iterable and reports what it did.

pub mod report;
