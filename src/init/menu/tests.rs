//! Conversations with whoever stands at the console.

use super::*;
use core::time::Duration;

fn facts() -> Facts {
    Facts {
        host_name: "mx2.test".to_owned(),
        addresses: vec!["192.0.2.5".to_owned()],
        admin: vec!["https://192.0.2.5:8025".to_owned()],
        server: "takes mail".to_owned(),
        mail: "1.0 GiB of 4.0 GiB used".to_owned(),
        update: "0.2.0 stayed, 2026-11-01T12:00:00Z".to_owned(),
        ..Facts::default()
    }
}

/// All that comes out of these lines, each fed octet by octet.
fn said(menu: &mut Menu, lines: &[&str], facts: &Facts) -> (String, Vec<Action>) {
    let (mut text, mut actions) = (String::new(), Vec::new());
    for octet in lines.iter().flat_map(|line| line.bytes().chain(*b"\n")) {
        for output in menu.feed(&[octet], Instant::now(), facts) {
            match output {
                Output::Do(action) => actions.push(action),
                Output::Echo(is_shown) => text += if is_shown { "<shown>" } else { "<hidden>" },
                Output::Text(more) => text += &more,
            }
        }
    }
    (text, actions)
}

fn done(lines: &[&str]) -> Vec<Action> {
    said(&mut Menu::default(), lines, &facts()).1
}

#[test]
fn the_menu_shows_the_machine() {
    let (text, actions) = said(&mut Menu::default(), &[""], &facts());
    for shown in [
        "mx2.test",
        "192.0.2.5\n",
        "https://192.0.2.5:8025",
        "takes mail",
        "1.0 GiB",
        "0.2.0 stayed",
        "4 factory reset",
    ] {
        assert!(text.contains(shown), "{text}");
    }
    assert!(actions.is_empty());
}

#[test]
fn each_change_is_asked_for_once_more() {
    let address = |text: &str| text.parse().unwrap();
    let network = Network {
        vlan: Some(5),
        address: vec!["192.0.2.5/24".to_owned(), "2001:db8::5/64".to_owned()],
        gateway: vec![address("192.0.2.1"), address("fe80::1")],
        nameservers: vec![address("192.0.2.53")],
        ..Network::default()
    };
    let table: [(&[&str], Action); 8] = [
        (&["1", "MX9.example.com", "yes"], Action::HostName("mx9.example.com".to_owned())),
        (&["2", "1", "none", "yes"], Action::Network(Network::default())),
        (
            &["2", "2", "5", "192.0.2.5/24 2001:db8::5/64", "192.0.2.1 fe80::1", "192.0.2.53", "yes"],
            Action::Network(network),
        ),
        (&["3", "yes"], Action::NewToken),
        (&["4", "1", "reset"], Action::Reset(Reset::KeepMail)),
        (&["4", "2", "wipe"], Action::Reset(Reset::WipeMail)),
        (&["5", "yes"], Action::Restart),
        (&["6", "yes"], Action::PowerOff),
    ];
    for (answers, action) in table {
        let lines = [&[""], answers].concat();
        assert_eq!(done(&lines), [action], "{lines:?}");
        assert_eq!(done(&lines[..lines.len() - 1]), [], "not without the last word: {lines:?}");
        for other in ["", "no", "YES", "y", "back", "reset it", "\u{1b}[A"] {
            let lines = [&lines[..lines.len() - 1], &[other]].concat();
            assert_eq!(done(&lines), [], "{lines:?}");
        }
    }
    assert_eq!(done(&["", "4", "2", "reset"]), [], "the word for the other one");
    assert_eq!(done(&["", "4", "1", "wipe"]), []);
    assert_eq!(done(&["6", "yes"]), [], "the menu was never opened");
}

#[test]
fn what_is_wrong_is_said_and_asked_again() {
    for (answers, expected, right) in [
        (&["1"][..], "a_b.test", "mx9.test"),
        (&["1"], "mx\"2.test", "mx9.test"),
        (&["1"], "mx2", "mx9.test"),
        (&["2", "2"], "0", "none"),
        (&["2", "2"], "4095", "4094"),
        (&["2", "2", "none"], "192.0.2.5", "192.0.2.5/24"),
        (&["2", "2", "none"], "192.0.2.5/33", "192.0.2.5/24"),
        (&["2", "2", "none", "192.0.2.5/24"], "router.test", "none"),
        (&["2", "2", "none", "192.0.2.5/24", "none"], "192.0.2.1/24", "192.0.2.1"),
    ] {
        let mut menu = Menu::default();
        said(&mut menu, &[&[""], answers].concat(), &facts());
        let question = menu.question();
        let (text, _) = said(&mut menu, &[expected], &facts());
        assert!(text.contains(&format!("{expected} is not")), "{text}");
        assert!(text.ends_with(&question), "{text:?} does not ask again");
        said(&mut menu, &[right], &facts());
        assert_ne!(menu.question(), question, "{right}");
    }
}

#[test]
fn enter_alone_draws_the_question_that_stands() {
    let mut menu = Menu::default();
    for line in ["", "2", "2", "7", "192.0.2.5/24", "none", "none"] {
        let (text, _) = said(&mut menu, &[line], &facts());
        assert_eq!(said(&mut menu, &[""], &facts()).0, text);
    }
    assert!(menu.question().contains("192.0.2.5/24, VLAN 7"), "{}", menu.question());
    let (text, _) = said(&mut menu, &["back"], &facts());
    assert!(text.contains("6 power off"), "{text}");
}

#[test]
fn what_the_hypervisor_gives_is_changed_there() {
    for (choice, file) in [("1", "stratamx.toml"), ("2", "appliance.toml")] {
        let facts = Facts { fixed: vec![file.to_owned()], ..facts() };
        let (text, _) = said(&mut Menu::default(), &["", choice], &facts);
        assert!(text.contains(&format!("The hypervisor gives {file}")), "{text}");
    }
}

#[test]
fn a_machine_that_serves_nothing_can_still_be_ended() {
    let facts = Facts { is_refused: true, ..facts() };
    for choice in ["1", "2", "3", "4"] {
        let (text, _) = said(&mut Menu::default(), &["", choice, "1", "yes"], &facts);
        assert!(text.contains("only be done while the data partition is there"), "{text}");
    }
    let (text, actions) = said(&mut Menu::default(), &["", "6", "yes"], &facts);
    assert!(!text.contains("factory reset") && actions == [Action::PowerOff], "{text}");
}

#[test]
fn an_echo_is_not_talked_to_for_ever() {
    let (mut menu, begin) = (Menu::default(), Instant::now());
    let mut heard: Vec<u8> = b"\n".to_vec();
    let mut rounds = 0;
    while !heard.is_empty() {
        rounds += 1;
        assert!(rounds < 20, "it never ends");
        let said = menu.feed(&heard, begin, &facts());
        let text = said.iter().map(|output| match output {
            Output::Text(text) => text.as_str(),
            Output::Do(_) | Output::Echo(_) => panic!("an echo did {output:?}"),
        });
        heard = text.collect::<String>().into_bytes();
    }
    assert_eq!(menu.feed(b"\n", begin, &facts()), [], "deaf");
    let later = begin + MENU_PAUSE + Duration::from_millis(1);
    assert_eq!(menu.feed(b"\n", later, &facts()).len(), 1, "and no more");
}

#[test]
fn what_is_too_long_is_not_its_beginning() {
    let mut menu = Menu::default();
    said(&mut menu, &["", "6"], &facts());
    let long = format!("yes{}", " ".repeat(MENU_LINE_OCTETS_MAX));
    let (text, actions) = said(&mut menu, &[&long], &facts());
    assert!(actions.is_empty() && text.contains("too long"), "{text}");
}

#[test]
fn secrets_are_hidden_and_new_ones_are_typed_twice() {
    let locked = Facts { at_rest: AtRest::Locked, ..facts() };
    let (text, actions) = said(&mut Menu::default(), &["", "7", "", "A1b2 x"], &locked);
    assert_eq!(actions, [Action::Unlock("A1b2 x".to_owned())]);
    let (before, behind) = text.split_once("<hidden>").unwrap();
    assert!(before.contains("7 unlock") && before.ends_with("recovery key (or back): "), "{text}");
    assert!(behind.contains("Passphrase or recovery key") && behind.ends_with("<shown>"), "{text}");
    assert!(!text.contains("A1b2"), "{text}");

    let open = Facts { at_rest: AtRest::Open, ..facts() };
    let set = Action::Passphrase("correct horse".to_owned());
    let lines = ["", "7", "correct horse", "correct house", "correct horse"];
    let (text, actions) = said(&mut Menu::default(), &lines, &open);
    assert_eq!(actions, core::slice::from_ref(&set));
    assert!(text.contains("That is another one") && !text.contains("horse"), "{text}");
    let unset = Facts { at_rest: AtRest::Unset, ..facts() };
    assert_eq!(said(&mut Menu::default(), &["", "7", "correct horse", "correct horse"], &unset).1, [set]);
    let (text, actions) = said(&mut Menu::default(), &["", "7", "back", "8", "yes"], &open);
    assert_eq!(actions, [Action::RecoveryKey]);
    assert!(text.contains("<hidden>") && text.contains("<shown>"), "{text}");
}

#[test]
fn what_cannot_be_done_about_keys_is_not_offered() {
    for (at_rest, lines) in [
        (AtRest::Nothing, &["", "7"][..]),
        (AtRest::Nothing, &["", "8", "yes"]),
        (AtRest::Locked, &["", "8", "yes"]),
        (AtRest::Unset, &["", "8", "yes"]),
    ] {
        let (text, actions) = said(&mut Menu::default(), lines, &Facts { at_rest, ..facts() });
        assert!(
            actions.is_empty() && text.contains("not one of the numbers"),
            "{at_rest:?} {lines:?}: {text}"
        );
    }
    let refused = Facts { at_rest: AtRest::Locked, is_refused: true, ..facts() };
    assert!(said(&mut Menu::default(), &["", "7"], &refused).0.contains("only be done while"));
}

/// Who gives up in the middle, or is deaf for a while, does not leave a console that hides what is typed.
#[test]
fn a_console_that_hid_something_shows_again() {
    let open = Facts { at_rest: AtRest::Open, ..facts() };
    let other = ["no"; MENU_ERRORS_MAX as usize];
    let lines = [&["", "7", "correct horse"][..], &other].concat();
    let (text, actions) = said(&mut Menu::default(), &lines, &open);
    assert!(actions.is_empty() && text.contains("Nothing is read for"), "{text}");
    assert_eq!((text.matches("<hidden>").count(), text.matches("<shown>").count()), (1, 1), "{text}");
}
