//! A plan as the function `commit` takes it: one flat list whose head says where each part begins.
//! `lua/plan.lua` reads it and names the parts.

use crate::encoding::pack::Pack;

/// Values in the head; the function puts one more in front of them.
const HEAD: usize = 19;

/// The parts one after the other, and where each begins.
#[derive(Debug, Default)]
pub struct Parts {
    pack: Pack,
    begins: Vec<usize>,
}

impl Parts {
    /// Begins the next part.
    pub fn begin(&mut self) -> &mut Pack {
        self.begins.push(HEAD + 2 + self.pack.values());
        &mut self.pack
    }

    /// All parts behind their head.
    pub fn done(mut self, endings: u32, is_intake: bool, during_import: Option<&str>) -> Vec<u8> {
        self.begin();
        let mut all = Pack::with_capacity(self.pack.size() + HEAD * 5);
        for begin in &self.begins {
            all.len(*begin);
        }
        all.int(i64::from(endings)).flag(is_intake).text_or_false(during_import);
        debug_assert_eq!(all.values(), HEAD);
        all.pack(&self.pack);
        all.done()
    }
}
