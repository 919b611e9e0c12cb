//! A hub on loopback: what huggingface.co answers, over real connections, with faults on demand.
//!
//! Large files are redirected, as there, to another address (a port of its own here), which must
//! never see a token. Every request is kept for the tests to look at. Connections end after one
//! answer, so that a fault hits one request alone.

mod answer;
mod fault;
mod repository;

pub use fault::{Action, Fault};
pub use repository::Repository;

use answer::Request;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What a client begins with that expects TLS here.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// A request that came, and what was sent for it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Range` that was asked for.
    pub range: Option<String>,
    /// The `Authorization` that came with it.
    pub authorization: Option<String>,
    /// Bytes of the body that were sent.
    pub sent: u64,
}

/// What a hub has and knows.
#[derive(Default)]
struct State {
    repositories: Vec<Repository>,
    /// Tokens that it knows, each with the repositories that it may read although they are gated.
    tokens: Vec<(String, Vec<String>)>,
    faults: Vec<Fault>,
    log: Vec<Logged>,
}

/// The hub; gone when it is dropped.
pub struct Hub {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    ended: AtomicBool,
    hub: SocketAddr,
    /// Where large files are.
    storage: SocketAddr,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// A hub with `repositories`.
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

    /// What `HF_ENDPOINT` is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// Lets `token` be one that the hub knows; gated repositories it may read by their names.
    pub fn allow(&self, token: &str, repositories: &[&str]) {
        let repositories = repositories.iter().map(|name| (*name).to_owned()).collect();
        self.shared.state().tokens.push((token.to_owned(), repositories));
    }

    /// Adds a fault; the first that fits a request and is not used up acts.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// Mends every fault.
    pub fn mend(&self) {
        self.shared.state().faults.clear();
    }

    /// Replaces the repository of the same name.
    pub fn replace(&self, repository: Repository) {
        let mut state = self.shared.state();
        state.repositories.retain(|other| other.name != repository.name);
        state.repositories.push(repository);
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.state().log.clone()
    }

    /// Bytes of bodies that were sent for requests whose target has `part` in it.
    pub fn sent(&self, part: &str) -> u64 {
        let log = self.log();
        log.iter().filter(|logged| logged.target.contains(part)).map(|logged| logged.sent).sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for address in [self.shared.hub, self.shared.storage] {
            // wakes the listener, which may be gone already
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
        // a connection that the other side gave up is no matter of ours
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
            return std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
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
        let action = fault::acting(&mut state.faults, &request);
        (answer::answer(&state, &request, shared.storage), action)
    };
    let count = |bytes: u64| shared.state().log[index].sent += bytes;
    fault::send(&mut stream, &request, answer, action.as_ref(), &count, &shared.ended)
}
