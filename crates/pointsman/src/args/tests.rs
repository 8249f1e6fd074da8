use clap::CommandFactory as _;
use pointsman_store_redis::Address;

use super::{given::without_passwords, *};

/// What the environment names cannot be set in a test: a default stands for it.
#[test]
fn the_intake_is_asked_where_the_command_line_says() {
    let command = || {
        Cli::command().mut_subcommand("intake", |intake| {
            intake.mut_arg("store", |store| store.env(None::<&str>).default_value("sqlite:x"))
        })
    };
    let intake = |more: &[&str]| {
        let arguments = [&["pointsman", "intake"], more].concat();
        let cli = Cli::of(&command().try_get_matches_from(arguments).unwrap());
        cli.map(|cli| match cli.command {
            Command::Intake(intake) => intake.store.is_some(),
            other => panic!("{other:?}"),
        })
    };
    assert!(intake(&[]).unwrap());
    assert!(intake(&["--store", "redis://127.0.0.1"]).unwrap());
    assert!(!intake(&["--server", "http://127.0.0.1:1"]).unwrap());
    let both = ["--server", "http://127.0.0.1:1", "--store", "redis://127.0.0.1"];
    let why = intake(&both).unwrap_err().to_string();
    assert!(why.contains("two places"), "{why}");
}

#[test]
fn a_name_that_is_not_known_is_answered_with_those_that_are() {
    for (arguments, known) in [
        (["jobs", "--status", "done"], "in_progress"),
        (["comfyui-sim", "--comfyui-version", "1"], "0.3.64"),
    ] {
        let said = Cli::try_parse_from([&["pointsman"], &arguments[..]].concat());
        let said = said.unwrap_err().to_string();
        assert!(said.contains(known), "{said}");
    }
    let add = ["pointsman", "token", "add", "ops", "--role"];
    let role = |role| match Cli::try_parse_from([&add[..], &[role]].concat())?.command {
        Command::Token(Token::Add { role, .. }) => Ok(role),
        other => panic!("{other:?}"),
    };
    assert_eq!(role("view").unwrap(), Role::View);
    let said: clap::Error = role("root").unwrap_err();
    assert!(said.to_string().contains("admin"), "{said}");
}

#[test]
fn what_is_said_of_a_wrong_command_line_has_no_password() {
    let worker = ["worker", "--id", "w", "--service", "simulation", "--broker"];
    for address in [
        "redis://user:secret@127.0.0.1:99999",
        "redis://user:sec/ret@127.0.0.1",
        "redis://user:sec?ret@127.0.0.1",
        "redis:user:secret@127.0.0.1",
        "postgres://user:secret@127.0.0.1",
    ] {
        let shown = Address::redacted(address);
        for command in [
            &["server", "--store"][..],
            &["up", "--store"],
            &["export", "--store"],
            &["import", "--store"],
            &["intake", "--store"],
            &worker,
            // Forgotten flags.
            &["server"],
            &[],
        ] {
            let arguments = [&["pointsman"][..], command, &[address]].concat();
            let error = without_passwords(Cli::try_parse_from(arguments).unwrap_err());
            let said = format!("{error} {error:?}");
            assert!(said.contains(&shown), "{said}");
            assert!(!said.contains("secret") && !said.contains("sec/"), "{said}");
            assert!(!said.contains("ret@") && !said.contains("\"sec\""), "{said}");
        }
    }
}

#[test]
fn what_a_command_does_not_use_is_refused_on_the_command_line() {
    let worker = ["worker", "--id", "w", "--service", "simulation"];
    let read = |command: &[&str], more: &[&str]| {
        let arguments = [&["pointsman"], more, command].concat();
        Cli::of(&Cli::command().try_get_matches_from(arguments).unwrap())
    };
    let id = "01890000-0000-7000-8000-000000000000";
    for (command, used) in [
        (&worker[..], &["--token"][..]),
        (&["up"], &[]),
        (&["server"], &[]),
        (&["comfyui-sim"], &[]),
        (&["token", "add", "ops", "--role", "admin"], &["--json"]),
        (&["token", "revoke", "ops"], &["--json"]),
        (&["token", "list"], &["--json"]),
        (&["export", "--store", "sqlite:x"], &["--json"]),
        (&["import", "--store", "sqlite:x"], &["--json"]),
        (&["restored", "--store", "sqlite:x"], &["--json"]),
        (&["intake", "--store", "sqlite:x"], &["--json"]),
        (&["intake"], &["--server", "--token", "--json"]),
        (&["jobs"], &["--server", "--token", "--json"]),
        (&["download", id, "--out", "x"], &["--server", "--token", "--json"]),
    ] {
        assert!(read(command, &[]).is_ok(), "{command:?}");
        for more in [&["--server", "http://127.0.0.1:1"][..], &["--token", "x"], &["--json"]] {
            let said = read(command, more);
            assert_eq!(said.is_ok(), used.contains(&more[0]), "{command:?} {more:?}");
            if let Err(why) = said {
                assert!(why.to_string().contains(more[0]), "{why}");
            }
        }
    }
    let why = read(&worker, &["--server", "http://127.0.0.1:1"]).unwrap_err().to_string();
    assert!(why.contains("--broker names the server"), "{why}");
}

#[test]
fn an_address_to_listen_on_that_cannot_be_read_is_answered_with_one_that_can() {
    for wrong in ["localhost:7780", ":7780", "7780"] {
        let said = Cli::try_parse_from(["pointsman", "server", "--listen", wrong]).unwrap_err();
        assert!(said.to_string().contains("such as 127.0.0.1:7780"), "{said}");
    }
}

/// The names are older than this program: whoever sets them means these flags.
#[test]
fn a_workers_limits_are_set_by_their_variables() {
    let command = Cli::command();
    for name in ["worker", "up"] {
        let command = command.find_subcommand(name).unwrap();
        for (flag, variable) in [
            ("silence-after-s", "WORKER_JOB_PROGRESS_TIMEOUT_SECONDS"),
            ("stall-after-s", "WORKER_STALL_AFTER_SECONDS"),
            ("total-s", "WORKER_COMFYUI_WORKFLOW_TIMEOUT_SECONDS"),
            ("total-minutes", "WORKER_JOB_TIMEOUT_MINUTES"),
            ("health-check-s", "WORKER_SERVICE_HEALTH_CHECK_INTERVAL"),
        ] {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag));
            let read = arg.and_then(clap::Arg::get_env).and_then(|name| name.to_str());
            assert_eq!(read, Some(variable), "{name} --{flag}");
        }
    }
}

/// Elsewhere it means "off": here it would end every attempt at its beginning.
#[test]
fn a_limit_of_zero_is_refused_and_so_is_one_that_no_job_may_set() {
    for (flag, highest) in [
        ("--silence-after-s", 86_400),
        ("--stall-after-s", 604_800),
        ("--total-s", 604_800),
        ("--total-minutes", 10_080),
        ("--health-check-s", 3_600),
    ] {
        let up = |value: u32| Cli::try_parse_from(["pointsman", "up", flag, &value.to_string()]);
        for wrong in [0, highest + 1] {
            let said = up(wrong).unwrap_err().to_string();
            assert!(said.contains(&format!("1..={highest}")), "{said}");
        }
        assert!(up(1).is_ok() && up(highest).is_ok(), "{flag}");
    }
}

#[test]
fn a_worker_says_whose_jobs_it_takes() {
    let of = |more: &[&str]| {
        let worker = ["pointsman", "worker", "--id", "w", "--service", "simulation"];
        match Cli::try_parse_from([&worker[..], more].concat()).map(|cli| cli.command) {
            Ok(Command::Worker(worker)) => Ok(worker.customers.rules()),
            Ok(other) => panic!("{other:?}"),
            Err(why) => Err(why.to_string()),
        }
    };
    assert_eq!(of(&[]), Ok(CustomerRules::default()));
    let said = of(&["--customers", "acme,umbrella", "--isolation", "strict"]).unwrap();
    let ids = said.allowed.iter().flatten().map(CustomerId::as_str).collect::<Vec<_>>();
    assert_eq!((ids, said.isolation), (vec!["acme", "umbrella"], Some(Isolation::Strict)));
    for wrong in [["--customers", ""], ["--customers", "acme,"], ["--isolation", "some"]] {
        assert!(of(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn no_comfyui_is_left_without_a_worker() {
    let up = |workers: &[&str]| {
        let comfyuis = ["--comfyui", "http://a", "--comfyui", "http://b", "--comfyui", "http://c"];
        let arguments = [&["pointsman", "up"], &comfyuis[..], workers].concat();
        Cli::of(&Cli::command().try_get_matches_from(arguments).unwrap()).map(drop)
    };
    for enough in [&[][..], &["--workers", "3"], &["--workers", "7"]] {
        up(enough).unwrap();
    }
    let why = up(&["--workers", "1"]).unwrap_err();
    assert_eq!(why.exit_code(), 2);
    assert!(why.to_string().contains("leaves http://b, http://c without a worker"), "{why}");
}

#[test]
fn every_argument_has_a_line_of_help() {
    fn check(command: &clap::Command, path: &str) {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
        }
        for command in command.get_subcommands() {
            check(command, &format!("{path} {}", command.get_name()));
        }
    }
    check(&Cli::command(), "pointsman");
}
