//! Places for those who have not shown yet who they are: limited in all and for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts places, in all and per address.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the room; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    address: IpAddr,
}

impl Room {
    /// A room of `most` places, of which `most_per_address` (0: all) may be taken by one address. Loopback has no limit
    /// of its own: a proxy may be there.
    pub(crate) fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            most,
            most_per_address,
            taken: Mutex::default(),
        }
    }

    /// Takes a place; `None` if there is none for this address.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        let is_limited = self.most_per_address > 0 && !address.is_loopback();
        if taken.total >= self.most || (is_limited && own >= self.most_per_address) {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, own + 1);
        Some(Place {
            room: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_address() {
        let room = Arc::new(Room::new(3, 1));
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        let first = room.enter(far).unwrap();
        assert!(
            room.enter("::ffff:192.0.2.1".parse().unwrap()).is_none(),
            "one address, however it is written"
        );
        let _second = room.enter(near).unwrap();
        let _third = room.enter(near).unwrap();
        assert!(room.enter("192.0.2.2".parse().unwrap()).is_none());
        drop(first);
        assert!(room.enter("192.0.2.2".parse().unwrap()).is_some());
        assert_eq!(
            room.taken.lock().unwrap().by_address.len(),
            1,
            "nothing is kept of who left"
        );
    }
}
