//! The functions that run inside Redis, named by what they are: two versions of this program stand
//! side by side, each with its own.

use std::{fmt::Write as _, sync::LazyLock};

use sha2::{Digest as _, Sha256};

const PARTS: [&str; 13] = [
    include_str!("lua/head.lua"),
    include_str!("lua/plan.lua"),
    include_str!("lua/order.lua"),
    include_str!("lua/check.lua"),
    include_str!("lua/choose.lua"),
    include_str!("lua/wake.lua"),
    include_str!("lua/write.lua"),
    include_str!("lua/take.lua"),
    include_str!("lua/commit.lua"),
    include_str!("lua/others.lua"),
    include_str!("lua/doctor.lua"),
    include_str!("lua/transfer.lua"),
    include_str!("lua/register.lua"),
];

/// The library's version: the first digits of its text's digest.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::digest(PARTS.concat());
    digest.iter().take(4).fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
});

/// The library as `FUNCTION LOAD` takes it.
pub fn code() -> String {
    let head = format!("#!lua name=pointsman_{}\n", *VERSION);
    head + &PARTS.concat().replace("_VERSION", &format!("_{}", *VERSION))
}

/// A function's name in this version.
pub fn name(function: &str) -> String {
    format!("pointsman_{function}_{}", *VERSION)
}
