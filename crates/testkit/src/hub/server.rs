//! The server of the hub.

use super::answer::answer;
use super::fault::{Fault, acting};
use super::repository::Repository;
use super::request::Request;
use super::send::send;
use super::state::{Logged, State};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The first bytes of a client that expects TLS.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// The hub, which ends when it is dropped.
pub struct Hub {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    ended: AtomicBool,
    hub: SocketAddr,
    /// The address of large files.
    storage: SocketAddr,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Starts a hub with `repositories`.
    pub fn start(repositories: Vec<Repository>) -> Hub {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let (hub, storage) = (listen(), listen());
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State { repositories, ..State::default() }),
            ended: AtomicBool::new(false),
            hub: address(&hub),
            storage: address(&storage),
        });
        let serve = |listener: TcpListener| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || serve(&listener, &shared))
        };
        let listeners = vec![serve(hub), serve(storage)];
        Hub { shared, listeners }
    }

    /// Returns the value for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// Adds a token, with the names of the gated repositories that it may read.
    pub fn allow(&self, token: &str, repositories: &[&str]) {
        let repositories = repositories.iter().map(|name| (*name).to_owned()).collect();
        self.shared.state().tokens.push((token.to_owned(), repositories));
    }

    /// Adds a fault; of those that apply to a request the first happens.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Removes every fault.
    pub fn fix(&self) {
        self.shared.state().faults.clear();
    }

    /// Replaces the repository of the same name.
    pub fn replace(&self, repository: Repository) {
        let mut state = self.shared.state();
        state.repositories.retain(|other| other.name != repository.name);
        state.repositories.push(repository);
    }

    /// Returns the requests so far.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.state().log.clone()
    }

    /// Returns the bytes of bodies that were sent for requests whose target contains `part`.
    pub fn sent(&self, part: &str) -> u64 {
        let log = self.log();
        log.iter().filter(|logged| logged.target.contains(part)).map(|logged| logged.sent).sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for address in [self.shared.hub, self.shared.storage] {
            // wakes the listener, which may have ended already
            let _ = TcpStream::connect(address);
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // the client may close its connection at any time
        std::thread::spawn(move || {
            let _ = connection(stream, &shared);
        });
    }
}

fn connection(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let local = stream.local_addr()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
        if head == TLS_HANDSHAKE {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    }
    let request = Request::parse(&String::from_utf8_lossy(&head), local == shared.storage);
    let index = {
        let mut state = shared.state();
        state.log.push(Logged {
            method: request.method.clone(),
            target: request.target.clone(),
            range: request.header("range"),
            authorization: request.header("authorization"),
            sent: 0,
        });
        state.log.len() - 1
    };
    let (answer, action) = {
        let mut state = shared.state();
        let action = acting(&mut state.faults, &request);
        (answer(&state, &request, shared.storage), action)
    };
    let count = |bytes: u64| shared.state().log[index].sent += bytes;
    send(&mut stream, &request, answer, action.as_ref(), &count, &shared.ended)
}
