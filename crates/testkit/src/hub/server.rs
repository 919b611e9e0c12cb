//! The HTTP server of the hub.

use super::answer::answer;
use super::fault::{Fault, take_action};
use super::repository::Repository;
use super::request::Request;
use super::send::send;
use super::state::{LoggedRequest, State};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The first bytes that a client sends to start TLS.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// A running hub on loopback. It ends when it is dropped.
pub struct Hub {
    shared: Arc<SharedState>,
    listeners: Vec<JoinHandle<()>>,
}

/// The data that the threads of a hub share.
struct SharedState {
    state: Mutex<State>,
    ended: AtomicBool,
    /// The address of the API and of small files.
    hub: SocketAddr,
    /// The address of large files.
    storage: SocketAddr,
}

impl SharedState {
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
        let shared = Arc::new(SharedState {
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

    /// Returns the URL of the hub, which is the value for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// Adds a valid token, with the names of the gated repositories that it can read.
    pub fn allow(&self, token: &str, repositories: &[&str]) {
        let repositories = repositories.iter().map(|name| (*name).to_owned()).collect();
        self.shared.state().tokens.push((token.to_owned(), repositories));
    }

    /// Adds a fault. If several faults apply to a request, the one added first takes effect.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Replaces the repository that has the same name.
    pub fn replace(&self, repository: Repository) {
        let mut state = self.shared.state();
        state.repositories.retain(|other| other.name != repository.name);
        state.repositories.push(repository);
    }

    /// Returns all requests so far, in the order of their arrival.
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.shared.state().log.clone()
    }

    /// Returns the number of body bytes that were sent for requests whose target contains `part`.
    pub fn bytes_sent(&self, part: &str) -> u64 {
        let log = self.log();
        log.iter().filter(|logged| logged.target.contains(part)).map(|logged| logged.sent).sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for address in [self.shared.hub, self.shared.storage] {
            // a connection wakes the listener; it fails if the listener has already ended
            let _ = TcpStream::connect(address);
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<SharedState>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // errors are expected: the client may close its connection at any time
        std::thread::spawn(move || {
            let _ = connection(stream, &shared);
        });
    }
}

/// Reads one request from a connection, logs it and responds to it.
fn connection(mut stream: TcpStream, shared: &SharedState) -> std::io::Result<()> {
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
        state.log.push(LoggedRequest {
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
        let action = take_action(&mut state.faults, &request);
        (answer(&state, &request, shared.storage), action)
    };
    let count = |bytes: u64| shared.state().log[index].sent += bytes;
    send(&mut stream, &request, answer, action.as_ref(), &count, &shared.ended)
}
