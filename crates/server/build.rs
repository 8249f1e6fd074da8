//! The pages are embedded at compile time: compile again when they change. The directory is made
//! when it is missing, because a path that does not exist counts as changed at every build.

fn main() {
    let pages = std::path::Path::new("../../ui/dist");
    if !pages.exists() {
        // Without it everything still compiles, only more often than needed.
        let _ = std::fs::create_dir_all(pages);
    }
    println!("cargo:rerun-if-changed={}", pages.display());
    println!("cargo:rerun-if-changed=build.rs");
}
