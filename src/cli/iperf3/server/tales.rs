//! What a server says of its tests. One that runs alone is told as iperf3 tells it; of those that run beside others
//! each line begins with the client's address.

use super::{Shared, lock};
use crate::{
    cli::iperf3::{
        errors,
        options::{Form, Options},
        printer::{Page, Printer},
        signals::Caught,
        story::{Story, start_view, system_info},
    },
    iperf3::{
        StreamEnds, TestEvent,
        output::{text, view::Side},
        server::{Rejection, ServerEvent, ServerReport, TestError},
        wire::{Cookie, ErrorCode, Parameters, server::Failure},
    },
};
use std::{
    collections::HashMap,
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Lines about connections that came to nothing, in each [`WHILE`]: a flood of them is no flood of lines.
const REJECTIONS: u32 = 10;
/// See [`REJECTIONS`].
const WHILE: Duration = Duration::from_secs(1);

/// One test as far as it was told.
struct Tale {
    peer: SocketAddr,
    parameters: Parameters,
    story: Option<Story>,
    page: Page,
}

/// All of them.
pub(super) struct Tales<'a> {
    options: &'a Options,
    printer: Printer<'a>,
    shared: Shared,
    caught: Caught,
    open: HashMap<Cookie, Tale>,
    /// The number in the banner.
    number: u64,
    rejections: Rejections,
    /// Whether the documents of the tests that a signal ended have said so.
    interruption_told: bool,
}

impl<'a> Tales<'a> {
    pub(super) fn new(
        options: &'a Options,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        shared: Shared,
        caught: Caught,
    ) -> Self {
        let mut tales = Self {
            options,
            printer: Printer::new(options, out, err),
            shared,
            caught,
            open: HashMap::new(),
            number: 1,
            rejections: Rejections::default(),
            interruption_told: false,
        };
        tales.banner();
        tales
    }

    pub(super) const fn printer(&mut self) -> &mut Printer<'a> {
        &mut self.printer
    }

    fn banner(&mut self) {
        if self.options.verbose {
            self.printer.lines(&text::version(&system_info()));
        }
        self.printer.lines(&text::banner(self.options.port, self.number));
    }

    pub(super) fn tell(&mut self, event: ServerEvent) {
        lock(&self.shared).active = Some(Instant::now());
        match event {
            ServerEvent::Admitted { cookie, peer } => self.begin(cookie, peer),
            ServerEvent::Accepted { cookie, parameters } => {
                if let Some(tale) = self.open.get_mut(&cookie) {
                    tale.page.extras.title.clone_from(&parameters.title);
                    tale.page.extras.extra_data.clone_from(&parameters.extra_data);
                    tale.parameters = *parameters;
                }
            }
            ServerEvent::Test { cookie, event } => self.on(cookie, |tales, tale| match event {
                TestEvent::Running(streams) => tales.start(&cookie, tale, streams),
                TestEvent::Interval(samples) => {
                    if let Some(view) = tale.story.as_mut().and_then(|story| story.interval(&samples)) {
                        tales.printer.interval(&view);
                    }
                }
                TestEvent::OmitEnded | TestEvent::Ended => {}
            }),
            ServerEvent::Finished(report) => self.end(&report),
            ServerEvent::Rejected { peer, reason } => self.reject(peer, reason),
        }
    }

    fn begin(&mut self, cookie: Cookie, peer: SocketAddr) {
        let alone = self.open.is_empty();
        if self.open.len() == 1 {
            for tale in self.open.values_mut() {
                tale.page.whose = Some(tale.peer.to_string());
            }
        }
        let mut page = Page::default();
        page.whose = (!alone).then(|| peer.to_string());
        let tale = Tale {
            peer,
            parameters: Parameters::default(),
            story: None,
            page,
        };
        self.open.insert(cookie, tale);
        lock(&self.shared).tests = self.open.len();
    }

    /// Does something with a test while its page is open.
    fn on(&mut self, cookie: Cookie, act: impl FnOnce(&mut Self, &mut Tale)) {
        let Some(mut tale) = self.open.remove(&cookie) else {
            return;
        };
        let other = self.printer.turn_to(std::mem::take(&mut tale.page));
        act(self, &mut tale);
        tale.page = self.printer.turn_to(other);
        self.open.insert(cookie, tale);
    }

    fn start(&mut self, cookie: &Cookie, tale: &mut Tale, streams: Vec<StreamEnds>) {
        let peer = (tale.peer.ip().to_string(), tale.peer.port());
        let interval = self.options.interval;
        let start = start_view(Side::Server, peer, cookie, &tale.parameters, interval, &streams);
        lock(&self.shared).streams.insert(*cookie, streams);
        self.printer.start(&start);
        tale.story = Some(Story::new(start, self.options.file.clone()));
    }

    fn end(&mut self, report: &ServerReport) {
        self.on(report.cookie, |tales, tale| tales.conclude(report, tale));
        self.open.remove(&report.cookie);
        {
            let mut shared = lock(&self.shared);
            shared.streams.remove(&report.cookie);
            shared.tests = self.open.len();
        }
        self.number += 1;
        if self.open.is_empty() && !self.options.one_off && !self.caught.any() {
            self.banner();
        }
    }

    fn conclude(&mut self, report: &ServerReport, tale: &Tale) {
        let (outcome, error) = match &report.outcome {
            Ok(outcome) => (Some(outcome), None),
            Err(error) => (error.measured(), Some(error)),
        };
        if let (Some(story), Some(outcome)) = (&tale.story, outcome) {
            self.printer.end(&story.end(outcome, None));
        }
        let interrupted = self.caught.any() || outcome.is_some_and(|outcome| outcome.interrupted);
        if let Some(error) = error.filter(|_| !interrupted) {
            let refused = matches!(
                error,
                TestError::Protocol {
                    source: Failure::Refused(_),
                    ..
                }
            );
            if !self.printer.has_started() && !refused {
                let peer = report.peer;
                let host = peer.ip().to_string();
                self.printer
                    .lines(&text::greeting(Side::Server, &host, peer.port(), false));
            }
            self.printer.error(&errors::of_server(error));
        }
        if interrupted && self.options.form != Form::Text {
            self.printer.error(&self.interruption());
            self.interruption_told = true;
        }
        self.printer.finish();
    }

    fn interruption(&self) -> String {
        format!("interrupt - the server has terminated{}", self.caught.text())
    }

    /// A signal ended the server.
    pub(super) fn interrupted(&mut self) {
        if !self.interruption_told {
            self.printer.error(&self.interruption());
            self.printer.finish();
        }
    }

    fn reject(&mut self, peer: SocketAddr, reason: Rejection) {
        let what = match reason {
            // Who was told that we are busy knows, as with iperf3.
            Rejection::Busy => return,
            Rejection::NoCookie => "",
            Rejection::Crowded => ": too many connections wait, the oldest was closed",
        };
        let code = ErrorCode::new(ErrorCode::RECEIVE_COOKIE);
        if let Some(before) = self.rejections.may_tell(Instant::now()) {
            if before > 0 {
                self.printer.aside(&format!("error - and {before} more of them"));
            }
            self.printer.aside(&format!("error - {code}{what}"));
            tracing::info!(%peer, ?reason, "a connection came to nothing");
        }
    }
}

/// How many rejections were told lately.
#[derive(Debug, Default)]
struct Rejections {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Rejections {
    /// Whether one more may be told, and how many before it were not.
    fn may_tell(&mut self, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= WHILE)
        {
            self.since = Some(now);
            self.told = 0;
        }
        if self.told < REJECTIONS {
            self.told += 1;
            Some(std::mem::take(&mut self.untold))
        } else {
            self.untold += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_rejections_is_counted_not_told() {
        let mut rejections = Rejections::default();
        let now = Instant::now();
        for _ in 0..REJECTIONS {
            assert_eq!(rejections.may_tell(now), Some(0));
        }
        for _ in 0..500 {
            assert_eq!(rejections.may_tell(now), None);
        }
        assert_eq!(rejections.may_tell(now + WHILE), Some(500));
        assert_eq!(rejections.may_tell(now + WHILE), Some(0));
    }
}
