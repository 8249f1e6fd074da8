use serde_json::{Map, Value};

/// A file that a node produced, as history names it. Its bytes come from `GET /view`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// The node that produced it.
    pub node_id: String,
    /// Position among the files of this node, from 0, over all its lists.
    pub index: usize,
    /// The list it stood in: `images`, `gifs`, `audio`, `video`, `3d`, … any name a node chose.
    pub list: String,
    /// File name without folder.
    pub filename: String,
    /// Folder below the root, with forward slashes; empty for the root itself.
    pub subfolder: String,
    /// The root: `output`, `temp` or `input`.
    pub folder: String,
}

/// Every file reference of a history's `outputs`, ordered by node id and then by list name, both as text.
///
/// A reference is any object with a string `filename` in any list that a node put into `ui`; `subfolder` and `type`
/// may be missing and then mean the root of `output` (ComfyUI source: the defaults of `/view`).
#[must_use]
pub fn output_files(outputs: &Map<String, Value>) -> Vec<OutputFile> {
    outputs.iter().flat_map(|(node_id, ui)| files_of_node(node_id, ui)).collect()
}

/// The file references of one node.
pub(crate) fn files_of_node(node_id: &str, ui: &Value) -> Vec<OutputFile> {
    let lists = ui.as_object().into_iter().flatten();
    let items = lists.flat_map(|(list, items)| {
        let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(move |item| (list, item))
    });
    let files =
        items.filter_map(|(list, item)| Some((list, item, item.get("filename")?.as_str()?)));
    let text = |item: &Value, field: &str, default: &str| {
        item.get(field).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let file = |(index, (list, item, filename)): (usize, (&String, &Value, &str))| OutputFile {
        node_id: node_id.to_owned(),
        index,
        list: list.clone(),
        filename: filename.to_owned(),
        subfolder: text(item, "subfolder", ""),
        folder: text(item, "type", "output"),
    };
    files.enumerate().map(file).collect()
}

#[cfg(test)]
mod tests;
