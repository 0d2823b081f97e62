//! The tests that are here, and who has to make room for the next.
//!
//! A test that runs is never disturbed. One that has not yet sent its parameters, or that doesn't bring its streams,
//! costs a thread and descriptors while it does nothing: when there are too many, the one that has waited longest goes.

use crate::iperf3::wire::Cookie;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a test may take to open its streams while another waits for its place.
const CROWDED: Duration = Duration::from_secs(2);

/// How far a test has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It was asked for its parameters.
    Asked,
    /// They were accepted, and its streams are awaited.
    Accepted,
    /// Data flows.
    Running,
    /// It was told to go, and is about to.
    Leaving,
}

#[derive(Debug)]
struct Entry<T> {
    stage: Stage,
    since: Instant,
    test: T,
}

/// What is to be done with a test that wants in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Here,
    /// There is, once this one has gone.
    After(Cookie),
    /// There is none.
    None,
}

/// The tests by cookie.
#[derive(Debug)]
pub(super) struct Roster<T> {
    entries: HashMap<Cookie, Entry<T>>,
    /// Tests at once.
    most: usize,
    /// Of them, those that were only asked.
    most_asked: usize,
}

impl<T> Roster<T> {
    pub(super) fn new(most: usize, most_asked: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most: most.max(1),
            most_asked: most_asked.max(1),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, cookie: &Cookie) -> bool {
        self.entries.contains_key(cookie)
    }

    pub(super) fn insert(&mut self, cookie: Cookie, test: T, now: Instant) {
        let entry = Entry {
            stage: Stage::Asked,
            since: now,
            test,
        };
        self.entries.insert(cookie, entry);
    }

    pub(super) fn remove(&mut self, cookie: &Cookie) -> Option<T> {
        self.entries.remove(cookie).map(|entry| entry.test)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.entries.drain().map(|(_, entry)| entry.test).collect()
    }

    /// A test has come to a stage; it never goes back.
    pub(super) fn advance(&mut self, cookie: &Cookie, stage: Stage, now: Instant) {
        if let Some(entry) = self.entries.get_mut(cookie)
            && entry.stage < stage
        {
            entry.stage = stage;
            entry.since = now;
        }
    }

    /// Marks a test as leaving, and gives it to be told so.
    pub(super) fn dismiss(&mut self, cookie: &Cookie) -> Option<&T> {
        let entry = self.entries.get_mut(cookie)?;
        entry.stage = Stage::Leaving;
        Some(&entry.test)
    }

    /// Whether another test may come in.
    pub(super) fn room(&self, now: Instant) -> Room {
        let count = |stage| self.entries.values().filter(|entry| entry.stage == stage).count();
        let asked = count(Stage::Asked);
        // Those that leave do so at once; only a flood could make many of them.
        let here = self.entries.len() - count(Stage::Leaving);
        if self.entries.len() >= self.most.saturating_add(self.most_asked) {
            return Room::None;
        }
        if asked >= self.most_asked && self.most_asked < self.most {
            return self.oldest(Stage::Asked).map_or(Room::None, Room::After);
        }
        if here < self.most {
            return Room::Here;
        }
        let stalled = |stage| {
            self.oldest(stage).filter(|cookie| {
                self.entries
                    .get(cookie)
                    .is_some_and(|entry| now.saturating_duration_since(entry.since) >= CROWDED)
            })
        };
        stalled(Stage::Asked)
            .or_else(|| stalled(Stage::Accepted))
            .map_or(Room::None, Room::After)
    }

    /// The test that has been longest at a stage.
    pub(super) fn oldest(&self, stage: Stage) -> Option<Cookie> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.stage == stage)
            .min_by_key(|(_, entry)| entry.since)
            .map(|(cookie, _)| *cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(letter: u8) -> Cookie {
        Cookie::from_random([letter; 36])
    }

    #[test]
    fn only_who_does_nothing_makes_room_and_the_oldest_first() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut roster = Roster::new(3, 10);
        for (letter, second) in [(1, 0), (2, 1), (3, 2)] {
            assert_eq!(roster.room(at(second)), Room::Here);
            roster.insert(cookie(letter), letter, at(second));
        }
        roster.advance(&cookie(1), Stage::Running, at(2));
        roster.advance(&cookie(2), Stage::Accepted, at(2));
        // The running one is never disturbed, the others have two seconds.
        assert_eq!(roster.room(at(3)), Room::None);
        assert_eq!(roster.room(at(4)), Room::After(cookie(3)));
        assert_eq!(roster.dismiss(&cookie(3)), Some(&3));
        assert_eq!(roster.room(at(4)), Room::Here);
        roster.insert(cookie(4), 4, at(4));
        assert_eq!(roster.room(at(4)), Room::After(cookie(2)));
        // A stage once reached is not lost by late news of an earlier one.
        roster.advance(&cookie(1), Stage::Accepted, at(5));
        assert_eq!(roster.oldest(Stage::Running), Some(cookie(1)));
        assert_eq!(roster.remove(&cookie(3)), Some(3));
        assert_eq!(roster.drain().len(), 3);
        assert!(roster.is_empty());
    }

    #[test]
    fn a_crowd_that_only_asks_is_bounded_and_a_flood_is_too() {
        let now = Instant::now();
        let mut roster = Roster::new(1000, 4);
        for letter in 0..4 {
            assert_eq!(roster.room(now), Room::Here);
            roster.insert(cookie(letter), (), now + Duration::from_millis(letter.into()));
        }
        assert_eq!(roster.room(now), Room::After(cookie(0)));
        let mut roster = Roster::new(2, 2);
        for letter in 0..4 {
            roster.insert(cookie(letter), (), now);
            roster.dismiss(&cookie(letter));
        }
        assert_eq!(roster.room(now), Room::None);
    }
}
