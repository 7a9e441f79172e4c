//! Who could take an arrival of the open loop, and who takes the next.
//!
//! A session that has nothing to do goes first, so that load spreads over connections before it fills their windows.
//!
//! Invariant: a slot is in one list at most, at the place that is noted for it.

/// What a slot could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nothing now.
    Full,
    /// It has nothing to do.
    Idle,
    /// It has something in flight, and room for more in its window.
    Window,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Free {
    idle: Vec<usize>,
    window: Vec<usize>,
    /// Where each slot is.
    places: Vec<Option<(Room, usize)>>,
}

impl Free {
    /// The slot has this room from now on.
    pub(crate) fn set(&mut self, slot: usize, room: Room) {
        if self.places.len() <= slot {
            self.places.resize(slot + 1, None);
        }
        match self.places[slot] {
            Some((before, _)) if before == room => return,
            Some((before, place)) => {
                let Some(list) = self.list(before) else { return };
                list.swap_remove(place);
                if let Some(moved) = list.get(place).copied() {
                    self.places[moved] = Some((before, place));
                }
                self.places[slot] = None;
            }
            None => {}
        }
        let Some(list) = self.list(room) else { return };
        list.push(slot);
        self.places[slot] = Some((room, list.len() - 1));
    }

    /// The slot that is to have the next arrival; it is in no list then.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let slot = self.idle.pop().or_else(|| self.window.pop())?;
        self.places[slot] = None;
        Some(slot)
    }

    /// Slots that could take an arrival.
    pub(crate) fn len(&self) -> usize {
        self.idle.len() + self.window.len()
    }

    fn list(&mut self, room: Room) -> Option<&mut Vec<usize>> {
        match room {
            Room::Full => None,
            Room::Idle => Some(&mut self.idle),
            Room::Window => Some(&mut self.window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_slots_go_first_and_each_is_there_once() {
        let mut free = Free::default();
        for (slot, room) in
            [(0, Room::Idle), (1, Room::Window), (2, Room::Idle), (3, Room::Window), (2, Room::Idle)]
        {
            free.set(slot, room);
        }
        assert_eq!(free.len(), 4);
        free.set(0, Room::Full);
        free.set(1, Room::Idle);
        assert_eq!(free.len(), 3);
        let taken: Vec<usize> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(taken, [1, 2, 3], "the one with something in flight is last");
        free.set(2, Room::Window);
        assert_eq!((free.take(), free.take()), (Some(2), None));
    }
}
