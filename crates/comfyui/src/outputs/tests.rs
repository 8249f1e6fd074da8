use serde_json::json;

use super::*;

#[test]
fn every_file_in_every_list_is_found_with_its_node_and_index() {
    let outputs = json!({
        "3": {
            "images": [{"filename": "a.png", "subfolder": "day", "type": "output"}, {"filename": "b.png"}],
            "gifs": [{"filename": "c.mp4", "subfolder": "", "type": "temp", "format": "video/h264-mp4"}],
            "animated": [true],
            "text": ["hello"]
        },
        "7": {"audio": [{"filename": "d.flac", "subfolder": "", "type": "output"}], "note": "x"},
        "8": null
    });
    let files = output_files(outputs.as_object().unwrap());
    let found: Vec<_> =
        files.iter().map(|f| (f.node_id.as_str(), f.index, f.filename.as_str())).collect();
    assert_eq!(
        found,
        [("3", 0, "c.mp4"), ("3", 1, "a.png"), ("3", 2, "b.png"), ("7", 0, "d.flac")]
    );
    assert_eq!((files[0].list.as_str(), files[0].folder.as_str()), ("gifs", "temp"));
    assert_eq!((files[1].subfolder.as_str(), files[2].folder.as_str()), ("day", "output"));
}
