//! The machine against a world that does what it is told late, fails at times, and forgets what
//! was under way when the daemon restarts.

use proptest::prelude::*;

use super::*;

/// A world in which effects are carried out when the test says so.
#[derive(Debug)]
struct World {
    state: State,
    pending: Vec<Effect>,
    /// What the unit does, whatever the machine believes.
    unit: Unit,
    queue: u32,
    /// The last status that was stored.
    stored: Status,
    snapshots: u32,
    folder: bool,
    /// What the session was before it was resumed, until its sandbox is up.
    resumed: Option<Status>,
    /// Whether an upload broke off and the workspace was not brought back.
    half: bool,
    /// Whether somebody wants in, who wants the next sandbox if one is put away.
    visited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Gone,
    Runs,
    Frozen,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Ask(Verb),
    Message,
    /// Carries out the oldest effect that waits, well or not.
    Carry(bool),
    TurnEnds,
    OwnTurn,
    Visit,
    Leaves,
    Dies,
    Idle(bool),
    Expires,
    Restart,
    HostStops,
    HostPresses,
}

impl World {
    fn new() -> Self {
        let state = State::found(Status::Active, false);
        Self {
            state,
            pending: Vec::new(),
            unit: Unit::Gone,
            queue: 0,
            stored: Status::Active,
            snapshots: 0,
            folder: true,
            resumed: None,
            half: false,
            visited: false,
        }
    }

    fn step(&mut self, input: Input) {
        for effect in self.state.step(input) {
            match effect {
                Effect::Store(status) => self.stored = status,
                Effect::Begin => {
                    let may = self.state.status == Status::Active && !self.state.closing && !self.half;
                    let good = may && self.unit == Unit::Runs && self.queue > 0;
                    assert!(good && self.state.change.is_none() && !self.state.busy, "{self:?}");
                    self.queue -= 1;
                    self.step(Input::TurnBegan);
                    if self.queue == 0 {
                        self.step(Input::Emptied);
                    }
                }
                Effect::Leave { remove } => {
                    assert!(!remove || self.snapshots > 0, "the folder goes only where a snapshot takes its place");
                    (self.unit, self.folder, self.half) = (Unit::Gone, !remove, false);
                    self.want_again();
                }
                Effect::Rewind => {
                    assert!(self.snapshots > 0, "how it was would be lost");
                    // Nobody is connected to it any more.
                    self.unit = Unit::Gone;
                    self.pending.push(effect);
                    self.want_again();
                }
                Effect::Open => {
                    assert!(!self.pending.contains(&Effect::Rewind), "it would go on in its folder: {self:?}");
                    self.pending.push(effect);
                }
                Effect::Done { change, packed } => {
                    // On the way down of the host the next change follows at once.
                    let next = self.state.change.map(|(next, _)| next);
                    assert!(next.is_none() || (self.state.closing && next == Some(Change::Shutdown)), "{change:?} {packed}");
                }
                other => self.pending.push(other),
            }
        }
    }

    fn want_again(&mut self) {
        if self.visited && !self.state.closing {
            self.step(Input::GuestCame);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Message => {
                if admit(&self.state, Verb::Message) == Admission::Accept {
                    self.queue += 1;
                    self.step(Input::Queued);
                }
            }
            Act::Ask(verb) => {
                if admit(&self.state, verb) == Admission::Accept {
                    match verb {
                        Verb::Pause => self.step(Input::Begin(Change::Pause)),
                        Verb::Stop => self.step(Input::Begin(Change::Stop)),
                        Verb::Snapshot => self.step(Input::Begin(Change::Snapshot)),
                        Verb::Rewind => self.step(Input::Begin(Change::Rewind)),
                        Verb::Upload => self.step(Input::Begin(Change::Upload)),
                        Verb::Resume => {
                            let was = self.state.status;
                            self.step(Input::Resume);
                            self.step(Input::Wanted);
                            self.resumed = (self.state.sandbox == Sandbox::Opening).then_some(was);
                        }
                        Verb::End => self.step(Input::Ended),
                        Verb::Message => {}
                    }
                }
            }
            Act::Carry(well) => {
                if !self.pending.is_empty() {
                    let effect = self.pending.remove(0);
                    self.carry(effect, well);
                }
            }
            Act::TurnEnds if self.state.busy => self.step(Input::TurnsEnded),
            Act::OwnTurn if self.unit == Unit::Runs && self.state.sandbox == Sandbox::Up => {
                // Also while it is packed; but no runtime runs while its files are put under it.
                if !matches!(self.state.change, Some((_, Stage::Fill | Stage::Save))) {
                    self.step(Input::TurnBegan);
                }
            }
            Act::Visit if self.state.status != Status::Ended => {
                self.visited = true;
                self.step(Input::GuestCame);
            }
            Act::Leaves => {
                self.visited = false;
                self.step(Input::GuestsLeft);
            }
            Act::Dies if self.unit != Unit::Gone => {
                self.unit = Unit::Gone;
                // The shim knows that the workspace is not whole.
                self.half = false;
                // What was asked of it comes to nothing.
                self.pending.retain(|effect| *effect == Effect::Open);
                if self.state.sandbox != Sandbox::Opening {
                    self.resumed = None;
                    self.step(Input::Lost);
                }
            }
            Act::HostStops => self.step(Input::HostStops),
            Act::HostPresses => self.step(Input::HostPresses),
            Act::Idle(long) => self.step(if long { Input::IdleLong } else { Input::Idle }),
            Act::Expires if self.state.change.is_none() => self.step(Input::Begin(Change::Expire)),
            Act::Restart if self.state.status != Status::Ended => {
                self.pending.clear();
                self.resumed = None;
                let busy = self.state.busy && self.unit != Unit::Gone;
                self.queue += u32::from(self.state.busy && !busy);
                self.state = State { status: self.stored, ..self.state }.after_restart();
                if self.unit != Unit::Gone {
                    // Connecting to it brings back what an upload left half done.
                    (self.unit, self.half) = (Unit::Runs, false);
                    self.state.busy = busy;
                    self.state.waiting = self.queue > 0;
                    self.step(Input::Opened);
                }
            }
            Act::TurnEnds | Act::OwnTurn | Act::Visit | Act::Dies | Act::Expires | Act::Restart => {}
        }
    }

    fn carry(&mut self, effect: Effect, well: bool) {
        match effect {
            Effect::Open => {
                if well {
                    (self.unit, self.folder, self.half) = (Unit::Runs, true, false);
                } else {
                    // What runs and can not be spoken to is killed.
                    self.unit = Unit::Gone;
                }
                match self.resumed.take().filter(|_| self.state.status == Status::Active) {
                    Some(was) if !well => {
                        self.stored = was;
                        self.step(Input::NotResumed(was));
                    }
                    _ => self.step(if well { Input::Opened } else { Input::NotOpened }),
                }
            }
            Effect::Freeze => {
                if well {
                    self.unit = Unit::Frozen;
                }
                self.step(Input::Froze(well));
            }
            Effect::Thaw => {
                if well {
                    self.unit = Unit::Runs;
                }
                self.step(Input::Thawed(well));
            }
            Effect::Interrupt => self.step(Input::TurnsEnded),
            Effect::Pack(_) => {
                assert!(self.unit == Unit::Runs, "{self:?}");
                self.snapshots += u32::from(well);
                self.step(Input::Packed(well));
            }
            Effect::Fill => {
                assert!(self.unit == Unit::Runs && !self.state.busy && self.snapshots > 0, "{self:?}");
                self.half = !well;
                if !well && !matches!(self.state.status, Status::Ended | Status::Stopped) {
                    // Its connection is opened anew, at which the snapshot is restored. A stopped one
                    // has no processes after it.
                    self.state.sandbox = Sandbox::Opening;
                    self.pending.push(Effect::Open);
                }
                self.step(Input::Filled(well));
            }
            Effect::Rewind => {
                self.folder &= !well;
                self.step(Input::Returned);
            }
            Effect::Leave { .. } | Effect::Store(_) | Effect::Done { .. } | Effect::Begin => {}
        }
    }

    /// Everything works from here on, and every turn comes to its end.
    fn settle(&mut self) {
        self.act(Act::Leaves);
        for _ in 0..200 {
            self.act(if self.pending.is_empty() { Act::TurnEnds } else { Act::Carry(true) });
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let verb = prop_oneof![
        Just(Verb::Pause),
        Just(Verb::Stop),
        Just(Verb::Resume),
        Just(Verb::Snapshot),
        Just(Verb::Rewind),
        Just(Verb::Upload),
    ];
    prop_oneof![
        4 => verb.prop_map(Act::Ask),
        1 => Just(Act::Ask(Verb::End)),
        6 => Just(Act::Message),
        12 => any::<bool>().prop_map(Act::Carry),
        6 => Just(Act::TurnEnds),
        1 => Just(Act::OwnTurn),
        2 => Just(Act::Dies),
        2 => Just(Act::Visit),
        2 => Just(Act::Leaves),
        4 => any::<bool>().prop_map(Act::Idle),
        2 => Just(Act::Restart),
        1 => Just(Act::Expires),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_it_comes_to_rest_and_takes_messages_again(acts in proptest::collection::vec(act(), 0..60)) {
        let mut world = World::new();
        for act in acts {
            let before = world.state;
            world.act(act);
            prop_assert!(before.status != Status::Ended || world.state == before, "over is over");
            prop_assert_eq!(world.stored, if world.state.status == Status::Ended { world.stored } else { world.state.status });
        }
        world.settle();
        prop_assert_eq!(world.state.change, None, "{:?}", world);
        if world.state.status == Status::Ended {
            return Ok(());
        }
        if world.state.status != Status::Active {
            world.act(Act::Ask(Verb::Resume));
        }
        world.act(Act::Message);
        world.settle();
        prop_assert_eq!((world.queue, world.state.status), (0, Status::Active), "{:?}", world);
        prop_assert!(!world.state.waiting && !world.state.busy);
    }

    #[test]
    fn what_is_paused_or_stopped_holds_no_processor(acts in proptest::collection::vec(act(), 0..40), stop: bool) {
        let mut world = World::new();
        acts.into_iter().for_each(|act| world.act(act));
        world.settle();
        if world.state.status != Status::Active {
            return Ok(());
        }
        world.act(Act::Ask(if stop { Verb::Stop } else { Verb::Pause }));
        world.settle();
        let status = if stop { Status::Stopped } else { Status::Paused };
        prop_assert_eq!((world.state.status, world.stored), (status, status));
        prop_assert!(world.unit == Unit::Gone || (!stop && world.unit == Unit::Frozen), "{:?}", world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_host_that_goes_down_leaves_no_processes_begins_no_turn_and_loses_none(
        before in proptest::collection::vec(act(), 0..40),
        meanwhile in proptest::collection::vec(act().prop_filter("the daemon ends", |act| !matches!(act, Act::Restart)), 0..20),
        presses: bool,
    ) {
        let mut world = World::new();
        before.into_iter().for_each(|act| world.act(act));
        if world.state.status == Status::Ended {
            return Ok(());
        }
        world.act(Act::HostStops);
        let mut queue = world.queue;
        for act in meanwhile {
            queue += u32::from(matches!(act, Act::Message) && admit(&world.state, Verb::Message) == Admission::Accept);
            world.act(act);
        }
        if presses {
            world.act(Act::HostPresses);
            // A turn that ran is interrupted, so nothing is waited for but what the machine asked for.
            while !world.pending.is_empty() {
                world.act(Act::Carry(true));
            }
        } else {
            world.settle();
        }
        prop_assert_eq!(world.queue, queue, "no turn began");
        if world.state.status == Status::Ended {
            return Ok(());
        }
        prop_assert!(world.state.is_put_away() && world.unit == Unit::Gone, "{:?}", world);

        // The next boot takes the session up as it is stored.
        world.act(Act::Restart);
        if world.state.status != Status::Active {
            world.act(Act::Ask(Verb::Resume));
        }
        world.act(Act::Message);
        world.settle();
        prop_assert_eq!((world.queue, world.state.status), (0, Status::Active), "{:?}", world);
    }
}

#[test]
fn a_turn_may_end_by_itself_while_the_host_goes_down() {
    let mut state = State { sandbox: Sandbox::Up, busy: true, waiting: true, ..State::found(Status::Active, true) };
    assert_eq!(state.step(Input::HostStops), [], "it is waited for");
    assert_eq!(state.step(Input::TurnsEnded), [Effect::Pack(Change::Shutdown)], "the next one waits for the next boot");
    let done = Effect::Done { change: Change::Shutdown, packed: true };
    assert_eq!(state.step(Input::Packed(true)), [Effect::Leave { remove: true }, done]);
    assert!(state.is_put_away());

    let mut state = State { sandbox: Sandbox::Up, busy: true, ..State::found(Status::Active, false) };
    state.step(Input::HostStops);
    assert_eq!(state.step(Input::HostPresses), [Effect::Interrupt]);
    state.step(Input::TurnsEnded);
    let done = Effect::Done { change: Change::Shutdown, packed: false };
    assert_eq!(state.step(Input::Packed(false)), [Effect::Leave { remove: false }, done], "the folder stays");
}

#[test]
fn requests_are_admitted_by_status() {
    let at = |status| State::found(status, false);
    let cases = [
        (Status::Active, Verb::Pause, Admission::Accept),
        (Status::Paused, Verb::Pause, Admission::Deny(Status::Paused)),
        (Status::Paused, Verb::Stop, Admission::Deny(Status::Paused)),
        (Status::Stopped, Verb::Resume, Admission::Accept),
        (Status::Active, Verb::Resume, Admission::Already),
        (Status::Ended, Verb::Resume, Admission::Deny(Status::Ended)),
        (Status::Ended, Verb::End, Admission::Already),
        (Status::Paused, Verb::Message, Admission::Deny(Status::Paused)),
        (Status::Error, Verb::Resume, Admission::Accept),
        (Status::Starting, Verb::Snapshot, Admission::Deny(Status::Starting)),
        (Status::Stopped, Verb::Rewind, Admission::Accept),
        (Status::Ended, Verb::Rewind, Admission::Deny(Status::Ended)),
    ];
    for (status, verb, admission) in cases {
        assert_eq!(admit(&at(status), verb), admission, "{status:?} {verb:?}");
    }
    let changing = State { change: Some((Change::Park, Stage::Pack)), ..at(Status::Active) };
    assert_eq!(admit(&changing, Verb::Pause), Admission::Wait);
    assert_eq!(admit(&changing, Verb::Message), Admission::Accept, "it waits in the queue");
}

#[test]
fn a_message_to_a_parked_session_brings_it_back_and_one_during_parking_keeps_it() {
    let mut state = State { sandbox: Sandbox::Frozen, ..State::found(Status::Active, false) };
    assert_eq!(state.step(Input::IdleLong), [Effect::Thaw]);
    assert_eq!(state.step(Input::Thawed(true)), [Effect::Pack(Change::Park)]);
    assert_eq!(state.step(Input::Queued), []);
    let done = Effect::Done { change: Change::Park, packed: true };
    assert_eq!(state.step(Input::Packed(true)), [Effect::Begin, done], "the processes stay");

    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    assert_eq!(state.step(Input::IdleLong), [Effect::Pack(Change::Park)]);
    state.step(Input::GuestCame);
    assert_eq!(state.step(Input::Packed(true)), [done], "also for a guest");
    assert_eq!(state.step(Input::GuestsLeft), []);

    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    state.step(Input::IdleLong);
    assert_eq!(state.step(Input::Packed(true)), [Effect::Leave { remove: true }, done]);
    assert_eq!(state.step(Input::Queued), [Effect::Open]);
    assert_eq!(state.step(Input::Opened), [Effect::Begin]);
}

#[test]
fn an_upload_packs_what_was_then_fills_and_where_nobody_works_packs_again() {
    let done = Effect::Done { change: Change::Upload, packed: false };
    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    assert_eq!(state.step(Input::Begin(Change::Upload)), [Effect::Pack(Change::Upload)]);
    assert_eq!(state.step(Input::Queued), [], "a turn waits for it");
    assert_eq!(state.step(Input::Packed(true)), [Effect::Fill]);
    assert_eq!(state.step(Input::Filled(true)), [Effect::Begin, done]);

    let mut state = State::found(Status::Stopped, false);
    assert_eq!(state.step(Input::Begin(Change::Upload)), [Effect::Open]);
    assert_eq!(state.step(Input::Opened), [Effect::Pack(Change::Upload)]);
    assert_eq!(state.step(Input::Packed(true)), [Effect::Fill]);
    assert_eq!(state.step(Input::Filled(true)), [Effect::Pack(Change::Upload)]);
    let packed = Effect::Done { change: Change::Upload, packed: true };
    assert_eq!(state.step(Input::Packed(true)), [Effect::Leave { remove: true }, packed]);

    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    state.step(Input::Begin(Change::Upload));
    assert_eq!(state.step(Input::Packed(false)), [done], "without a way back nothing is touched");
}

#[test]
fn a_way_back_packs_what_was_and_whatever_comes_meanwhile_waits() {
    let done = Effect::Done { change: Change::Rewind, packed: true };
    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    assert_eq!(state.step(Input::Begin(Change::Rewind)), [Effect::Pack(Change::Rewind)]);
    assert_eq!(state.step(Input::Packed(true)), [Effect::Rewind]);
    assert_eq!(admit(&state, Verb::Message), Admission::Accept);
    assert_eq!(state.step(Input::Queued), [], "its folder may still be there");
    assert_eq!(state.step(Input::GuestCame), []);
    assert_eq!(admit(&state, Verb::Rewind), Admission::Wait);
    assert_eq!(state.step(Input::Returned), [Effect::Open, done]);

    let mut state = State { sandbox: Sandbox::Up, ..State::found(Status::Active, false) };
    state.step(Input::Begin(Change::Rewind));
    let done = Effect::Done { change: Change::Rewind, packed: false };
    assert_eq!(state.step(Input::Packed(false)), [done], "without a snapshot of how it is nothing is touched");
    assert_eq!(state.sandbox, Sandbox::Up);
}

#[test]
fn a_guest_wakes_a_session_and_it_rests_again_when_the_last_has_left() {
    let mut state = State { sandbox: Sandbox::Frozen, ..State::found(Status::Paused, false) };
    assert_eq!(state.step(Input::GuestCame), [Effect::Thaw]);
    assert_eq!(state.step(Input::Thawed(true)), []);
    assert_eq!(state.step(Input::Idle), []);
    assert_eq!(state.step(Input::GuestsLeft), [Effect::Freeze]);

    let mut state = State::found(Status::Stopped, false);
    assert_eq!(state.step(Input::GuestCame), [Effect::Open]);
    assert_eq!(state.step(Input::NotOpened), [], "it is not tried for ever");
    assert_eq!((state.sandbox, state.guests), (Sandbox::Cold, false));
}
