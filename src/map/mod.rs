//! The `map` command: shows what batches become, through the code that a drain uses.

mod input;
mod show;
mod totals;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use crate::{
    api::{EventForwarder, MappingSpec, ProjectType},
    cli::{MapArgs, MapOutput},
    mapping::{Mapped, Mapper, MapperError},
};

use input::Body;
use totals::Totals;

/// Something was rejected.
const REJECTED: u8 = 3;
/// The command can't be carried out; the code that clap gives to bad usage.
const BAD_USAGE: u8 = 2;

/// A command that can't be carried out.
#[derive(Debug, thiserror::Error)]
enum MapError {
    #[error("can't read {path}: {error}")]
    Read { path: String, error: io::Error },
    #[error("{path} is no EventForwarder: {error}")]
    Forwarder { path: String, error: String },
    #[error("{0}")]
    Mapping(#[from] MapperError),
    #[error("can't write: {0}")]
    Write(#[from] io::Error),
}

/// Maps what the arguments name, prints it on standard output and totals on standard error.
pub fn run(args: &MapArgs) -> ExitCode {
    match map(args) {
        Ok(totals) => {
            // Nothing is left to be done if standard error is closed.
            let _ = write!(io::stderr(), "{totals}");
            if totals.rejected() == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(REJECTED)
            }
        }
        // Whoever reads us has seen enough, as in `map … | head`.
        Err(MapError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(BAD_USAGE)
        }
    }
}

fn map(args: &MapArgs) -> Result<Totals, MapError> {
    let (spec, project) = match &args.forwarder {
        Some(path) => mapping_of(path)?,
        None => (MappingSpec::default(), ProjectType::default()),
    };
    let transform = args.transform.as_deref().map(read).transpose()?;
    let mapper = Mapper::new(&spec, project, transform.as_deref())?;
    let is_terminal = io::stdout().is_terminal();
    let output = match args.output {
        Some(output) => output,
        None if is_terminal => MapOutput::Table,
        None => MapOutput::Json,
    };

    let mut totals = Totals::default();
    let mut results = Vec::new();
    for Body { name, text } in input::bodies(&args.paths)? {
        let mapped = mapper.map(&text, args.sent_at);
        totals.add(&mapped);
        results.push((name, mapped));
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match output {
        MapOutput::Json => show::json(&mut out, &results)?,
        MapOutput::Events => show::events(&mut out, &results)?,
        MapOutput::Table => show::table(&mut out, &results)?,
    }
    out.flush()?;
    Ok(totals)
}

fn mapping_of(path: &Path) -> Result<(MappingSpec, ProjectType), MapError> {
    let forwarder: EventForwarder =
        serde_saphyr::from_str(&read(path)?).map_err(|error| MapError::Forwarder {
            path: path.display().to_string(),
            error: error.to_string(),
        })?;
    Ok((forwarder.spec.mapping, forwarder.spec.iterable.project_type))
}

fn read(path: &Path) -> Result<String, MapError> {
    fs::read_to_string(path).map_err(|error| MapError::Read {
        path: path.display().to_string(),
        error,
    })
}

/// What one body became.
type MapResult = Result<Mapped, crate::mapping::BodyError>;
