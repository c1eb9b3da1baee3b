//! The connections of one reactor, by slot.

use std::net::SocketAddr;

use crate::ids::ConnId;

use super::connection::Connection;

/// The table. A slot's tenants are counted, so that a `ConnId` never names two connections.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    count: usize,
}

#[derive(Debug, Default)]
struct Slot {
    tenant: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// Puts a new connection in a vacant slot.
    pub fn add(&mut self, address: SocketAddr, now_ms: u64) -> ConnId {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.tenant = slot.tenant.wrapping_add(1);
        let id = ConnId { slot: index, tenant: slot.tenant };
        slot.connection = Some(Connection::new(id, address, now_ms));
        self.count += 1;
        id
    }

    /// Takes the connection out; the slot is vacant.
    ///
    /// # Panics
    /// When the slot is vacant.
    pub fn remove(&mut self, slot: u32) -> Connection {
        let connection = self.slots[slot as usize].connection.take();
        self.vacant.push(slot);
        self.count -= 1;
        connection.unwrap_or_else(|| panic!("slot {slot} is vacant"))
    }

    /// The connection in `slot`.
    ///
    /// # Panics
    /// When the slot is vacant.
    #[inline]
    pub fn at(&mut self, slot: u32) -> &mut Connection {
        match &mut self.slots[slot as usize].connection {
            Some(connection) => connection,
            None => panic!("slot {slot} is vacant"),
        }
    }

    /// The connection in `slot`, if there is one.
    pub fn find(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.connection.as_mut()
    }

    /// The connection with this id, if it is still there and not on its way out.
    #[inline]
    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(id.slot as usize)?.connection.as_mut()?;
        (connection.id == id && !connection.is_leaving()).then_some(connection)
    }

    /// Connections, those on their way out included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Slots that are or were taken.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// All connections.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    /// All connections.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut())
    }
}
