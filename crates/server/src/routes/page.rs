//! Pages of long lists: each ends where it comes to 4 MiB, and has its share of the room for answers
//! from its first items on.

use std::fmt::Display;

use axum::response::Response;
use pointsman_api::Problem;

use super::job::json_text;
use crate::{app::App, body::Share};

/// A page ends with the item that brings it to so many bytes.
const PAGE_BYTES: usize = 4 << 20;
/// Items that are read at once: at first, as their size is not known, and at most.
const FIRST_READ: usize = 16;
const MOST_READ: usize = 256;

/// A list in JSON, as far as it is written.
pub(super) struct Page {
    json: String,
    /// Where the list begins.
    begin: usize,
    read: usize,
    limit: usize,
    share: Share,
}

impl Page {
    /// Begins with so much of JSON, for this many items at most.
    pub fn new(app: &App, begin: String, limit: usize) -> Self {
        Self { begin: begin.len(), json: begin, read: 0, limit, share: app.answers.share() }
    }

    /// How many items to read next: as many as there is room for if they are like those before;
    /// none where the page is at its end.
    pub fn room(&self) -> usize {
        let size = self.json.len() - self.begin;
        let fit = match self.read {
            0 => FIRST_READ,
            read => (PAGE_BYTES.saturating_sub(size) * read).div_ceil(size.max(1)),
        };
        fit.min(MOST_READ).min(self.limit - self.read)
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.read == 0
    }

    /// Writes a part of an item.
    ///
    /// # Errors
    /// `too_many_answers`.
    pub async fn write(&mut self, json: &str) -> Result<(), Problem> {
        self.share.grow_to(self.json.len() + json.len() + 1).await?;
        if self.json.len() > self.begin {
            self.json.push(',');
        }
        self.json.push_str(json);
        Ok(())
    }

    /// One more item was read and written; says whether the page goes on.
    pub fn goes_on(&mut self) -> bool {
        self.read += 1;
        self.room() > 0
    }

    /// The answer, with this behind the list.
    pub fn ends(mut self, end: impl Display) -> Response {
        self.json.push_str(&end.to_string());
        json_text(self.json, self.share)
    }
}
