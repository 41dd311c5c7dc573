//! The `map` command: previews the mapping of batches with the code of a drain.

mod input;
mod manifest;
mod output;
mod summary;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use crate::{
    api::{EventForwarderSpec, MappingSpec, ProjectType},
    cli::{BatchArgs, MapArgs, MapOutput},
    drain::batch::RequestLimits,
    mapping::{MAX_BYTES, MAX_EVENTS, MappedBody, Mapper, MapperError},
};

use input::Body;
pub use output::printable;
use summary::PreviewSummary;

/// Exit code if an event or body was rejected.
const REJECTED: u8 = 3;
/// Exit code if the command fails, equal to clap's code for usage errors.
const BAD_USAGE: u8 = 2;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum PreviewError {
    #[error("can't read {path}: {error}")]
    Read { path: String, error: io::Error },
    #[error("{path} is not a valid EventForwarder: {error}")]
    Forwarder { path: String, error: String },
    #[error("{0}")]
    Mapping(#[from] MapperError),
    #[error("can't write the output: {0}")]
    Write(#[from] io::Error),
}

/// The parts of an EventForwarder that determine the mapping.
#[derive(Debug)]
pub struct MappingConfig {
    mapping: MappingSpec,
    project: ProjectType,
    limits: RequestLimits,
    transform: Option<String>,
}

/// Maps the given batches. Prints the result to standard output and the summary to standard error.
pub fn run(args: &MapArgs) -> ExitCode {
    exit_code(MappingConfig::from_args(args).and_then(|config| map(&config, &args.batches)))
}

/// Maps batches with the given configuration. Prints the same output as [`run`].
pub fn run_with(config: &MappingConfig, batches: &BatchArgs) -> ExitCode {
    exit_code(map(config, batches))
}

fn exit_code(result: Result<PreviewSummary, PreviewError>) -> ExitCode {
    match result {
        Ok(summary) => {
            // Standard error may be closed.
            let _ = write!(io::stderr(), "{summary}");
            if summary.rejected() == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(REJECTED)
            }
        }
        // The reader closed the pipe, as in `map … | head`.
        Err(PreviewError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

fn map(config: &MappingConfig, batches: &BatchArgs) -> Result<PreviewSummary, PreviewError> {
    let mapper = Mapper::new(&config.mapping, config.project, config.transform.as_deref())?;
    let is_terminal = io::stdout().is_terminal();
    let output = match batches.output {
        Some(output) => output,
        None if is_terminal => MapOutput::Table,
        None => MapOutput::Json,
    };

    let mut summary = PreviewSummary::default();
    let mut results = Vec::new();
    for Body { name, text } in input::bodies(&batches.paths)? {
        let mapped = mapper.map(&text, batches.sent_at);
        summary.add(&mapped);
        results.push((name, mapped));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match output {
        MapOutput::Json => output::json(&mut out, config.limits, &results)?,
        MapOutput::Events => output::events(&mut out, &results)?,
        MapOutput::Table => output::table(&mut out, &results)?,
    }
    out.flush()?;
    Ok(summary)
}

impl MappingConfig {
    fn from_args(args: &MapArgs) -> Result<Self, PreviewError> {
        let transform = args.transform.as_deref().map(read).transpose()?;
        let Some(path) = &args.forwarder else {
            return Ok(Self {
                mapping: MappingSpec::default(),
                project: ProjectType::default(),
                limits: RequestLimits {
                    events: MAX_EVENTS,
                    bytes: MAX_BYTES,
                },
                transform,
            });
        };
        Ok(Self::new(manifest::forwarder(path)?.spec, transform))
    }

    /// Creates the configuration of an EventForwarder. `transform` is the text of its jq program,
    /// if the mapping references a ConfigMap.
    pub fn new(spec: EventForwarderSpec, transform: Option<String>) -> Self {
        let size = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            mapping: spec.mapping,
            project: spec.iterable.project_type,
            limits: RequestLimits {
                events: size(spec.iterable.max_events_per_request),
                bytes: size(spec.iterable.max_bytes_per_request),
            },
            transform,
        }
    }
}

fn read(path: &Path) -> Result<String, PreviewError> {
    fs::read_to_string(path).map_err(|error| PreviewError::Read {
        path: path.display().to_string(),
        error,
    })
}

/// The result of mapping one body.
type MapResult = Result<MappedBody, crate::mapping::BodyError>;
