//! GNU getopt_long's reading of a command line: clustered short options, `--name=value`, unique beginnings of long
//! names, options and operands in any order.

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// Only attached: `--name=value`.
    MayTake,
}

/// An option as it is declared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec<Id> {
    pub(super) id: Id,
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
    /// Whether its long name must be written in full.
    pub(super) whole: bool,
}

/// Reads arguments. Operands are passed over, as iperf3 does.
///
/// # Errors
/// What getopt prints, after the program's name.
pub(super) fn read<Id: Copy + PartialEq>(
    specs: &[Spec<Id>],
    arguments: &[String],
) -> Result<Vec<(Id, Option<String>)>, String> {
    let mut found = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        if let Some(long) = argument.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let spec = find(specs, name)?;
            let value = match (spec.takes, attached) {
                (Takes::Nothing, Some(_)) => {
                    return Err(format!("option '--{}' doesn't allow an argument", spec.long));
                }
                (Takes::Value, None) => Some(
                    arguments
                        .next()
                        .cloned()
                        .ok_or_else(|| format!("option '--{}' requires an argument", spec.long))?,
                ),
                (_, attached) => attached,
            };
            found.push((spec.id, value));
        } else if let Some(cluster) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            for (at, letter) in cluster.char_indices() {
                let spec = specs
                    .iter()
                    .find(|spec| spec.short == Some(letter))
                    .ok_or_else(|| format!("invalid option -- '{letter}'"))?;
                if spec.takes != Takes::Value {
                    found.push((spec.id, None));
                    continue;
                }
                let rest = &cluster[at + letter.len_utf8()..];
                let value = if rest.is_empty() {
                    arguments.next().cloned()
                } else {
                    Some(rest.to_owned())
                };
                let value = value.ok_or_else(|| format!("option requires an argument -- '{letter}'"))?;
                found.push((spec.id, Some(value)));
                break;
            }
        }
    }
    Ok(found)
}

fn find<'a, Id: Copy + PartialEq>(specs: &'a [Spec<Id>], name: &str) -> Result<&'a Spec<Id>, String> {
    if let Some(spec) = specs.iter().find(|spec| spec.long == name) {
        return Ok(spec);
    }
    let matches: Vec<_> = specs
        .iter()
        .filter(|spec| spec.long.starts_with(name) && !spec.whole)
        .collect();
    match matches.as_slice() {
        [] => Err(format!("unrecognized option '--{name}'")),
        // Two names of one option are no ambiguity.
        [first, rest @ ..] if rest.iter().all(|other| other.id == first.id) => Ok(first),
        several => {
            let names: Vec<_> = several.iter().map(|spec| format!("'--{}'", spec.long)).collect();
            Err(format!(
                "option '--{name}' is ambiguous; possibilities: {}",
                names.join(" ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [Spec<u8>; 5] = [
        Spec {
            id: 0,
            long: "bitrate",
            short: Some('b'),
            takes: Takes::Value,
            whole: false,
        },
        Spec {
            id: 0,
            long: "bandwidth",
            short: None,
            takes: Takes::Value,
            whole: false,
        },
        Spec {
            id: 1,
            long: "reverse",
            short: Some('R'),
            takes: Takes::Nothing,
            whole: false,
        },
        Spec {
            id: 2,
            long: "timestamps",
            short: None,
            takes: Takes::MayTake,
            whole: false,
        },
        Spec {
            id: 3,
            long: "bidir",
            short: None,
            takes: Takes::Nothing,
            whole: false,
        },
    ];

    fn read_all(line: &str) -> Result<Vec<(u8, Option<String>)>, String> {
        read(&SPECS, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_come_in_every_form() {
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(read_all("-Rb10M"), Ok(vec![(1, None), (0, value("10M"))]));
        assert_eq!(
            read_all("-b 10M operand -R"),
            Ok(vec![(0, value("10M")), (1, None)])
        );
        assert_eq!(
            read_all("--bitrate=1 --bandwidth 2"),
            Ok(vec![(0, value("1")), (0, value("2"))])
        );
        assert_eq!(
            read_all("--timestamps --timestamps=%s"),
            Ok(vec![(2, None), (2, value("%s"))])
        );
        assert_eq!(read_all("--rev -- -b"), Ok(vec![(1, None)]));
        assert_eq!(read_all("--ba 3"), Ok(vec![(0, value("3"))]));
    }

    #[test]
    fn mistakes_are_told_as_getopt_does() {
        let error = |line: &str| read_all(line).unwrap_err();
        assert_eq!(error("--foo"), "unrecognized option '--foo'");
        assert_eq!(error("-q"), "invalid option -- 'q'");
        assert_eq!(error("-b"), "option requires an argument -- 'b'");
        assert_eq!(error("--bitrate"), "option '--bitrate' requires an argument");
        assert_eq!(
            error("--reverse=5"),
            "option '--reverse' doesn't allow an argument"
        );
        assert_eq!(
            error("--bi"),
            "option '--bi' is ambiguous; possibilities: '--bitrate' '--bidir'"
        );
    }
}
