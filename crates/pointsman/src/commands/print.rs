//! How answers look on a terminal.

use std::io::{self, Write};

use pointsman_api::Problem;
use pointsman_core::record::JobRecord;
use serde::Serialize;

use crate::exit::Exit;

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub fn line(text: &str) -> Result<(), Exit> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::Other(anyhow::Error::from(error).context("cannot write the answer")))
        }
        _ => Ok(()),
    }
}

pub fn json(value: &impl Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    line(&text)
}

/// A problem for people: what is wrong, where, and what would be right.
pub fn problem(problem: &Problem) -> String {
    let mut text = problem.to_string();
    if let Some(pointer) = problem.pointer.as_ref().filter(|p| !text.contains(p.as_str())) {
        text.push_str(&format!("\n  at: {pointer}"));
    }
    if !problem.cure.is_empty() && !text.contains(&*problem.cure) {
        text.push_str(&format!("\n  cure: {}", problem.cure));
    }
    text
}

/// Rows under a head, in columns as wide as they need to be.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> Result<(), Exit> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let render = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    line(&render(head.to_vec()))?;
    for row in rows {
        line(&render(row.iter().map(String::as_str).collect()))?;
    }
    Ok(())
}

/// One job in a line: what it is, and why if it did not go well.
pub fn job_line(job: &JobRecord) -> String {
    let cached = if job.cached { ", cached" } else { "" };
    let why = match &job.failure {
        Some(failure) => format!(": {} ({})", failure.message.trim(), failure.code),
        None => String::new(),
    };
    format!("job {} {}{cached}{why}", job.id, job.status.as_str())
}
