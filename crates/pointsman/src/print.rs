//! How answers look on a terminal.

use std::io::{self, Write as _};

use pointsman_api::Problem;
use pointsman_core::record::JobRecord;
use serde::Serialize;

use crate::exit::Exit;

/// A text as a terminal may be given it. Texts come from jobs, services and servers, and a terminal
/// obeys what is in them: control characters, but the ends of lines and tabs, and what turns the
/// direction of writing are shown as `\u{..}`.
pub fn plain(text: &str) -> String {
    let obeyed = |c: char| match c {
        '\n' | '\t' => false,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match obeyed(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// Writes a text for people to standard output.
pub fn line(text: &str) -> Result<(), Exit> {
    write(&plain(text))
}

/// Writes lines of an answer that has no end; answers whether anybody still reads it.
pub fn lines(lines: &[String]) -> Result<bool, Exit> {
    for line in lines {
        if !write_to_reader(&plain(line).replace('\n', " "))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes one value of such an answer, on one line.
pub fn json_line(value: &impl Serialize) -> Result<bool, Exit> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    write_to_reader(&text.replace('\n', " "))
}

/// A reader that went away (`| head`) is no error.
fn write(text: &str) -> Result<(), Exit> {
    write_to_reader(text).map(drop)
}

fn write_to_reader(text: &str) -> Result<bool, Exit> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Exit::Other(anyhow::Error::from(error).context("cannot write the answer")))
        }
    }
}

/// Says how a process of its own is reached. It goes on where nobody can be told.
pub fn said(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

pub fn json(value: &impl Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    write(&text)
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
    let head = head.iter().map(ToString::to_string).collect();
    self::rows(&[&[head], rows].concat())
}

/// Rows, in columns as wide as they need to be. A cell stays on its line.
pub fn rows(rows: &[Vec<String>]) -> Result<(), Exit> {
    let cell = |text: &String| plain(text).replace(['\n', '\t'], " ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A job as an answer.
pub fn job(job: &JobRecord, in_json: bool) -> Result<(), Exit> {
    if in_json { json(job) } else { line(&job_line(job)) }
}

/// One job in a line: what it is, and why if it did not go well, or not wholly.
pub fn job_line(job: &JobRecord) -> String {
    let cached = if job.cached { ", cached" } else { "" };
    let why = match (&job.failure, job.remark()) {
        (Some(failure), _) => match failure.message.trim() {
            "" => format!(": {}", failure.code),
            message => format!(": {message} ({})", failure.code),
        },
        (None, Some(remark)) => format!("; its worker says: {remark}"),
        (None, None) => String::new(),
    };
    format!("job {} {}{cached}{why}", job.id, job.status.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_amiss_with_a_result_is_said() {
        let line = |last_progress: Value| {
            let job = json!({
                "id": uuid::Uuid::nil(), "rev": 1, "status": "completed", "service": "comfyui",
                "priority": 50, "run": 1, "attempt": 1, "failures": 0, "losses": 0,
                "max_failures": 1, "max_losses": 1, "place": 1, "queued_seq": 1, "created_at": "2026-01-01T00:00:00Z",
                "cached": false, "artifacts": [], "last_progress": last_progress,
            });
            job_line(&serde_json::from_value(job).unwrap()).split_off("job ".len() + 36)
        };
        assert_eq!(
            line(json!({"percent": 100, "message": "ComfyUI dropped the outputs of the nodes 7"})),
            " completed; its worker says: ComfyUI dropped the outputs of the nodes 7"
        );
        for ordinary in [
            json!(null),
            json!({"percent": 100, "step": 20, "steps": 20}),
            json!({"percent": 100, "step": 20, "steps": 20, "message": "step 20 of 20"}),
            json!({"node": "9", "message": "SaveImage"}),
        ] {
            assert_eq!(line(ordinary), " completed");
        }
    }

    #[test]
    fn a_terminal_is_given_nothing_that_it_obeys() {
        for (text, shown) in [
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("all\rnone", "all\\u{d}none"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}gnp\u{2066}\u{2028}", "\\u{202e}gnp\\u{2066}\\u{2028}"),
            ("two\n\tlines, ä, 日本, שלום", "two\n\tlines, ä, 日本, שלום"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }
}
