//! The memory allocator of the worker process.

/// Makes all threads allocate from one arena of glibc.
///
/// By default, each thread has its own arena, and memory that a thread frees stays in its arena. The
/// evaluation of a model moves between the threads of a pool, so that several arenas keep the same
/// activations. The peak of a model of 135 million weights is then 5 % above its prediction on 2
/// cores and 29 % on 16 cores; with one arena, it is 1 % above it on 2 cores.
///
/// Has an effect only before the process starts a thread. Other allocators are not changed.
pub(super) fn use_one_arena() {
    #[cfg(target_env = "gnu")]
    {
        /// `M_ARENA_MAX` in `malloc.h` of glibc: the maximum number of arenas.
        const ARENA_MAX: std::ffi::c_int = -8;
        unsafe extern "C" {
            fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: the signature is that of glibc, and the function takes two numbers.
        let _ = unsafe { mallopt(ARENA_MAX, 1) };
    }
}
