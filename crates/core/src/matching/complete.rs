//! Completing requirements with what the job's graph needs.

use std::collections::BTreeSet;

use super::Requirements;

/// Adds the node classes and model files that a graph names to what the submitter asked for.
/// `brought_files` are the names of the files that the job brings itself: no worker needs to have
/// those, unless the submitter asked for them by name.
///
/// Sizes and contradictions are not looked at here: call [`Requirements::check`] afterwards.
/// Requirements that this version cannot read are left as they are.
pub fn complete_from_graph(
    requirements: &mut Requirements,
    node_classes: BTreeSet<String>,
    models: BTreeSet<String>,
    brought_files: &BTreeSet<String>,
) {
    if requirements.unknown.is_some() {
        return;
    }
    requirements.node_classes.extend(node_classes);
    let needed = models.into_iter().filter(|model| !brought_files.contains(model));
    requirements.models.extend(needed);
}
