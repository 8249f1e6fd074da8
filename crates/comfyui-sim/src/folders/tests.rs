use super::*;

#[test]
fn numbers_go_on_after_the_files_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let save = |folders: &Folders, prefix| {
        folders.save(Root::Output, prefix, "png", b"x").unwrap().filename
    };
    let first = Folders::new(Some(folder.path().to_owned())).unwrap();
    assert_eq!(save(&first, "cat"), "cat_00001_.png");
    assert_eq!(save(&first, "cat"), "cat_00002_.png");
    assert_eq!(save(&first, "dog"), "dog_00001_.png");
    let second = Folders::new(Some(folder.path().to_owned())).unwrap();
    assert_eq!(save(&second, "cat"), "cat_00003_.png");
}

#[test]
fn a_prefix_may_name_a_folder_inside_and_none_outside() {
    let folders = Folders::new(None).unwrap();
    let saved = folders.save(Root::Output, "day/one/cat", "png", b"x").unwrap();
    assert_eq!((saved.subfolder.as_str(), saved.filename.as_str()), ("day/one", "cat_00001_.png"));
    assert!(folders.save(Root::Output, "../cat", "png", b"x").is_err());
    assert!(folders.resolve(Root::Input, "", "/etc/hosts").is_err());
    assert!(folders.resolve(Root::Input, "..", "x").is_err());
}

#[test]
fn an_upload_keeps_its_name_unless_another_file_has_it() {
    let folders = Folders::new(None).unwrap();
    assert_eq!(folders.upload("", "a.png", b"one", false).unwrap(), "a.png");
    assert_eq!(folders.upload("", "a.png", b"one", false).unwrap(), "a.png");
    assert_eq!(folders.upload("", "a.png", b"two", false).unwrap(), "a (1).png");
    assert_eq!(folders.upload("", "a.png", b"two", true).unwrap(), "a.png");
    assert_eq!(folders.input_images(), ["a (1).png", "a.png"]);
}
